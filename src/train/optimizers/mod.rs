//! Optimizers of `torch.optim`: one file each, behind [`Optimizer`].

mod adam;
mod rmsprop;
mod sgd;

use crate::libtorch::parameters::Parameter;
use crate::model::Net;
use crate::settings::{OptimizerKind, OptimizerSettings};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

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
    Ok(match settings.optimizer {
        OptimizerKind::Sgd => Box::new(sgd::Sgd::new(net, settings)?),
        OptimizerKind::Adam | OptimizerKind::AdamW => Box::new(adam::Adam::new(net, settings)?),
        OptimizerKind::RmsProp => Box::new(rmsprop::RmsProp::new(net, settings)?),
    })
}

/// The parameters of `net`, each with the tensors that `state` makes for it. With `weight_decay_norm` false, BatchNorm's are a
/// parameter group of their own without weight decay.
fn parameters<const N: usize>(
    net: &Net,
    settings: &OptimizerSettings,
    state: impl Fn(&Tensor) -> Result<[Tensor; N]>,
) -> Result<Vec<Parameter<N>>> {
    let parameter = |(name, tensor): (&str, &Tensor)| {
        // The net has no biases except BatchNorm's: a parameter of one dimension is BatchNorm's.
        let decays = settings.weight_decay_norm || tensor.dim() > 1;
        Ok(Parameter {
            name: name.to_string(),
            tensor: tensor.shallow_clone(),
            weight_decay: if decays { settings.weight_decay } else { 0.0 },
            state: state(tensor)?,
        })
    };
    net.parameters().map(parameter).collect()
}

/// The tensors that an optimizer keeps for `parameters`, whose names are `names`.
fn named<const N: usize>(parameters: &[Parameter<N>], names: [&str; N]) -> Vec<(String, Tensor)> {
    let mut named = Vec::new();
    for parameter in parameters {
        for (name, tensor) in names.into_iter().zip(&parameter.state).filter(|(_, tensor)| tensor.defined()) {
            named.push((format!("{name}.{}", parameter.name), tensor.shallow_clone()));
        }
    }
    named
}

/// Zeros like a parameter, if they are needed.
fn zeros_like(tensor: &Tensor, needed: bool) -> Result<Tensor> {
    Ok(if needed { tensor.detach().f_zeros_like()? } else { Tensor::new() })
}

/// A float32 scalar on `device`.
fn scalar(value: f64, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_full([0i64; 0], value, (Kind::Float, device))?)
}

/// `step` on a GPU of an optimizer that counts its steps there, where reading the count would wait: `static_step` at the rate `lr`.
fn step_on_gpu(optimizer: &mut dyn Optimizer, lr: f64, device: Device) -> Result<()> {
    optimizer.static_step(&scalar(lr, device)?)
}
