//! A net: tch's `nn::SequentialT` of its layers, and the `nn::VarStore` with their weights.

use super::architecture::{Architecture, NamedLayer};
use super::fused::{Fused, Layout};
use super::layers::NUM_BATCHES_TRACKED;
use super::state_dict::StateDict;
use super::units::{Operation, Unit, units};
use crate::libtorch::fused::{Stage, evaluate_stages};
use crate::libtorch::pieces::OwnThreads;
use crate::libtorch::{counts, generator, gradients};
use crate::shape::CLASSES;
use anyhow::{Result, ensure};
use std::fmt::{self, Display};
use tch::nn::{self, ModuleT, SequentialT, VarStore};
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
    architecture: Architecture,
    kernels: Kernels,
    var_store: VarStore,
    /// A module per unit.
    sequential: SequentialT,
    units: Vec<Unit>,
    /// How the output of each unit is laid out.
    layouts: Vec<Layout>,
    /// The modules for evaluation, if the fused kernels take a few images at a time through the whole net.
    evaluation: Option<Vec<Fused>>,
    /// The tensors of the store in PyTorch's order.
    state: StateDict,
    /// Those that count batches, except for what the fused kernels count.
    batch_counts: Vec<Tensor>,
}

impl Net {
    /// Builds the net on `device`, its weights drawn from libtorch's default generator as PyTorch's constructors draw
    /// them: `tch::manual_seed(seed)` before it gives the weights of `torch.manual_seed(seed); Net()`.
    pub fn new(device: Device, architecture: &Architecture, kernels: Kernels) -> Net {
        let layers = architecture.layers();
        let units = match kernels.fuse_on(device) {
            true => units(layers),
            false => (0..layers.len()).map(Unit::layer).collect(),
        };
        let layouts = Layout::of_outputs(&units, layers);
        // As `Net().to(device)`: weights are drawn on the CPU, and then moved.
        let mut var_store = VarStore::new(Device::Cpu);
        let root = var_store.root();
        let fused = |index: usize, operation| {
            let input = index.checked_sub(1).map_or(Layout::Images, |before| layouts[before]);
            Fused::new(operation, &layers[units[index].layers.clone()], &root, input, layouts[index])
        };
        let mut sequential = nn::seq_t();
        for (index, unit) in units.iter().enumerate() {
            let with_layers = |net| layers[unit.layers.clone()].iter().fold(net, |net, named| named.add_to(net, &root));
            sequential = match unit.fused {
                None => with_layers(sequential),
                Some(operation) => {
                    // tch's modules make the weights and draw them; the fused module takes their place.
                    with_layers(nn::seq_t());
                    sequential.add(fused(index, operation))
                }
            };
        }
        let evaluation: Option<Vec<Fused>> =
            (0..units.len()).map(|index| units[index].fused.map(|it| fused(index, it))).collect();
        let is_whole = matches!(units.last(), Some(Unit { fused: Some(Operation::AveragePoolConvolution), .. }));
        if device != Device::Cpu {
            var_store.set_device(device);
        }
        // Else a tensor would be neither saved nor trained.
        let state = StateDict::of(&var_store, architecture).expect("layers list the tensors that their modules make");
        let batch_counts = batch_counts(&units, layers, &var_store);
        Net {
            architecture: architecture.clone(),
            kernels,
            var_store,
            sequential,
            units,
            layouts,
            evaluation: evaluation.filter(|_| is_whole),
            state,
            batch_counts,
        }
    }

    /// The device of its tensors.
    pub(crate) fn device(&self) -> Device {
        self.var_store.device()
    }

    /// Its layers.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// tch's module for it: a module per layer on libtorch's kernels, and one for several layers in a row where the fused
    /// kernels take them. It counts no batches, and does not end in `log_softmax`.
    pub fn sequential(&self) -> &SequentialT {
        &self.sequential
    }

    /// The store of its parameters and buffers, each under its key in PyTorch's state_dict.
    pub fn var_store(&self) -> &VarStore {
        &self.var_store
    }

