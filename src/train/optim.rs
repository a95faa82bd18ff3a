//! SGD over a net's parameters: `torch.optim.SGD`, with momentum buffers that can be saved.

use crate::config::Config;
use crate::libtorch::sgd::{self, Options};
use crate::model::Net;
use anyhow::{Result, ensure};
use tch::Tensor;

/// `torch.optim.SGD(net.parameters(), lr, momentum, weight_decay, nesterov)`; with `weight_decay_norm` false, BatchNorm's
/// parameters are a group of their own, whose weight_decay is 0.
pub struct Sgd {
    names: Vec<String>,
    parameters: Vec<Tensor>,
    buffers: Vec<Tensor>,
    /// The L2 penalty of each parameter.
    weight_decays: Vec<f64>,
    options: Options,
}

impl Sgd {
    /// The optimizer of `config` over `net`, without momentum yet.
    pub fn new(net: &Net, config: &Config) -> Sgd {
        let (names, parameters): (Vec<_>, Vec<_>) =
            net.parameters().map(|(name, tensor)| (name.to_string(), tensor.shallow_clone())).unzip();
        let buffers = parameters.iter().map(|_| Tensor::new()).collect();
        let Config { momentum, weight_decay, weight_decay_norm, nesterov, .. } = *config;
        // The net has no biases but BatchNorm's: a parameter of one dimension is BatchNorm's.
        let decayed = |tensor: &Tensor| weight_decay_norm || tensor.dim() > 1;
        let weight_decays = parameters.iter().map(|tensor| if decayed(tensor) { weight_decay } else { 0.0 }).collect();
        Sgd { names, parameters, buffers, weight_decays, options: Options { momentum, nesterov } }
    }

    /// `step()` with the learning rate `lr`, then `zero_grad()`.
    ///
    /// # Errors
    ///
    /// When libtorch fails.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        sgd::step(&mut self.parameters, &mut self.buffers, &self.weight_decays, lr, self.options)
    }

    /// The same step with the learning rate in device memory, `lr` (a float32 scalar), after [`Sgd::make_buffers`]:
    /// nothing of it comes from the host.
    ///
    /// # Errors
    ///
    /// When libtorch fails.
    pub fn static_step(&mut self, lr: &Tensor) -> Result<()> {
        sgd::static_step(&mut self.parameters, &mut self.buffers, &self.weight_decays, lr, self.options)
    }

    /// Makes the momentum buffers that do not exist yet, as zeros; the next step turns them into what it would have made.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn make_buffers(&mut self) -> Result<()> {
        if self.options.momentum > 0.0 {
            for (buffer, parameter) in self.buffers.iter_mut().zip(&self.parameters) {
                if !buffer.defined() {
                    *buffer = parameter.f_zeros_like()?;
                }
            }
        }
        Ok(())
    }

    /// Forgets the gradients of a step that did not get to its end.
    pub fn zero_grad(&mut self) {
        self.parameters.iter_mut().for_each(Tensor::zero_grad);
    }

    /// The momentum buffers that exist, under their parameters' names: `momentum_buffer` in PyTorch's state_dict.
    pub fn momentum_buffers(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let named = self.names.iter().map(String::as_str).zip(&self.buffers);
        named.filter(|(_, buffer)| buffer.defined())
    }

    /// Sets the buffer of the parameter `name`.
    ///
    /// # Errors
    ///
    /// When there is no such parameter, or the shape is another.
    pub fn set_momentum_buffer(&mut self, name: &str, buffer: &Tensor) -> Result<()> {
        let position = self.names.iter().position(|known| known == name);
        let index = position.ok_or_else(|| anyhow::anyhow!("the net has no parameter {name}"))?;
        let parameter = &self.parameters[index];
        ensure!(buffer.size() == parameter.size(), "the momentum of {name} has the shape {:?}", buffer.size());
        if self.buffers[index].defined() {
            // In place: a CUDA graph may know this memory.
            self.buffers[index].f_copy_(buffer)?;
        } else {
            self.buffers[index] = buffer.f_to_device(parameter.device())?.f_detach_copy()?;
        }
        Ok(())
    }
}
