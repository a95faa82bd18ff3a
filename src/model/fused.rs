//! Consecutive layers as one tch module on the fused kernels, in the place of the modules of these layers.
//!
//! Fused operations read and write images [N, H, W, C] with C padded to a multiple of 16 (`libtorch::fused`). Behind
//! libtorch's layers a module packs its images like that, and before them it unpacks its output.

use super::architecture::NamedLayer;
use super::units::{Operation, Unit};
use crate::libtorch::fused::{self, ConvBlock, Stage};
use tch::Tensor;
use tch::nn::{ModuleT, Path};

/// A fused operation with the weights of the layers that it computes.
#[derive(Debug)]
pub(super) struct Fused {
    operation: Weights,
    input: Layout,
    /// How the output of the operation is laid out, if libtorch's layers follow and it is to be unpacked.
    unpack: Option<Layout>,
}

/// The weights of an [`Operation`].
#[derive(Debug)]
enum Weights {
    ConvBlock(ConvBlock),
    ConvolutionMaxPool(Tensor),
    AveragePoolConvolution(Tensor),
}

/// How images are laid out between two modules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    /// As the net gets them: [N, 1, 28, 28].
    Images,
    /// As in PyTorch: [N, C, H, W], or [N, features].
    Torch,
    /// [N, H, W, C padded] of so many channels.
    Packed(i64),
    /// As `Packed`; in training, with the numbers of a BatchNorm that is still to be applied.
    Rows(i64),
}

/// What the kernels pad channels to a multiple of.
const GROUP: i64 = 16;

impl Layout {
    /// How the output of each unit is laid out: as in PyTorch before libtorch's layers and at the end.
    pub(super) fn of_outputs(units: &[Unit], layers: &[NamedLayer]) -> Vec<Layout> {
        let output = |(index, unit): (usize, &Unit)| match (unit.fused, units.get(index + 1)) {
            (Some(operation), Some(Unit { fused: Some(_), .. })) => Layout::of(operation, &layers[unit.layers.clone()]),
            _ => Layout::Torch,
        };
        units.iter().enumerate().map(output).collect()
    }

    /// How the output of `operation`, which computes `layers`, is laid out.
    fn of(operation: Operation, layers: &[NamedLayer]) -> Layout {
        let channels = layers[layers.len() - 1].output[0];
        match operation {
            Operation::ConvBlock { .. } => Layout::Rows(channels),
            Operation::ConvolutionMaxPool => Layout::Packed(channels),
            Operation::AveragePoolConvolution => Layout::Torch,
        }
    }

    /// `x`, which is laid out like this, as libtorch's layers read it.
    pub(super) fn unpacked(self, x: &Tensor, train: bool) -> Tensor {
        let channels_first = |x: &Tensor, channels: i64| x.permute([0, 3, 1, 2]).narrow(1, 0, channels);
        match self {
            Layout::Images | Layout::Torch => x.shallow_clone(),
            Layout::Rows(channels) if train => {
                channels_first(&fused::normalise(x).expect("the output of a fused block"), channels)
            }
            Layout::Packed(channels) | Layout::Rows(channels) => channels_first(x, channels),
        }
    }
}

impl Fused {
    /// The module that computes `layers` by `operation`, for an input and with an output that are laid out like this. It
    /// shares the layers' weights, which are in the store of `root`.
    pub(super) fn new(
        operation: Operation,
        layers: &[NamedLayer],
        root: &Path,
        input: Layout,
        output: Layout,
    ) -> Fused {
        let variable = |layer: usize, name: &str| layers[layer].below(root).get(name).expect("a variable of the layer");
        let unpack = Some(Layout::of(operation, layers)).filter(|made| *made != output);
        let operation = match operation {
            Operation::ConvBlock { padding, dropout } => Weights::ConvBlock(ConvBlock {
                weight: variable(0, "weight"),
                gamma: variable(2, "weight"),
                beta: variable(2, "bias"),
                running_mean: variable(2, "running_mean"),
                running_var: variable(2, "running_var"),
                num_batches_tracked: variable(2, "num_batches_tracked"),
                padding,
                dropout,
                plain: !matches!(input, Layout::Rows(_)),
            }),
            Operation::ConvolutionMaxPool => Weights::ConvolutionMaxPool(variable(0, "weight")),
            Operation::AveragePoolConvolution => Weights::AveragePoolConvolution(variable(1, "weight")),
        };
        Fused { operation, input, unpack }
    }

    /// This module as [`fused::evaluate_stages`] takes it.
    pub(super) fn stage(&self) -> Stage<'_> {
        match &self.operation {
            Weights::ConvBlock(block) => Stage::ConvBlock(block),
            Weights::ConvolutionMaxPool(weight) => Stage::ConvolutionMaxPool(weight),
            Weights::AveragePoolConvolution(weight) => Stage::AveragePoolConvolution(weight),
        }
    }
}

impl ModuleT for Fused {
    /// Like tch's own modules it panics where libtorch fails, as when memory runs out.
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let plain = !train || !matches!(self.input, Layout::Rows(_));
        let output = match &self.operation {
            Weights::ConvBlock(block) if self.input == Layout::Torch => block.forward_t(&packed(x), train),
            Weights::ConvBlock(block) => block.forward_t(x, train),
            Weights::ConvolutionMaxPool(weight) => {
                fused::convolution_max_pool(x, weight, plain).expect("a fused operation")
            }
            Weights::AveragePoolConvolution(weight) => {
                let output = fused::average_pool_convolution(x, weight, plain).expect("a fused operation");
                output.unsqueeze(-1).unsqueeze(-1)
            }
        };
        match self.unpack {
            Some(layout) => layout.unpacked(&output, train),
            None => output,
        }
    }
}

/// The images [N, C, H, W] as a fused operation reads them.
fn packed(x: &Tensor) -> Tensor {
    let channels = x.size()[1];
    let padding = (channels + GROUP - 1) / GROUP * GROUP - channels;
    x.permute([0, 2, 3, 1]).constant_pad_nd([0, padding]).contiguous()
}
