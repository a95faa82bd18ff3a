//! Units: consecutive layers that are computed in one go. On libtorch's kernels each layer is one; the fused kernels take
//! several at a time.

use super::architecture::NamedLayer;
use super::layers::{AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Conv2d, Dropout, Layer, MaxPool2d, PaddingMode};
use std::ops::Range;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit {
    /// Which layers of the net.
    pub(super) layers: Range<usize>,
    /// The operation of the fused kernels that computes them; `None` for one layer, by libtorch.
    pub(super) fused: Option<Operation>,
}

/// An operation of the fused kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    /// `Conv2d -> ReLU -> BatchNorm2d -> Dropout`; the last one may be missing.
    ConvBlock { padding: i64, dropout: f64 },
    /// `Conv2d(kernel_size=1) -> MaxPool2d(2)` behind a fused unit.
    ConvolutionMaxPool,
    /// A pool over the whole image `-> Conv2d(kernel_size=1)` behind a fused unit without dropout.
    AveragePoolConvolution,
}

impl Unit {
    /// The layer at `index`, by libtorch.
    pub(super) fn layer(index: usize) -> Unit {
        Unit { layers: index..index + 1, fused: None }
    }
}

/// The most channels that the kernels take.
const MOST_CHANNELS: i64 = 32;

/// The layers cut into units, each as long as the fused kernels take it.
pub(super) fn units(layers: &[NamedLayer]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut at = 0;
    while at < layers.len() {
        let unit = match fused_at(layers, at, units.last().and_then(|unit| unit.fused)) {
            Some((count, operation)) => Unit { layers: at..at + count, fused: Some(operation) },
            None => Unit::layer(at),
        };
        at = unit.layers.end;
        units.push(unit);
    }
    units
}

/// The number of layers that the fused kernels take from the layer `at` on, and their operation. `previous` is that of the
/// unit before.
fn fused_at(layers: &[NamedLayer], at: usize, previous: Option<Operation>) -> Option<(usize, Operation)> {
    let kinds: Vec<Layer> = layers[at..].iter().take(4).map(|named| named.layer).collect();
    let input = if at == 0 { &[1, 28, 28][..] } else { &layers[at - 1].output };
    match kinds[..] {
        [
            Layer::Conv2d(conv),
            Layer::ReLU(_),
            Layer::BatchNorm2d(BatchNorm2d { eps: 1e-5, momentum: 0.1, affine: true, .. }),
            ref rest @ ..,
        ] if is_block(conv, &layers[at].output, at == 0) => {
            let dropout = match rest {
                [Layer::Dropout(Dropout { p }), ..] => Some(*p),
                _ => None,
            };
            let count = 3 + usize::from(dropout.is_some());
            Some((count, Operation::ConvBlock { padding: conv.padding[0], dropout: dropout.unwrap_or(0.0) }))
        }
        [
            Layer::Conv2d(conv),
            Layer::MaxPool2d(MaxPool2d {
                kernel_size: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1], ..
            }),
            ..,
        ] if previous.is_some() && is_pointwise(conv) && is_even(&layers[at].output) => {
            Some((2, Operation::ConvolutionMaxPool))
        }
        [pool, Layer::Conv2d(conv), ..]
            if matches!(previous, Some(Operation::ConvBlock { dropout: 0.0, .. }))
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
    let Conv2d { stride, dilation, groups, bias, padding_mode, out_channels, .. } = conv;
    let has_zeros = padding_mode == PaddingMode::Zeros;
    has_zeros && (stride, dilation, groups, bias) == ([1, 1], [1, 1], 1, false) && out_channels <= MOST_CHANNELS
}

fn is_even(output: &[i64]) -> bool {
    output[1] % 2 == 0 && output[2] % 2 == 0
}

/// Whether `pool` averages the whole of its input.
fn is_global(pool: Layer, input: &[i64]) -> bool {
    match pool {
        Layer::AvgPool2d(AvgPool2d { kernel_size, padding: [0, 0], .. }) => kernel_size[..] == input[1..],
        Layer::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output_size }) => {
            output_size == [1, 1] && input[1] * input[2] >= 3
        }
        _ => false,
    }
}
