//! A layer with its tensors, on libtorch: how PyTorch draws them, and what it computes.

use super::layers::{Conv2d, Layer};
use crate::libtorch::activation::leaky_relu;
use tch::{Device, Kind, Tensor};

/// A layer with its parameters and buffers.
pub(super) struct Module {
    layer: Layer,
    /// In the order of [`names`].
    tensors: Vec<Tensor>,
}

impl Module {
    /// The layer as PyTorch's constructor makes it: weights are drawn from libtorch's default generator on the CPU, and
    /// then moved to `device`, as by `Net().to(device)`.
    pub(super) fn new(layer: Layer, device: Device) -> Module {
        let trainable = |tensor: Tensor| tensor.to_device(device).set_requires_grad(true);
        let buffer = |tensor: Tensor| tensor.to_device(device);
        let floats = (Kind::Float, Device::Cpu);
        let tensors = match layer {
            Layer::Conv2d(Conv2d { in_channels, out_channels, kernel_size: [height, width], groups, bias, .. }) => {
                let size = [out_channels, in_channels / groups, height, width];
                drawn(&size, bias).into_iter().map(trainable).collect()
            }
            Layer::Linear { in_features, out_features, bias } => {
                drawn(&[out_features, in_features], bias).into_iter().map(trainable).collect()
            }
            Layer::BatchNorm2d { num_features, .. } => vec![
                trainable(Tensor::ones([num_features], floats)),
                trainable(Tensor::zeros([num_features], floats)),
                buffer(Tensor::zeros([num_features], floats)),
                buffer(Tensor::ones([num_features], floats)),
                buffer(Tensor::zeros([0i64; 0], (Kind::Int64, Device::Cpu))),
            ],
            _ => Vec::new(),
        };
        Module { layer, tensors }
    }

    /// The same layer, sharing its tensors.
    pub(super) fn shallow_clone(&self) -> Module {
        Module { layer: self.layer, tensors: self.tensors.iter().map(Tensor::shallow_clone).collect() }
    }

    /// One of its tensors, in the order of its state_dict.
    pub(super) fn tensor(&self, index: usize) -> Tensor {
        self.tensors[index].shallow_clone()
    }

    /// Each tensor under its name in the layer's state_dict, in its order.
    pub(super) fn named_tensors(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        names(self.layer).iter().copied().zip(&self.tensors)
    }

    /// `num_batches_tracked` of a BatchNorm, which the net counts: [`Module::forward_t`] does not.
    pub(super) fn batch_count(&self) -> Option<&Tensor> {
        match self.layer {
            Layer::BatchNorm2d { .. } => Some(&self.tensors[4]),
            _ => None,
        }
    }

    /// The output for a batch. `train` switches BatchNorm and dropout.
    pub(super) fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let tensor = |index: usize| self.tensors.get(index);
        match self.layer {
            Layer::Conv2d(Conv2d { stride, padding, dilation, groups, .. }) => {
                x.conv2d(&self.tensors[0], tensor(1), stride, padding, dilation, groups)
            }
            Layer::BatchNorm2d { eps, momentum, .. } => {
                x.batch_norm(tensor(0), tensor(1), tensor(2), tensor(3), train, momentum, eps, true)
            }
            Layer::ReLU => x.relu(),
            Layer::LeakyReLU { negative_slope } => leaky_relu(x, negative_slope).expect("a slope for every number"),
            Layer::GELU { tanh } => x.gelu(if tanh { "tanh" } else { "none" }),
            Layer::SiLU => x.silu(),
            Layer::Dropout { p } => x.dropout(p, train),
            Layer::Dropout2d { p } => x.feature_dropout(p, train),
            Layer::MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode } => {
                x.max_pool2d(kernel_size, stride, padding, dilation, ceil_mode)
            }
            // Not tch's avg_pool2d_default: it passes divisor_override = 1, which sums instead of averaging.
            Layer::AvgPool2d { kernel_size, stride, padding, ceil_mode, count_include_pad } => {
                x.avg_pool2d(kernel_size, stride, padding, ceil_mode, count_include_pad, None)
            }
            Layer::AdaptiveAvgPool2d { output_size } => x.adaptive_avg_pool2d(output_size),
            Layer::Flatten => x.flatten(1, -1),
            Layer::Linear { .. } => x.linear(&self.tensors[0], tensor(1)),
            Layer::Identity => x.shallow_clone(),
            Layer::LogSoftmax => x.log_softmax(1, Kind::Float),
        }
    }
}

/// The names of the tensors in a layer's state_dict, in its order.
fn names(layer: Layer) -> &'static [&'static str] {
    match layer {
        // The bias is there if the layer has one.
        Layer::Conv2d(_) | Layer::Linear { .. } => &["weight", "bias"],
        Layer::BatchNorm2d { .. } => &["weight", "bias", "running_mean", "running_var", "num_batches_tracked"],
        _ => &[],
    }
}

/// The weight of a convolution or a linear layer, and its bias: `kaiming_uniform_(weight, a=sqrt(5))`, which is
/// Uniform(-b, b) with b = 1 / sqrt(fan_in), and the same for the bias.
fn drawn(size: &[i64], bias: bool) -> Vec<Tensor> {
    let uniform = |size: &[i64], bound: f64| Tensor::empty(size, (Kind::Float, Device::Cpu)).uniform_(-bound, bound);
    let fan_in = size[1..].iter().product::<i64>() as f64;
    // In PyTorch's order of rounding; tch's own default takes the gain of a ReLU, sqrt(6) times as large.
    let gain = (2.0 / (1.0 + 5.0f64.sqrt().powi(2))).sqrt();
    let mut tensors = vec![uniform(size, 3.0f64.sqrt() * (gain / fan_in.sqrt()))];
    if bias {
        tensors.push(uniform(&size[..1], 1.0 / fan_in.sqrt()));
    }
    tensors
}