    /// The kernels that compute it: [`Kernels::Fused`] if they take a part of it.
    pub(crate) fn kernels(&self) -> Kernels {
        if self.units.iter().any(|unit| unit.fused.is_some()) { Kernels::Fused } else { Kernels::Torch }
    }

    /// The members that the fused kernels compute, and those that libtorch's do. A member that is computed by both is
    /// in both.
    pub(crate) fn members_by_kernels(&self) -> (Vec<&str>, Vec<&str>) {
        let (mut fused, mut torch) = (Vec::new(), Vec::new());
        for unit in &self.units {
            let members = if unit.fused.is_some() { &mut fused } else { &mut torch };
            for named in &self.architecture.layers()[unit.layers.clone()] {
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
        let copy = Net::new(self.device(), &self.architecture, self.kernels);
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
        self.log_softmax(&self.sequential.forward_t(images, train))
    }

    /// The logits in evaluation mode if the fused kernels compute the whole net.
    fn evaluate_fused(&self, images: &Tensor) -> Option<Tensor> {
        let stages: Vec<Stage> = self.evaluation.as_ref()?.iter().map(Fused::stage).collect();
        Some(evaluate_stages(images, &stages).expect("the fused kernels"))
    }

    /// Whether an image's log-probabilities are the same bits in evaluation mode whichever batch it is in.
    pub(crate) fn evaluates_images_alone(&self) -> bool {
        self.evaluation.is_some()
    }

    /// If the fused kernels compute the whole net: they get threads of their own while the guard lives. libtorch's
    /// operations, of which only small ones are left, run on the calling thread.
    pub(crate) fn own_threads(&self) -> Option<OwnThreads> {
        self.evaluation.is_some().then(OwnThreads::new)
    }

    /// The output [N, C, H, W] or [N, features] after each unit of the net in evaluation mode, with the number of
    /// layers that it went through. On libtorch's kernels a unit is one layer.
    pub(crate) fn forward_units(&self, images: &Tensor) -> Vec<(usize, Tensor)> {
        let outputs =
            self.sequential.forward_all_t(images, false, None).into_iter().zip(&self.units).zip(&self.layouts);
        outputs.map(|((output, unit), layout)| (unit.layers.end, layout.unpacked(&output, false))).collect()
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
        self.state.0.iter().filter(|(_, tensor)| tensor.requires_grad()).map(|(key, tensor)| (key.as_str(), tensor))
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
        StateDict(self.state.0.iter().map(|(key, tensor)| (key.clone(), tensor.detach())).collect())
    }

    /// Copies `weights` into the net, as `load_state_dict(weights, strict=True)`.
    ///
    /// # Errors
    ///
    /// One sentence with the first key that is missing or unexpected, or whose shape differs.
    pub fn load_state_dict(&self, weights: &StateDict) -> Result<()> {
        for ((key, _), (own, _)) in weights.0.iter().zip(&self.state.0) {
            ensure!(key == own, "the weights hold {key} where {own} was expected");
        }
        ensure!(
            weights.0.len() == self.state.0.len(),
            "the weights hold {} tensors, not {}",
            weights.0.len(),
            self.state.0.len()
        );
        tch::no_grad(|| {
            for ((key, tensor), (_, own)) in weights.0.iter().zip(&self.state.0) {
                let (have, want) = (tensor.size(), own.size());
                ensure!(have == want, "{key} has the shape {have:?}, not {want:?}");
                own.shallow_clone().f_copy_(tensor)?;
            }
            Ok(())
        })
    }
}

/// The counts of the BatchNorms that libtorch computes.
fn batch_counts(units: &[Unit], layers: &[NamedLayer], var_store: &VarStore) -> Vec<Tensor> {
    let own = units.iter().filter(|unit| unit.fused.is_none()).flat_map(|unit| &layers[unit.layers.clone()]);
    own.filter_map(|named| named.below(&var_store.root()).get(NUM_BATCHES_TRACKED)).collect()
}
