//! Optimizers of `torch.optim`: one file each, behind [`Optimizer`].

mod sgd;

use crate::model::Net;
use crate::settings::OptimizerSettings;
use anyhow::Result;
use tch::Tensor;

/// What changes a net's parameters once their gradients are known.
pub(crate) trait Optimizer {
    /// `step()` with the learning rate `lr`, then `zero_grad()`.
    fn step(&mut self, lr: f64) -> Result<()>;

    /// The same with the learning rate in device memory, `lr` (a float32 scalar). Nothing in it comes from the host, so
    /// that a CUDA graph may hold it; no tensor of [`Optimizer::state`] moves.
    fn static_step(&mut self, lr: &Tensor) -> Result<()>;

    /// Every tensor that a step changes beside the parameters, under its name in a checkpoint, such as
    /// `momentum_buffer.convblock1.0.weight`. The tensors share the optimizer's memory.
    fn state(&self) -> Vec<(String, Tensor)>;
}

/// The optimizer of `settings` over the parameters of `net`, before its first step.
pub(crate) fn of(net: &Net, settings: &OptimizerSettings) -> Result<Box<dyn Optimizer>> {
    Ok(Box::new(sgd::Sgd::new(net, settings)?))
}
