//! `torch.optim.SGD(net.parameters(), lr, momentum, dampening, weight_decay, nesterov)`.

use super::{Optimizer, named, parameters, scalar, zeros_like};
use crate::libtorch::parameters::Parameter;
use crate::libtorch::sgd::{self, Options, STATE};
use crate::model::Net;
use crate::settings::OptimizerSettings;
use anyhow::Result;
use tch::Tensor;

/// SGD.
pub(super) struct Sgd {
    parameters: Vec<Parameter<2>>,
    options: Options,
}

impl Sgd {
    pub(super) fn new(net: &Net, settings: &OptimizerSettings) -> Result<Sgd> {
        let OptimizerSettings { momentum, dampening, nesterov, .. } = *settings;
        let state = |tensor: &Tensor| {
            let counts = momentum > 0.0 && dampening > 0.0;
            let step = if counts { scalar(0.0, tensor.device())? } else { Tensor::new() };
            Ok([zeros_like(tensor, momentum > 0.0)?, step])
        };
        Ok(Sgd { parameters: parameters(net, settings, state)?, options: Options { momentum, dampening, nesterov } })
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, lr: f64) -> Result<()> {
        sgd::step(&mut self.parameters, lr, &self.options)
    }

    fn static_step(&mut self, lr: &Tensor) -> Result<()> {
        sgd::static_step(&mut self.parameters, lr, &self.options)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        named(&self.parameters, STATE)
    }
}
