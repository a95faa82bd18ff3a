//! Which layers the fused kernels take: a block of the net as one operation.

use super::layers::Layer;
use super::state_dict::Entry;
use crate::libtorch::fused;
use tch::Tensor;
use tch::nn::{self, SequentialT};

/// A block's output as PyTorch has it, [N, C, H, W] with `channels` channels; the last block's [N, C] stays as it is.
pub(super) fn unpacked(output: &Tensor, channels: i64) -> Tensor {
    match output.dim() {
        4 => output.permute([0, 3, 1, 2]).narrow(1, 0, channels),
        _ => output.shallow_clone(),
    }
}

/// A block of `layers` on the fused kernels, sharing the tensors in `entries`; `previous` are the layers of the block before.
pub(super) fn block(layers: &[Layer], previous: &[Layer], entries: &[Entry]) -> SequentialT {
    let tensor = |index: usize| entries[index].tensor.shallow_clone();
    match *layers {
        [Layer::Conv2d { padding, .. }, Layer::ReLU, Layer::BatchNorm2d { .. }, ref rest @ ..] => {
            let dropout = if let [Layer::Dropout { p }] = *rest { p } else { 0. };
            nn::seq_t().add(fused::ConvBlock {
                weight: tensor(0),
                gamma: tensor(1),
                beta: tensor(2),
                running_mean: tensor(3),
                running_var: tensor(4),
                num_batches_tracked: tensor(5),
                padding,
                dropout,
                plain: matches!(previous, [Layer::MaxPool2d { .. }]),
            })
        }
        // A pool and the 1x1 convolution next to it are one operation, in the convolution's place.
        [Layer::MaxPool2d { .. } | Layer::AvgPool2d { .. }] => nn::seq_t(),
        [Layer::Conv2d { .. }] => {
            let weight = tensor(0);
            let averages = matches!(previous, [Layer::AvgPool2d { .. }]);
            let operation = if averages { fused::average_pool_convolution } else { fused::convolution_max_pool };
            nn::seq_t().add_fn_t(move |x, train| operation(x, &weight, train).expect("a fused block"))
        }
        ref other => unreachable!("{other:?} has no fused form"),
    }
}
