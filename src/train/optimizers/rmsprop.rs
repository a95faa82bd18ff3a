//! `torch.optim.RMSprop(net.parameters(), lr, alpha, eps, weight_decay, momentum, centered)`.

use super::parameters::{Parameters, zero, zeros_like};
use super::{Optimizer, Rate};
use crate::libtorch::foreach;
use crate::model::Net;
use crate::settings::OptimizerSettings;
use anyhow::Result;
use tch::Tensor;

/// RMSprop.
pub(super) struct RmsProp {
    parameters: Parameters<4>,
    alpha: f64,
    eps: f64,
    momentum: f64,
    centered: bool,
}

impl RmsProp {
    pub(super) fn new(net: &Net, settings: &OptimizerSettings) -> Result<RmsProp> {
        let OptimizerSettings { alpha, eps, momentum, centered, .. } = *settings;
        let names = ["step", "square_avg", "momentum_buffer", "grad_avg"];
        let parameters = Parameters::new(net, settings, names, |tensor| {
            let zeros = |needed| zeros_like(tensor, needed);
            Ok([zero(tensor.device())?, zeros(true)?, zeros(momentum > 0.0)?, zeros(centered)?])
        })?;
        Ok(RmsProp { parameters, alpha, eps, momentum, centered })
    }
}

impl Optimizer for RmsProp {
    fn step(&mut self, lr: &Rate) -> Result<()> {
        let mut lists = self.parameters.with_gradients();
        lists.add_weight_decay(self.parameters.weight_decay)?;
        let (params, grads) = (&lists.params, &lists.grads);
        let [steps, square_avgs, momentum_buffers, grad_avgs] = &lists.state;
        foreach::add_(steps, 1.0)?;
        foreach::mul_(square_avgs, self.alpha)?;
        foreach::addcmul_(square_avgs, grads, grads, 1.0 - self.alpha)?;
        let avgs = if self.centered {
            foreach::lerp_(grad_avgs, grads, 1.0 - self.alpha)?;
            let avgs = foreach::addcmul(square_avgs, grad_avgs, grad_avgs, -1.0)?;
            foreach::sqrt_(&avgs)?;
            avgs
        } else {
            foreach::sqrt(square_avgs)?
        };
        foreach::add_(&avgs, self.eps)?;
        if self.momentum == 0.0 {
            return lr.subtract_quotients(params, grads, &avgs);
        }
        foreach::mul_(momentum_buffers, self.momentum)?;
        foreach::addcdiv_(momentum_buffers, grads, &avgs, 1.0)?;
        lr.subtract(params, momentum_buffers)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.parameters.state()
    }
}
