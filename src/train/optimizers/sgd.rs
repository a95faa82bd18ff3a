//! `torch.optim.SGD(net.parameters(), lr, momentum, dampening, weight_decay, nesterov)`.

use super::parameters::{Parameters, zero, zeros_like};
use super::{Optimizer, Rate};
use crate::libtorch::foreach;
use crate::model::Net;
use crate::settings::OptimizerSettings;
use anyhow::Result;
use tch::Tensor;

/// SGD.
pub(super) struct Sgd {
    /// The momentum buffer begins as zeros. Steps are counted for dampening alone.
    parameters: Parameters<2>,
    momentum: f64,
    dampening: f64,
    nesterov: bool,
}

impl Sgd {
    pub(super) fn new(net: &Net, settings: &OptimizerSettings) -> Result<Sgd> {
        let OptimizerSettings { momentum, dampening, nesterov, .. } = *settings;
        let counts = momentum > 0.0 && dampening > 0.0;
        let parameters = Parameters::new(net, settings, ["momentum_buffer", "step"], |tensor| {
            let step = if counts { zero(tensor.device())? } else { Tensor::new() };
            Ok([zeros_like(tensor, momentum > 0.0)?, step])
        })?;
        Ok(Sgd { parameters, momentum, dampening, nesterov })
    }

    /// `buf.add_(grad, alpha=1 - dampening)`, and at the first step `buf.add_(grad)`: PyTorch's first buffer is a copy of
    /// the gradient. All parameters have made as many steps as the first one, for a sequential net has no branches.
    fn add_dampened(&self, bufs: &[&Tensor], grads: &[Tensor], steps: &[&Tensor], lr: &Rate) -> Result<()> {
        let Some(step) = steps.first().filter(|_| self.dampening > 0.0) else {
            return foreach::add_scaled_(bufs, grads, 1.0);
        };
        match lr {
            Rate::Host(_) => {
                let share = if f64::try_from(*step)? == 0.0 { 1.0 } else { 1.0 - self.dampening };
                foreach::add_scaled_(bufs, grads, share)?;
            }
            Rate::Device(_) => {
                let share = step.f_clamp_max(1.0)?.f_mul_scalar(-self.dampening)?.f_add_scalar(1.0)?;
                foreach::add_(bufs, &foreach::mul(grads, &share)?)?;
            }
        }
        foreach::add_(steps, 1.0)
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, lr: &Rate) -> Result<()> {
        let mut lists = self.parameters.with_gradients();
        lists.add_weight_decay(self.parameters.weight_decay)?;
        let (params, grads, [bufs, steps]) = (&lists.params, &lists.grads, &lists.state);
        if self.momentum == 0.0 {
            return lr.subtract(params, grads);
        }
        foreach::mul_(bufs, self.momentum)?;
        self.add_dampened(bufs, grads, steps, lr)?;
        if self.nesterov {
            lr.subtract(params, &foreach::add_scaled(grads, bufs, self.momentum)?)
        } else {
            lr.subtract(params, bufs)
        }
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.parameters.state()
    }
}
