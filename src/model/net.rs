//! The net: the original's class `Net`, layer by layer and name by name.
//!
//! [`blocks`] is the architecture. Everything that needs it reads it there: the net below, `summary`, the weights
//! formats that contain layers.

use super::fused;
use super::layers::Layer;
use super::state_dict::{Entry, StateDict};
use crate::libtorch::generator;
use crate::shape::CLASSES;
use anyhow::{Result, ensure};
use std::fmt::{self, Display};
use tch::nn::{self, ModuleT, SequentialT};
use tch::{Device, Kind, Tensor};

/// A named member of `Net`: an `nn.Sequential` of layers, except `pool1`, which is a bare layer in the original.
#[derive(Clone, Debug)]
pub struct Block {
    /// The member's name, such as `convblock1`.
    pub name: &'static str,
    /// Its layers; a state_dict key is `name.index.parameter`.
    pub layers: Vec<Layer>,
}

/// The blocks in the order of `Net.forward`, with `dropout` after each BatchNorm except the last (the original: 0.05).
///
/// The number after each block is the width and height of its output for 28x28 images.
pub fn blocks(dropout: f64) -> Vec<Block> {
    use Layer::{AvgPool2d, BatchNorm2d, Dropout, MaxPool2d, ReLU};
    let conv = |inputs, outputs, kernel| Layer::Conv2d { inputs, outputs, kernel, padding: 0 };
    let padded = |inputs, outputs, kernel| Layer::Conv2d { inputs, outputs, kernel, padding: 1 };
    let norm = |channels| BatchNorm2d { channels };
    let drop = Dropout { p: dropout };
    let block = |name, layers: &[Layer]| Block { name, layers: layers.to_vec() };
    vec![
        block("convblock1", &[conv(1, 16, 3), ReLU, norm(16), drop]), // 26
        block("convblock2", &[conv(16, 32, 3), ReLU, norm(32), drop]), // 24
        block("convblock3", &[conv(32, 10, 1)]),                      // 24
        block("pool1", &[MaxPool2d { kernel: 2 }]),                   // 12
        block("convblock4", &[conv(10, 16, 3), ReLU, norm(16), drop]), // 10
        block("convblock5", &[conv(16, 12, 3), ReLU, norm(12), drop]), //  8
        block("convblock6", &[conv(12, 12, 3), ReLU, norm(12), drop]), //  6
        block("convblock7", &[padded(12, 14, 3), ReLU, norm(14)]),    //  6
        block("gap", &[AvgPool2d { kernel: 6 }]),                     //  1
        block("convblock8", &[conv(14, 10, 1)]),                      //  1
    ]
}

/// What computes the layers. Names and weights are the same for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// libtorch's, layer by layer: the same bits as PyTorch.
    Torch,
    /// This program's, one operation per block. On the CPU only; on a GPU this is [`Kernels::Torch`].
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

/// The original's `Net`: maps images [N, 1, 28, 28] to log-probabilities [N, 10].
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use tch_mnist::{Kernels, Net};
///
/// tch::manual_seed(1);
/// let net = Net::new(Device::Cpu, 0.05, Kernels::Torch);
/// assert_eq!(net.parameters().map(|(_, tensor)| tensor.numel()).sum::<usize>(), 11_392);
/// let images = Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu));
/// assert_eq!(net.forward_t(&images, false).size(), [2, 10]);
/// ```
pub struct Net {
    device: Device,
    dropout: f64,
    kernels: Kernels,
    /// The blocks of [`blocks`] as tch builds them.
    sequentials: Vec<SequentialT>,
    /// The tensors of the state_dict, in its order.
    entries: Vec<Entry>,
}

impl Net {
    /// Builds the net on `device`, its weights drawn from libtorch's default generator as PyTorch's constructors draw
    /// them: `tch::manual_seed(seed)` before it gives the weights of `torch.manual_seed(seed); Net()`.
    pub fn new(device: Device, dropout: f64, kernels: Kernels) -> Net {
        let fuse = kernels.fuse_on(device);
        let store = nn::VarStore::new(Device::Cpu);
        let mut entries = Vec::new();
        let mut sequentials = Vec::new();
        let mut previous = Vec::new();
        for block in blocks(dropout) {
            let first = entries.len();
            let mut sequential = nn::seq_t();
            for (index, layer) in block.layers.iter().enumerate() {
                let path = store.root() / block.name / index;
                sequential = layer.build(sequential, &path, device, &mut entries);
            }
            sequentials.push(if fuse { fused::block(&block.layers, &previous, &entries[first..]) } else { sequential });
            previous = block.layers;
        }
        Net { device, dropout, kernels, sequentials, entries }
    }

    /// The device of its tensors.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// Another net with the same weights. It draws no random numbers.
    pub(crate) fn copy(&self) -> Result<Net> {
        let state = generator::state(Device::Cpu)?;
        let copy = Net::new(self.device, self.dropout, self.kernels);
        generator::set_state(Device::Cpu, &state)?;
        copy.load_state_dict(&self.state_dict())?;
        Ok(copy)
    }

