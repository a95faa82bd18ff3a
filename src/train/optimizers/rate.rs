//! The learning rate of a step.

use crate::libtorch::foreach::{self, AsTensor};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// A learning rate, on the host or in the memory of the parameters.
#[derive(Debug)]
pub(crate) enum Rate {
    /// Steps on a CPU take it. They round as `torch.optim` does there by default, so that every bit is PyTorch's.
    Host(f64),
    /// A float32 scalar. Nothing in the step comes from the host, so that a replay of a CUDA graph reads its present
    /// value, and the parameters take few kernels together. The last bits may differ from those above.
    Device(Tensor),
}

impl Rate {
    /// `params -= lr * updates`
    pub(super) fn subtract(&self, params: &[impl AsTensor], updates: &[impl AsTensor]) -> Result<()> {
        match self {
            Rate::Host(lr) => foreach::add_scaled_(params, updates, -lr),
            Rate::Device(lr) => foreach::fused_sgd_(params, updates, lr),
        }
    }

    /// `params -= lr * numerators / denominators`
    pub(super) fn subtract_quotients(
        &self,
        params: &[impl AsTensor],
        numerators: &[impl AsTensor],
        denominators: &Vec<Tensor>,
    ) -> Result<()> {
        match self {
            Rate::Host(lr) => foreach::addcdiv_(params, numerators, denominators, -lr),
            Rate::Device(lr) => foreach::fused_sgd_(params, &foreach::div(numerators, denominators)?, lr),
        }
    }

    /// It as a float32 scalar on `device`.
    pub(super) fn tensor(&self, device: Device) -> Result<Tensor> {
        match self {
            Rate::Host(lr) => Ok(Tensor::f_full([0i64; 0], *lr, (Kind::Float, device))?),
            Rate::Device(lr) => Ok(lr.shallow_clone()),
        }
    }
}
