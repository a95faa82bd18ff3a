//! A part of a net with its weights, between its neighbours: one layer on libtorch, or several on the fused kernels.

use super::architecture::NamedLayer;
use super::fused::{Layout, Operation, Unit, packed, unpacked};
use super::modules::Module;
use crate::libtorch::fused::{self, Stage};
use std::ops::Range;
use tch::Tensor;
use tch::nn::ModuleT;

/// A [`Unit`] that can be run.
pub(super) struct Step {
    layers: Range<usize>,
    computation: Computation,
    /// How its input is laid out, and its output.
    input: Layout,
    output: Layout,
}

enum Computation {
    Layer(Module),
    /// The channels of its input tell how to pack it.
    ConvBlock(fused::ConvBlock, i64),
    /// These have the convolution's weight.
    ConvolutionMaxPool(Tensor),
    AveragePoolConvolution(Tensor),
}

impl Step {
    /// The step of `unit` of the net of `layers`, behind a step whose output is laid out as `input`. It shares the
    /// tensors of `modules`, the unit's layers.
    pub(super) fn new(unit: &Unit, input: Layout, layers: &[NamedLayer], modules: &[Module]) -> Step {
        let channels = layers[unit.layers.end - 1].output[0];
        let tensor = |module: usize, index: usize| modules[module].tensor(index);
        let (computation, output) = match unit.operation {
            Operation::Layer => (Computation::Layer(modules[0].shallow_clone()), Layout::Torch),
            Operation::ConvBlock { padding, dropout } => {
                let block = fused::ConvBlock {
                    weight: tensor(0, 0),
                    gamma: tensor(2, 0),
                    beta: tensor(2, 1),
                    running_mean: tensor(2, 2),
                    running_var: tensor(2, 3),
                    num_batches_tracked: tensor(2, 4),
                    padding,
                    dropout,
                    plain: !matches!(input, Layout::Rows(_)),
                };
                let inputs = block.weight.size()[1];
                (Computation::ConvBlock(block, inputs), Layout::Rows(channels))
            }
            Operation::ConvolutionMaxPool => (Computation::ConvolutionMaxPool(tensor(0, 0)), Layout::Packed(channels)),
            Operation::AveragePoolConvolution => (Computation::AveragePoolConvolution(tensor(1, 0)), Layout::Torch),
        };
        Step { layers: unit.layers.clone(), computation, input, output }
    }

    /// Which layers of the net.
    pub(super) fn layers(&self) -> Range<usize> {
        self.layers.clone()
    }

    pub(super) fn output(&self) -> Layout {
        self.output
    }

    /// Whether it is computed on the fused kernels.
    pub(super) fn is_fused(&self) -> bool {
        !matches!(self.computation, Computation::Layer(_))
    }

    /// The batches that it was trained on, if it counts them and leaves that to the net.
    pub(super) fn batch_count(&self) -> Option<&Tensor> {
        match &self.computation {
            Computation::Layer(module) => module.batch_count(),
            _ => None,
        }
    }

    /// This step as [`fused::evaluate_stages`] takes it; `None` for a layer on libtorch.
    pub(super) fn stage(&self) -> Option<Stage<'_>> {
        match &self.computation {
            Computation::Layer(_) => None,
            Computation::ConvBlock(block, _) => Some(Stage::ConvBlock(block)),
            Computation::ConvolutionMaxPool(weight) => Some(Stage::ConvolutionMaxPool(weight)),
            Computation::AveragePoolConvolution(weight) => Some(Stage::AveragePoolConvolution(weight)),
        }
    }

    /// Its output. Like tch's own layers it panics where libtorch fails, as when memory runs out.
    pub(super) fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let plain = !train || !matches!(self.input, Layout::Rows(_));
        match &self.computation {
            Computation::Layer(module) => module.forward_t(&unpacked(x, self.input, train), train),
            // The first block of a net takes the images as they are.
            Computation::ConvBlock(block, channels) if self.input == Layout::Torch && self.layers.start > 0 => {
                block.forward_t(&packed(x, *channels), train)
            }
            Computation::ConvBlock(block, _) => block.forward_t(x, train),
            Computation::ConvolutionMaxPool(weight) => {
                fused::convolution_max_pool(x, weight, plain).expect("a fused operation")
            }
            Computation::AveragePoolConvolution(weight) => {
                let output = fused::average_pool_convolution(x, weight, plain).expect("a fused operation");
                output.unsqueeze(-1).unsqueeze(-1)
            }
        }
    }
}