    /// The log-probabilities [N, 10] of normalised images [N, 1, 28, 28]. `train` switches BatchNorm and dropout, as
    /// `net.train()` and `net.eval()` do.
    pub fn forward_t(&self, images: &Tensor, train: bool) -> Tensor {
        let logits = self.sequentials.iter().fold(images.shallow_clone(), |x, block| block.forward_t(&x, train));
        log_softmax(&logits)
    }

    /// The output [N, C, H, W] of each block in evaluation mode, by its name. On the fused kernels a pool is part of the 1x1
    /// convolution next to it.
    pub(crate) fn forward_blocks(&self, images: &Tensor) -> Vec<(&'static str, Tensor)> {
        let (mut x, mut channels, mut outputs) = (images.shallow_clone(), 1, Vec::new());
        for (block, sequential) in blocks(self.dropout).iter().zip(&self.sequentials) {
            x = sequential.forward_t(&x, false);
            if let Some(Layer::Conv2d { outputs, .. }) = block.layers.first() {
                channels = *outputs;
            }
            let output =
                if self.kernels.fuse_on(self.device) { fused::unpacked(&x, channels) } else { x.shallow_clone() };
            outputs.push((block.name, output));
        }
        outputs
    }

    /// The log-probabilities [N, 10] that follow from the outputs of [`Net::forward_blocks`].
    pub(crate) fn log_probabilities(&self, outputs: &[(&'static str, Tensor)]) -> Tensor {
        log_softmax(&outputs[outputs.len() - 1].1)
    }

    /// The output of each layer of [`blocks`] for `images`, in order.
    pub(super) fn forward_all(&self, images: &Tensor) -> Vec<Tensor> {
        let mut outputs = vec![images.shallow_clone()];
        for block in &self.sequentials {
            outputs.extend(block.forward_all_t(&outputs[outputs.len() - 1], false, None));
        }
        outputs.split_off(1)
    }

    /// The number of parameters of the layer with this index in the block.
    pub(super) fn parameters_of(&self, block: &Block, index: usize) -> i64 {
        let prefix = format!("{}.{index}.", block.name);
        let own = self.parameters().filter(|(key, _)| key.starts_with(&prefix));
        own.map(|(_, tensor)| tensor.numel() as i64).sum()
    }

    /// The trainable tensors and their keys, in the order of PyTorch's `parameters()`.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries
            .iter()
            .filter(|entry| entry.tensor.requires_grad())
            .map(|entry| (entry.key.as_str(), &entry.tensor))
    }

    /// A copy of the gradient of each parameter.
    pub(crate) fn gradients(&self) -> Result<Vec<(String, Tensor)>> {
        let copy = |(name, tensor): (&str, &Tensor)| Ok((name.to_string(), tensor.f_grad()?.f_detach_copy()?));
        self.parameters().map(copy).collect()
    }

    /// Zeroes all gradients, as `zero_grad(set_to_none=False)` does.
    pub(crate) fn zero_grad(&self) {
        self.parameters().for_each(|(_, tensor)| tensor.shallow_clone().zero_grad());
    }

    /// Whether every number in the parameters and buffers is finite.
    pub(crate) fn is_finite(&self) -> Result<bool> {
        let finite = self.entries.iter().map(|entry| Ok(entry.tensor.detach().f_isfinite()?.f_all()?));
        Ok(bool::try_from(Tensor::f_stack(&finite.collect::<Result<Vec<_>>>()?, 0)?.f_all()?)?)
    }

    /// Parameters and buffers as PyTorch's `state_dict()`: 38 keys in its order. The tensors share this net's memory.
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

/// The end of `Net.forward`: log-probabilities [N, 10] of logits [N, 10, 1, 1].
fn log_softmax(logits: &Tensor) -> Tensor {
    logits.view([-1, CLASSES as i64]).log_softmax(-1, Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outputs_of_the_blocks_are_the_same_on_both_kernels() {
        tch::manual_seed(3);
        let torch = Net::new(Device::Cpu, 0.0, Kernels::Torch);
        let fused = Net::new(Device::Cpu, 0.0, Kernels::Fused);
        fused.load_state_dict(&torch.state_dict()).unwrap();
        let images = Tensor::randn([5, 1, 28, 28], (Kind::Float, Device::Cpu));
        let _no_grad = tch::no_grad_guard();
        let (torch_outputs, fused_outputs) = (torch.forward_blocks(&images), fused.forward_blocks(&images));
        for ((name, one), (_, other)) in torch_outputs.iter().zip(&fused_outputs) {
            // The fused pools are part of their neighbours.
            if one.size() == other.size() {
                assert!(one.allclose(other, 1e-4, 1e-4, false), "{name}");
            } else {
                assert!(["convblock3", "gap", "convblock8"].contains(name), "{name}: {:?}", other.size());
            }
        }
        let logs = [torch.log_probabilities(&torch_outputs), fused.log_probabilities(&fused_outputs)];
        assert!(logs[0].equal(&torch.forward_t(&images, false)));
        assert!(logs[1].equal(&fused.forward_t(&images, false)));
    }
}
