//! `torch.optim.RMSprop(net.parameters(), lr, alpha, eps, weight_decay, momentum, centered)`.

use super::{Optimizer, named, parameters, scalar, step_on_gpu, zeros_like};
use crate::libtorch::parameters::Parameter;
use crate::libtorch::rmsprop::{self, Options, STATE};
use crate::model::Net;
use crate::settings::OptimizerSettings;
use anyhow::Result;
use tch::{Device, Tensor};

/// RMSprop.
pub(super) struct RmsProp {
    parameters: Vec<Parameter<4>>,
    options: Options,
    device: Device,
}

impl RmsProp {
    pub(super) fn new(net: &Net, settings: &OptimizerSettings) -> Result<RmsProp> {
        let OptimizerSettings { alpha, eps, momentum, centered, .. } = *settings;
        let state = |tensor: &Tensor| {
            let zeros = |needed| zeros_like(tensor, needed);
            Ok([scalar(0.0, tensor.device())?, zeros(true)?, zeros(momentum > 0.0)?, zeros(centered)?])
        };
        Ok(RmsProp {
            parameters: parameters(net, settings, state)?,
            options: Options { alpha, eps, momentum },
            device: net.device(),
        })
    }
}

impl Optimizer for RmsProp {
    fn step(&mut self, lr: f64) -> Result<()> {
        match self.device {
            Device::Cpu => rmsprop::step(&mut self.parameters, lr, &self.options),
            device => step_on_gpu(self, lr, device),
        }
    }

    fn static_step(&mut self, lr: &Tensor) -> Result<()> {
        rmsprop::static_step(&mut self.parameters, lr, &self.options)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        named(&self.parameters, STATE)
    }
}
