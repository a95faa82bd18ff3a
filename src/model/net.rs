//! A net: its layers with their weights, ready to run.

use super::architecture::Architecture;
use super::fused::{self, Layout, Unit};
use super::modules::Module;
use super::state_dict::{Entry, StateDict};
use super::step::Step;
use crate::libtorch::fused::{Stage, evaluate_stages};
use crate::libtorch::{counts, generator, gradients};
use crate::shape::CLASSES;
use anyhow::{Result, ensure};
use std::fmt::{self, Display};
use tch::{Device, Kind, Tensor};

/// What computes the layers. Names and weights are the same for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// libtorch's, layer by layer: the same bits as PyTorch.
    Torch,
    /// This program's, several layers in one operation, wherever a part of the net fits them, and libtorch's for the
    /// rest. On the CPU only; on a GPU this is [`Kernels::Torch`].
    Fused,
}

impl Kernels {
    /// Whether a net on `device` runs on the fused kernels.
    fn fuse_on(self, device: Device) -> bool {
        self == Kernels::Fused && device == Device::Cpu
    }
}

impl Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kernels::Torch => "torch",
            Kernels::Fused => "fused",
        })
    }
}

/// A net: maps images [N, 1, 28, 28] to log-probabilities [N, 10].
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use tch_mnist::{Architecture, Kernels, Net};
///
/// tch::manual_seed(1);
/// let net = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Torch);
/// assert_eq!(net.parameters().map(|(_, tensor)| tensor.numel()).sum::<usize>(), 11_392);
/// let images = Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu));
/// assert_eq!(net.forward_t(&images, false).size(), [2, 10]);
/// ```
pub struct Net {
    device: Device,
    architecture: Architecture,
    kernels: Kernels,
    steps: Vec<Step>,
    /// The tensors of the state_dict, in its order.
    entries: Vec<Entry>,
    /// Those that count batches, except for what the fused kernels count.
    batch_counts: Vec<Tensor>,
}

impl Net {
    /// Builds the net on `device`, its weights drawn from libtorch's default generator as PyTorch's constructors draw
    /// them: `tch::manual_seed(seed)` before it gives the weights of `torch.manual_seed(seed); Net()`.
    pub fn new(device: Device, architecture: &Architecture, kernels: Kernels) -> Net {
        let layers = architecture.layers();
        let modules: Vec<Module> = layers.iter().map(|named| Module::new(named.layer, device)).collect();
        let mut entries = Vec::new();
        for (named, module) in layers.iter().zip(&modules) {
            for (name, tensor) in module.named_tensors() {
                entries.push(Entry { key: format!("{}.{name}", named.path), tensor: tensor.shallow_clone() });
            }
        }
        let units = match kernels.fuse_on(device) {
            true => fused::units(layers),
            false => (0..layers.len()).map(Unit::layer).collect(),
        };
        let mut steps: Vec<Step> = Vec::new();
        for unit in units {
            let input = steps.last().map_or(Layout::Torch, Step::output);
            steps.push(Step::new(&unit, input, layers, &modules[unit.layers.clone()]));
        }
        let batch_counts = steps.iter().filter_map(Step::batch_count).map(Tensor::shallow_clone).collect();
        Net { device, architecture: architecture.clone(), kernels, steps, entries, batch_counts }
    }

    /// The device of its tensors.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// Its layers.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The kernels that compute it: [`Kernels::Fused`] if they take a part of it.
    pub(crate) fn kernels(&self) -> Kernels {
        if self.steps.iter().any(Step::is_fused) { Kernels::Fused } else { Kernels::Torch }
    }

    /// The members that the fused kernels compute, and those that libtorch's do. A member that is computed by both is
    /// in both.
    pub(crate) fn members_by_kernels(&self) -> (Vec<&str>, Vec<&str>) {
        let (mut fused, mut torch) = (Vec::new(), Vec::new());
        for step in &self.steps {
            let members = if step.is_fused() { &mut fused } else { &mut torch };
            for named in &self.architecture.layers()[step.layers()] {
                if members.last() != Some(&named.member()) {
                    members.push(named.member());
                }
            }
        }
        (fused, torch)
    }

    /// Another net with the same weights. It draws no random numbers.
    pub(crate) fn copy(&self) -> Result<Net> {
        let state = generator::state(Device::Cpu)?;
        let copy = Net::new(self.device, &self.architecture, self.kernels);
        generator::set_state(Device::Cpu, &state)?;
        copy.load_state_dict(&self.state_dict())?;
        Ok(copy)
    }

