//! The layers that a net can have, with the arguments that the classes of `torch.nn` take.

use anyhow::{Result, bail, ensure};

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

    /// The shape of its output, without the batch, for an input of the shape `input`: [C, H, W], or [features].
    ///
    /// # Errors
    ///
    /// One sentence if the layer does not take such an input, with what would fit.
    pub(crate) fn output(self, input: &[i64]) -> Result<Vec<i64>> {
        match self {
            Layer::Conv2d(conv) => {
                let [channels, size @ ..] = image(input)?;
                ensure!(channels == conv.in_channels, "it takes {} channels and gets {channels}", conv.in_channels);
                let [height, width] =
                    windows(size, conv.kernel_size, conv.stride, conv.padding, conv.dilation, false)?;
                Ok(vec![conv.out_channels, height, width])
            }
            Layer::BatchNorm2d { num_features, .. } => {
                let [channels, ..] = image(input)?;
                ensure!(channels == num_features, "it takes {num_features} channels and gets {channels}");
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
            Layer::Flatten => Ok(vec![input.iter().product()]),
            Layer::Linear { in_features, out_features, .. } => {
                let [features] = *input else { bail!("it takes a row of features: put a Flatten() before it") };
                ensure!(features == in_features, "it takes {in_features} features and gets {features}");
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

    /// The window that the layer moves over its input, if it has one: how far it spans (dilation included) and its step.
    pub(crate) fn window(self, input: &[i64]) -> Option<([i64; 2], [i64; 2])> {
        let spans = |kernel: [i64; 2], dilation: [i64; 2]| [0, 1].map(|axis| dilation[axis] * (kernel[axis] - 1) + 1);
        match self {
            Layer::Conv2d(conv) => Some((spans(conv.kernel_size, conv.dilation), conv.stride)),
            Layer::MaxPool2d { kernel_size, stride, dilation, .. } => Some((spans(kernel_size, dilation), stride)),
            Layer::AvgPool2d { kernel_size, stride, .. } => Some((kernel_size, stride)),
            // Where the sizes divide, as nearly always, the window of an average pool; else the widest that there is.
            Layer::AdaptiveAvgPool2d { output_size } => {
                let [_, height, width] = *input else { return None };
                let widest = |size: i64, outputs: i64| (size + outputs - 1) / outputs;
                let step = [height / output_size[0], width / output_size[1]];
                Some(([widest(height, output_size[0]), widest(width, output_size[1])], step.map(|step| step.max(1))))
            }
            _ => None,
        }
    }
}

/// An image's shape, [C, H, W].
fn image(shape: &[i64]) -> Result<[i64; 3]> {
    match *shape {
        [channels, height, width] => Ok([channels, height, width]),
        _ => bail!("it takes images, and gets a row of {} features", shape.iter().product::<i64>()),
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
        let span = dilation[axis] * (kernel_size[axis] - 1) + 1;
        let room = size[axis] + 2 * padding[axis] - span;
        ensure!(
            room >= 0,
            "its {}x{} window does not fit an image of {}x{}",
            kernel_size[0],
            kernel_size[1],
            size[0],
            size[1]
        );
        let extra = if ceil_mode { stride[axis] - 1 } else { 0 };
        output[axis] = (room + extra) / stride[axis] + 1;
        // PyTorch drops a last window that would begin in the padding on the far side.
        if ceil_mode && (output[axis] - 1) * stride[axis] >= size[axis] + padding[axis] {
            output[axis] -= 1;
        }
    }
    Ok(output)
}
