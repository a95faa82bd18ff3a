//! The layers that a net can have, with the arguments that the classes of `torch.nn` take.

use super::architecture::product;
use anyhow::{Result, bail, ensure};

/// The largest size that an argument can give. Sums and products of two such numbers stay far inside an i64.
const LARGEST: i64 = 1_000_000;

/// One layer. A field has the name of the argument in PyTorch; a size is [height, width].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// `nn.Conv2d`
    Conv2d(Conv2d),
    /// `nn.BatchNorm2d`, affine and with running statistics
    BatchNorm2d { num_features: i64, eps: f64, momentum: f64 },
    /// `nn.ReLU`
    ReLU,
    /// `nn.LeakyReLU`
    LeakyReLU { negative_slope: f64 },
    /// `nn.GELU`, exact or with approximate="tanh"
    GELU { tanh: bool },
    /// `nn.SiLU`
    SiLU,
    /// `nn.Dropout`
    Dropout { p: f64 },
    /// `nn.Dropout2d`
    Dropout2d { p: f64 },
    /// `nn.MaxPool2d`
    MaxPool2d { kernel_size: [i64; 2], stride: [i64; 2], padding: [i64; 2], dilation: [i64; 2], ceil_mode: bool },
    /// `nn.AvgPool2d`
    AvgPool2d { kernel_size: [i64; 2], stride: [i64; 2], padding: [i64; 2], ceil_mode: bool, count_include_pad: bool },
    /// `nn.AdaptiveAvgPool2d`
    AdaptiveAvgPool2d { output_size: [i64; 2] },
    /// `nn.Flatten()`: all dimensions but the first
    Flatten,
    /// `nn.Linear`
    Linear { in_features: i64, out_features: i64, bias: bool },
    /// `nn.Identity`
    Identity,
    /// `nn.LogSoftmax(dim=1)`
    LogSoftmax,
}

/// The arguments of `nn.Conv2d`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv2d {
    pub in_channels: i64,
    pub out_channels: i64,
    pub kernel_size: [i64; 2],
    pub stride: [i64; 2],
    /// Rows and columns of zeros on each side.
    pub padding: [i64; 2],
    pub dilation: [i64; 2],
    pub groups: i64,
    pub bias: bool,
}