    /// The log-probabilities [N, 10] of normalised images [N, 1, 28, 28]. `train` switches BatchNorm and dropout, as
    /// `net.train()` and `net.eval()` do.
    pub fn forward_t(&self, images: &Tensor, train: bool) -> Tensor {
        if !train && let Some(logits) = self.evaluate_fused(images) {
            return self.log_softmax(&logits);
        }
        if train {
            counts::increment(&self.batch_counts).expect("counts that can be added to");
        }
        let output = self.steps.iter().fold(images.shallow_clone(), |x, step| step.forward_t(&x, train));
        let layout = self.steps.last().map_or(Layout::Torch, Step::output);
        self.log_softmax(&fused::unpacked(&output, layout, train))
    }

    /// The logits in evaluation mode if the fused kernels compute the whole net.
    fn evaluate_fused(&self, images: &Tensor) -> Option<Tensor> {
        self.stages().map(|stages| evaluate_stages(images, &stages).expect("the fused kernels"))
    }

    /// The whole net as stages of the fused kernels, if they compute all of it.
    fn stages(&self) -> Option<Vec<Stage<'_>>> {
        let stages: Vec<Stage> = self.steps.iter().map(Step::stage).collect::<Option<_>>()?;
        // The output of other stages is packed.
        matches!(stages.last(), Some(Stage::AveragePoolConvolution(_))).then_some(stages)
    }

    /// Whether an image's log-probabilities are the same bits in evaluation mode whichever batch it is in.
    pub(crate) fn evaluates_images_alone(&self) -> bool {
        self.stages().is_some()
    }

    /// The output [N, C, H, W] or [N, features] after each unit of the net in evaluation mode, with the number of
    /// layers that it went through. On libtorch's kernels a unit is one layer.
    pub(crate) fn forward_units(&self, images: &Tensor) -> Vec<(usize, Tensor)> {
        let mut x = images.shallow_clone();
        let mut outputs = Vec::new();
        for step in &self.steps {
            x = step.forward_t(&x, false);
            outputs.push((step.layers().end, fused::unpacked(&x, step.output(), false)));
        }
        outputs
    }

    /// The log-probabilities [N, 10] that follow from the outputs of [`Net::forward_units`].
    pub(crate) fn log_probabilities(&self, outputs: &[(usize, Tensor)]) -> Tensor {
        self.log_softmax(&outputs[outputs.len() - 1].1)
    }

    /// The end of `Net.forward`: `x.view(-1, 10)` and `F.log_softmax(x, dim=-1)`, unless the net has a layer for it.
    fn log_softmax(&self, x: &Tensor) -> Tensor {
        let logits = x.reshape([-1, CLASSES as i64]);
        if self.architecture.ends_in_log_softmax() { logits } else { logits.log_softmax(-1, Kind::Float) }
    }

    /// The trainable tensors and their keys, in the order of PyTorch's `parameters()`.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries
            .iter()
            .filter(|entry| entry.tensor.requires_grad())
            .map(|entry| (entry.key.as_str(), &entry.tensor))
    }

    /// A copy of the gradient of each parameter, on its device.
    pub(crate) fn gradients(&self) -> Result<Vec<(String, Tensor)>> {
        let copy = |(name, tensor): (&str, &Tensor)| Ok((name.to_string(), tensor.f_grad()?.f_detach_copy()?));
        self.parameters().map(copy).collect()
    }

    /// Removes all gradients, as `zero_grad()` does.
    pub(crate) fn zero_grad(&self) -> Result<()> {
        gradients::clear(self.parameters().map(|(_, tensor)| tensor))
    }

    /// Parameters and buffers as PyTorch's `state_dict()`, in its order. The tensors share this net's memory.
    pub fn state_dict(&self) -> StateDict {
        let named = |entry: &Entry| (entry.key.clone(), entry.tensor.detach());
        StateDict(self.entries.iter().map(named).collect())
    }

    /// Copies `weights` into the net, as `load_state_dict(weights, strict=True)`.
    ///
    /// # Errors
    ///
    /// One sentence with the first key that is missing or unexpected, or whose shape differs.
    pub fn load_state_dict(&self, weights: &StateDict) -> Result<()> {
        for ((key, _), entry) in weights.0.iter().zip(&self.entries) {
            ensure!(*key == entry.key, "the weights hold {key} where {} was expected", entry.key);
        }
        ensure!(
            weights.0.len() == self.entries.len(),
            "the weights hold {} tensors, not {}",
            weights.0.len(),
            self.entries.len()
        );
        tch::no_grad(|| {
            for ((key, tensor), entry) in weights.0.iter().zip(&self.entries) {
                let (have, want) = (tensor.size(), entry.tensor.size());
                ensure!(have == want, "{key} has the shape {have:?}, not {want:?}");
                entry.tensor.shallow_clone().f_copy_(tensor)?;
            }
            Ok(())
        })
    }
}
