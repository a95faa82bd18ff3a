//! Which layers the fused kernels take, and how they and libtorch's layers pass images on to each other.
//!
//! Fused operations read and write images [N, H, W, C] with C padded to a multiple of 16 (`libtorch::fused`). Where a
//! net goes from libtorch's layers to fused ones, its images are packed like that; where it goes back, they are
//! unpacked.

use super::architecture::NamedLayer;
use super::layers::{Conv2d, Layer};
use crate::libtorch::fused;
use std::ops::Range;
use tch::Tensor;

/// Consecutive layers that are computed in one go.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit {
    /// Which layers of the net.
    pub(super) layers: Range<usize>,
    pub(super) operation: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    /// One layer, by libtorch.
    Layer,
    /// `Conv2d -> ReLU -> BatchNorm2d -> Dropout`; the last one may be missing.
    ConvBlock { padding: i64, dropout: f64 },
    /// `Conv2d(kernel_size=1) -> MaxPool2d(2)` behind a fused unit.
    ConvolutionMaxPool,
    /// A pool over the whole image `-> Conv2d(kernel_size=1)` behind a fused unit without dropout.
    AveragePoolConvolution,
}

impl Unit {
    /// The layer at `index` alone.
    pub(super) fn layer(index: usize) -> Unit {
        Unit { layers: index..index + 1, operation: Operation::Layer }
    }
}

/// How images are laid out between two units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    /// As in PyTorch: [N, C, H, W], or [N, features].
    Torch,
    /// [N, H, W, C padded] of so many channels.
    Packed(i64),
    /// As `Packed`; in training, with the numbers of a BatchNorm that is still to be applied.
    Rows(i64),
}

/// The channels that the kernels take at most, and what they pad them to a multiple of.
const MOST_CHANNELS: i64 = 32;
const GROUP: i64 = 16;

/// The layers cut into units, each as long as the fused kernels take it.
pub(super) fn units(layers: &[NamedLayer]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut at = 0;
    while at < layers.len() {
        let (count, operation) = fused_at(layers, at, units.last()).unwrap_or((1, Operation::Layer));
        units.push(Unit { layers: at..at + count, operation });
        at += count;
    }
    units
}

/// The fused operation that begins at the layer `at`, and of how many layers it is; `None` if none does.
fn fused_at(layers: &[NamedLayer], at: usize, previous: Option<&Unit>) -> Option<(usize, Operation)> {
    let kinds: Vec<Layer> = layers[at..].iter().take(4).map(|named| named.layer).collect();
    let input = if at == 0 { &[1, 28, 28][..] } else { &layers[at - 1].output };
    let behind = previous.map_or(Operation::Layer, |unit| unit.operation);
    match kinds[..] {
        [Layer::Conv2d(conv), Layer::ReLU, Layer::BatchNorm2d { eps: 1e-5, momentum: 0.1, .. }, ref rest @ ..]
            if is_block(conv, &layers[at].output, at == 0) =>
        {
            let dropout = match rest {
                [Layer::Dropout { p }, ..] => Some(*p),
                _ => None,
            };
            let count = 3 + usize::from(dropout.is_some());
            Some((count, Operation::ConvBlock { padding: conv.padding[0], dropout: dropout.unwrap_or(0.0) }))
        }
        [
            Layer::Conv2d(conv),
            Layer::MaxPool2d { kernel_size: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1], .. },
            ..,
        ] if behind != Operation::Layer && is_pointwise(conv) && is_even(&layers[at].output) => {
            Some((2, Operation::ConvolutionMaxPool))
        }
        [pool, Layer::Conv2d(conv), ..]
            if matches!(behind, Operation::ConvBlock { dropout: 0.0, .. })
                && is_global(pool, input)
                && is_pointwise(conv) =>
        {
            Some((2, Operation::AveragePoolConvolution))
        }
        _ => None,
    }
}

/// Whether the kernels take a convolution with such an output; the `first` one of a net reads the images themselves.
fn is_block(conv: Conv2d, output: &[i64], first: bool) -> bool {
    let side = conv.kernel_size[0];
    let is_square = conv.kernel_size == [side; 2] && conv.padding == [conv.padding[0]; 2];
    let input_fits = if first {
        side == 3 && conv.padding[0] == 0 && conv.in_channels == 1
    } else {
        conv.in_channels > 1 && conv.in_channels <= MOST_CHANNELS && conv.padding[0] < side
    };
    // Winograd's tiles are of 2x2 outputs.
    is_plain(conv)
        && is_square
        && input_fits
        && (side == 1 || side == 3 && is_even(output))
        && output[1] * output[2] >= 3
}

/// Whether it is a convolution of 1x1, of more than one channel: the kernels take one channel for the images themselves.
fn is_pointwise(conv: Conv2d) -> bool {
    is_plain(conv)
        && conv.kernel_size == [1, 1]
        && conv.padding == [0, 0]
        && (2..=MOST_CHANNELS).contains(&conv.in_channels)
}

fn is_plain(conv: Conv2d) -> bool {
    let Conv2d { stride, dilation, groups, bias, out_channels, .. } = conv;
    (stride, dilation, groups, bias) == ([1, 1], [1, 1], 1, false) && out_channels <= MOST_CHANNELS
}

fn is_even(output: &[i64]) -> bool {
    output[1] % 2 == 0 && output[2] % 2 == 0
}

/// Whether `pool` averages the whole of its input.
fn is_global(pool: Layer, input: &[i64]) -> bool {
    match pool {
        Layer::AvgPool2d { kernel_size, padding: [0, 0], .. } => kernel_size[..] == input[1..],
        Layer::AdaptiveAvgPool2d { output_size } => output_size == [1, 1] && input[1] * input[2] >= 3,
        _ => false,
    }
}

/// `x` as a fused operation reads it.
pub(super) fn packed(x: &Tensor, channels: i64) -> Tensor {
    let padding = (channels + GROUP - 1) / GROUP * GROUP - channels;
    x.permute([0, 2, 3, 1]).constant_pad_nd([0, padding]).contiguous()
}

/// `x` as libtorch's layers read it.
pub(super) fn unpacked(x: &Tensor, layout: Layout, train: bool) -> Tensor {
    let channels_first = |x: &Tensor, channels: i64| x.permute([0, 3, 1, 2]).narrow(1, 0, channels);
    match layout {
        Layout::Torch => x.shallow_clone(),
        Layout::Rows(channels) if train => {
            channels_first(&fused::normalise(x).expect("the output of a fused block"), channels)
        }
        Layout::Packed(channels) | Layout::Rows(channels) => channels_first(x, channels),
    }
}
