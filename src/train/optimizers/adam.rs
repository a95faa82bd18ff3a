//! `torch.optim.Adam(net.parameters(), lr, betas, eps, weight_decay, amsgrad)`, and AdamW with the same arguments.

use super::{Optimizer, named, parameters, scalar, step_on_gpu, zeros_like};
use crate::libtorch::adam::{self, Options, STATE};
use crate::libtorch::parameters::Parameter;
use crate::model::Net;
use crate::settings::{OptimizerKind, OptimizerSettings};
use anyhow::Result;
use tch::{Device, Tensor};

/// Adam or AdamW.
pub(super) struct Adam {
    parameters: Vec<Parameter<4>>,
    options: Options,
    device: Device,
}

impl Adam {
    pub(super) fn new(net: &Net, settings: &OptimizerSettings) -> Result<Adam> {
        let OptimizerSettings { optimizer, betas, eps, amsgrad, .. } = *settings;
        let state = |tensor: &Tensor| {
            let zeros = |needed| zeros_like(tensor, needed);
            Ok([scalar(0.0, tensor.device())?, zeros(true)?, zeros(true)?, zeros(amsgrad)?])
        };
        let decoupled_weight_decay = optimizer == OptimizerKind::AdamW;
        Ok(Adam {
            parameters: parameters(net, settings, state)?,
            options: Options { beta1: betas.0, beta2: betas.1, eps, decoupled_weight_decay },
            device: net.device(),
        })
    }
}

impl Optimizer for Adam {
    fn step(&mut self, lr: f64) -> Result<()> {
        match self.device {
            Device::Cpu => adam::step(&mut self.parameters, lr, &self.options),
            device => step_on_gpu(self, lr, device),
        }
    }

    fn static_step(&mut self, lr: &Tensor) -> Result<()> {
        adam::static_step(&mut self.parameters, lr, &self.options)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        named(&self.parameters, STATE)
    }
}