impl Layer {
    /// The name of its class in `torch.nn`.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Layer::Conv2d(_) => "Conv2d",
            Layer::BatchNorm2d { .. } => "BatchNorm2d",
            Layer::ReLU => "ReLU",
            Layer::LeakyReLU { .. } => "LeakyReLU",
            Layer::GELU { .. } => "GELU",
            Layer::SiLU => "SiLU",
            Layer::Dropout { .. } => "Dropout",
            Layer::Dropout2d { .. } => "Dropout2d",
            Layer::MaxPool2d { .. } => "MaxPool2d",
            Layer::AvgPool2d { .. } => "AvgPool2d",
            Layer::AdaptiveAvgPool2d { .. } => "AdaptiveAvgPool2d",
            Layer::Flatten => "Flatten",
            Layer::Linear { .. } => "Linear",
            Layer::Identity => "Identity",
            Layer::LogSoftmax => "LogSoftmax",
        }
    }

    /// Refuses arguments that `torch.nn` refuses for any input.
    ///
    /// # Errors
    ///
    /// One sentence with the argument's name and what it can be.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Layer::Conv2d(conv) => conv.check(),
            Layer::BatchNorm2d { num_features, eps, momentum } => {
                sizes("num_features", &[num_features], 1)?;
                ensure!(eps > 0. && eps.is_finite(), "eps is {eps}: it must be above 0, such as 1e-05");
                ensure!((0. ..=1.).contains(&momentum), "momentum is {momentum}: it must be from 0 to 1, such as 0.1");
                Ok(())
            }
            Layer::LeakyReLU { negative_slope } => {
                ensure!(negative_slope.is_finite(), "negative_slope is {negative_slope}: it must be a number");
                Ok(())
            }
            Layer::Dropout { p } | Layer::Dropout2d { p } => {
                ensure!((0. ..1.).contains(&p), "p is {p}: it must be at least 0 and less than 1");
                Ok(())
            }
            Layer::MaxPool2d { kernel_size, stride, padding, dilation, .. } => {
                sizes("dilation", &dilation, 1)?;
                check_pool(kernel_size, stride, padding)
            }
            Layer::AvgPool2d { kernel_size, stride, padding, .. } => check_pool(kernel_size, stride, padding),
            Layer::AdaptiveAvgPool2d { output_size } => sizes("output_size", &output_size, 1),
            Layer::Linear { in_features, out_features, .. } => {
                sizes("in_features", &[in_features], 1)?;
                sizes("out_features", &[out_features], 1)
            }
            Layer::ReLU | Layer::GELU { .. } | Layer::SiLU | Layer::Flatten | Layer::Identity | Layer::LogSoftmax => {
                Ok(())
            }
        }
    }

    /// The number of its trainable parameters.
    pub(crate) fn parameters(self) -> i64 {
        match self {
            Layer::Conv2d(conv) => {
                let inputs = conv.in_channels / conv.groups;
                product(&[conv.out_channels, inputs, conv.kernel_size[0], conv.kernel_size[1]])
                    .saturating_add(if conv.bias { conv.out_channels } else { 0 })
            }
            Layer::BatchNorm2d { num_features, .. } => 2 * num_features,
            Layer::Linear { in_features, out_features, bias } => {
                product(&[in_features, out_features]).saturating_add(if bias { out_features } else { 0 })
            }
            _ => 0,
        }
    }

    /// The shape of its output, without the batch, for an input of the shape `input`: [C, H, W], or [features].
    ///
    /// # Errors
    ///
    /// One sentence if the layer does not take such an input, with what would fit.
    pub(crate) fn output(self, input: &[i64]) -> Result<Vec<i64>> {
        match self {
            Layer::Conv2d(conv) => {
                let [channels, size @ ..] = image(input)?;
                ensure!(
                    channels == conv.in_channels,
                    "it takes {} channels and gets {channels}{}",
                    conv.in_channels,
                    instead(conv.for_channels(channels))
                );
                let [height, width] = windows(size, conv.kernel_size, conv.stride, conv.padding, conv.dilation, false)?;
                Ok(vec![conv.out_channels, height, width])
            }
            Layer::BatchNorm2d { num_features, eps, momentum } => {
                let [channels, ..] = image(input)?;
                ensure!(
                    channels == num_features,
                    "it takes {num_features} channels and gets {channels}{}",
                    instead(Layer::BatchNorm2d { num_features: channels, eps, momentum })
                );
                Ok(input.to_vec())
            }
            Layer::MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode } => {
                let [channels, size @ ..] = image(input)?;
                let [height, width] = windows(size, kernel_size, stride, padding, dilation, ceil_mode)?;
                Ok(vec![channels, height, width])
            }
            Layer::AvgPool2d { kernel_size, stride, padding, ceil_mode, .. } => {
                let [channels, size @ ..] = image(input)?;
                let [height, width] = windows(size, kernel_size, stride, padding, [1, 1], ceil_mode)?;
                Ok(vec![channels, height, width])
            }
            Layer::AdaptiveAvgPool2d { output_size: [height, width] } => {
                let [channels, ..] = image(input)?;
                Ok(vec![channels, height, width])
            }
            Layer::Flatten => Ok(vec![product(input)]),
            Layer::Linear { in_features, out_features, bias } => {
                let [features] = *input else { bail!("it takes a row of features: put Flatten() before it") };
                ensure!(
                    features == in_features,
                    "it takes {in_features} features and gets {features}{}",
                    instead(Layer::Linear { in_features: features, out_features, bias })
                );
                Ok(vec![out_features])
            }
            Layer::Dropout2d { .. } => {
                image(input)?;
                Ok(input.to_vec())
            }
            Layer::ReLU | Layer::LeakyReLU { .. } | Layer::GELU { .. } | Layer::SiLU => Ok(input.to_vec()),
            Layer::Dropout { .. } | Layer::Identity | Layer::LogSoftmax => Ok(input.to_vec()),
        }
    }

    /// The window that the layer moves over its input, if it has one: how far it spans (dilation included) and its
    /// step.
    pub(crate) fn window(self, input: &[i64]) -> Option<([i64; 2], [i64; 2])> {
        let spans = |kernel: [i64; 2], dilation: [i64; 2]| [0, 1].map(|axis| dilation[axis] * (kernel[axis] - 1) + 1);
        match self {
            Layer::Conv2d(conv) => Some((spans(conv.kernel_size, conv.dilation), conv.stride)),
            Layer::MaxPool2d { kernel_size, stride, dilation, .. } => Some((spans(kernel_size, dilation), stride)),
            Layer::AvgPool2d { kernel_size, stride, .. } => Some((kernel_size, stride)),
            // Where the sizes divide, as nearly always, the window of an average pool; else the widest that there is.
            Layer::AdaptiveAvgPool2d { output_size } => {
                let [_, height, width] = *input else { return None };
                let step = [height / output_size[0], width / output_size[1]];
                let widest = [widest(height, output_size[0]), widest(width, output_size[1])];
                Some((widest, step.map(|step| step.max(1))))
            }
            _ => None,
        }
    }
}

impl Conv2d {
    fn check(self) -> Result<()> {
        sizes("in_channels", &[self.in_channels], 1)?;
        sizes("out_channels", &[self.out_channels], 1)?;
        sizes("kernel_size", &self.kernel_size, 1)?;
        sizes("stride", &self.stride, 1)?;
        sizes("padding", &self.padding, 0)?;
        sizes("dilation", &self.dilation, 1)?;
        sizes("groups", &[self.groups], 1)?;
        for (name, channels) in [("in_channels", self.in_channels), ("out_channels", self.out_channels)] {
            ensure!(channels % self.groups == 0, "groups is {}: it must divide {name}, {channels}", self.groups);
        }
        Ok(())
    }

    /// The same convolution for an input of so many channels. A depthwise one has a group for each.
    fn for_channels(self, channels: i64) -> Layer {
        let is_depthwise = self.groups > 1 && self.groups == self.in_channels;
        Layer::Conv2d(if is_depthwise {
            let out_channels = (self.out_channels / self.in_channels).saturating_mul(channels);
            Conv2d { in_channels: channels, out_channels, groups: channels, ..self }
        } else {
            Conv2d { in_channels: channels, ..self }
        })
    }
}

/// `: write LAYER`, if that layer is a valid one.
fn instead(layer: Layer) -> String {
    if layer.check().is_ok() { format!(": write {layer}") } else { String::new() }
}

/// Refuses a size below `least`, or one that no net has.
fn sizes(name: &str, sizes: &[i64], least: i64) -> Result<()> {
    for &size in sizes {
        ensure!((least..=LARGEST).contains(&size), "{name} is {size}: it must be from {least} to {LARGEST}");
    }
    Ok(())
}

fn check_pool(kernel_size: [i64; 2], stride: [i64; 2], padding: [i64; 2]) -> Result<()> {
    sizes("kernel_size", &kernel_size, 1)?;
    sizes("stride", &stride, 1)?;
    sizes("padding", &padding, 0)?;
    for (padding, kernel) in padding.into_iter().zip(kernel_size) {
        ensure!(
            padding <= kernel / 2,
            "padding is {padding}: a pool of kernel_size {kernel} takes at most half of that, {}",
            kernel / 2
        );
    }
    Ok(())
}

/// An image's shape, [C, H, W].
fn image(shape: &[i64]) -> Result<[i64; 3]> {
    match *shape {
        [channels, height, width] => Ok([channels, height, width]),
        _ => bail!("it takes images and gets a row of {} features: put it before the Flatten()", product(shape)),
    }
}

/// How many windows fit, by PyTorch's formula.
fn windows(
    size: [i64; 2],
    kernel_size: [i64; 2],
    stride: [i64; 2],
    padding: [i64; 2],
    dilation: [i64; 2],
    ceil_mode: bool,
) -> Result<[i64; 2]> {
    let mut output = [0; 2];
    for axis in [0, 1] {
        let padded = size[axis] + 2 * padding[axis];
        let extra = if ceil_mode { stride[axis] - 1 } else { 0 };
        let room = padded - (dilation[axis] * (kernel_size[axis] - 1) + 1) + extra;
        ensure!(
            room >= 0,
            "its kernel of {} does not fit into {}: kernel_size can be at most {} there",
            kernel_size[axis],
            side_text(axis, size[axis], padding[axis], dilation[axis]),
            (padded - 1) / dilation[axis] + 1
        );
        output[axis] = room / stride[axis] + 1;
        // PyTorch drops a last window that would begin in the padding on the far side.
        if ceil_mode && (output[axis] - 1) * stride[axis] >= size[axis] + padding[axis] {
            output[axis] -= 1;
        }
    }
    Ok(output)
}

/// The widest window of an adaptive pool: number i of `outputs` begins at floor(i * size / outputs), and ends before
/// ceil((i + 1) * size / outputs).
fn widest(size: i64, outputs: i64) -> i64 {
    let width = |index: i64| ((index + 1) * size + outputs - 1) / outputs - index * size / outputs;
    (0..outputs).map(width).max().unwrap_or(size)
}

/// `a height of 4`, with what else decides how large a kernel can be.
fn side_text(axis: usize, size: i64, padding: i64, dilation: i64) -> String {
    let mut text = format!("a {} of {size}", ["height", "width"][axis]);
    if padding > 0 {
        text += &format!(" with padding {padding}");
    }
    if dilation > 1 {
        text += &format!(" at dilation {dilation}");
    }
    text
}
