//! The layers that a net can have: one file per kind, with everything that the program knows about it. To add one, write
//! its file and a line in the list at the end.

mod arguments;
pub(crate) mod aten;
pub(crate) mod onnx;
mod parameters;
mod windows;

pub(super) use arguments::{Argument, Arguments};
pub use conv2d::PaddingMode;
pub use gelu::Approximate;

use super::architecture::product;
use anyhow::{Result, bail, ensure};
use tch::Tensor;
use tch::nn::{self, Path, SequentialT};

/// The largest size that an argument can give. Sums and products of two such numbers stay far inside an i64.
const LARGEST: i64 = 1_000_000;

/// A class of `torch.nn`. Its fields have the names of PyTorch's arguments; a size is [height, width]. A shape is that of
/// an output without the batch: [C, H, W], or [features].
pub(super) trait LayerKind: Copy + Default {
    /// The file in `torch/nn/modules` that has the class.
    const FILE: &'static str;

    /// A small net with the layer, as in a net file. Every test of all layers trains and exports it.
    const EXAMPLE: &'static str;

    /// What its ATen operator computes of one image, without the batch, in evaluation mode: a JavaScript function that has
    /// the operator's name and takes its arguments, on the tensors of `src/page/net.js`. Empty for its input.
    const SCRIPT: &'static str;

    /// Shows each argument of the constructor to `call`, in PyTorch's order. `input` is the shape of the layer's input
    /// where it is known.
    fn arguments(&mut self, input: &[i64], call: &mut impl Arguments) -> Result<()>;

    /// Refuses arguments that `torch.nn` refuses for any input.
    ///
    /// # Errors
    ///
    /// One sentence with the argument's name and what it can be.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The shape of its output for an input of the shape `input`.
    ///
    /// # Errors
    ///
    /// One sentence if the layer does not take such an input, with what would fit.
    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(input.to_vec())
    }

    /// Its parameters and buffers, in the order of its state_dict. They are exactly those that [`LayerKind::add_to`] makes.
    fn variables(&self) -> Vec<Variable> {
        Vec::new()
    }

    /// The part of its input, of the shape `input`, that one number of its output depends on.
    fn window(&self, _input: &[i64]) -> Window {
        Window::Point
    }

    /// The products that it sums for one image, whose output has the shape `output`; without those of biases and
    /// normalisations.
    fn multiply_adds(&self, _output: &[i64]) -> i64 {
        0
    }

    /// Its place in the stages of a net.
    fn stage(&self) -> Stage {
        Stage::Continues
    }

    /// Adds tch's module for it to `net`. Its parameters and buffers are made below `path`, with the values that PyTorch's
    /// constructor gives them.
    fn add_to(&self, net: SequentialT, path: &Path) -> SequentialT;

    /// What it computes, as an ATen operator; `None` for its input.
    fn aten(&self) -> Option<aten::Call>;

    /// What it computes in evaluation mode of an input of the shape `input`, as operators of ONNX; none for its input.
    fn onnx(&self, input: &[i64]) -> Result<Vec<onnx::Node>>;
}

/// A parameter or buffer of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variable {
    /// Its name in the layer's state_dict.
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<i64>,
    /// Whether it is trained; else it is a buffer.
    pub(crate) is_parameter: bool,
}

/// The buffer of a BatchNorm that counts its training batches, an int64 scalar.
pub(crate) const NUM_BATCHES_TRACKED: &str = "num_batches_tracked";

/// The part of its input that one number of a layer's output depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Window {
    /// The number in the same place.
    Point,
    /// A window that moves over the image by `step`; `span` includes dilation.
    Moving { span: [i64; 2], step: [i64; 2] },
    /// All of it.
    Whole,
}

/// A layer's place in a stage: what a convolution or a linear layer makes of the images, once it went through activation,
/// normalisation and dropout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Begins,
    Continues,
    /// The layer moves pixels, and belongs to no stage.
    Ends,
}

/// `: write LAYER`, if that layer is a valid one.
fn instead(layer: impl Into<Layer>) -> String {
    let layer = layer.into();
    if layer.check().is_ok() { format!(": write {layer}") } else { String::new() }
}

/// Refuses a size below `least`, or one that no net has.
fn sizes(name: &str, sizes: &[i64], least: i64) -> Result<()> {
    for &size in sizes {
        ensure!((least..=LARGEST).contains(&size), "{name} is {size}: it must be from {least} to {LARGEST}");
    }
    Ok(())
}

/// Refuses a dropout that PyTorch refuses, and one that leaves nothing.
fn probability(p: f64) -> Result<()> {
    ensure!((0. ..1.).contains(&p), "p is {p}: it must be at least 0 and less than 1");
    Ok(())
}

/// A pool's stride is its kernel_size by default.
fn pool_stride(call: &mut impl Arguments, kernel_size: [i64; 2], stride: &mut [i64; 2]) -> Result<()> {
    let mut given = Some(*stride);
    call.optional("stride", Some(kernel_size), &mut given)?;
    *stride = given.unwrap_or(kernel_size);
    Ok(())
}

/// Refuses an eps by which nothing can be divided.
fn positive_eps(eps: f64) -> Result<()> {
    ensure!(eps > 0. && eps.is_finite(), "eps is {eps}: it must be above 0, such as 1e-05");
    Ok(())
}

/// A weight of this shape, and a bias with a number for each output.
fn weight_and_bias(weight: &[i64], bias: bool) -> Vec<Variable> {
    let parameter = |name, shape: &[i64]| Variable { name, shape: shape.to_vec(), is_parameter: true };
    let bias = bias.then(|| parameter("bias", &weight[..1]));
    std::iter::once(parameter("weight", weight)).chain(bias).collect()
}

/// Makes the enum [`Layer`] of all kinds, which does what each kind does.
macro_rules! kinds {
    ($($file:ident::$kind:ident),* $(,)?) => {
        $(mod $file; pub use $file::$kind;)*

        /// One layer of any kind.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Layer {
            $(#[doc = concat!("`nn.", stringify!($kind), "`")] $kind($kind),)*
        }

        $(impl From<$kind> for Layer {
            fn from(layer: $kind) -> Layer {
                Layer::$kind(layer)
            }
        })*

        impl Layer {
            /// A layer of each kind, before its arguments are set.
            pub(super) fn blanks() -> Vec<Layer> {
                vec![$(Layer::$kind($kind::default())),*]
            }

            /// The class of each kind in `torch.nn`, and a net with it.
            pub fn examples() -> [(&'static str, &'static str); [$(stringify!($kind)),*].len()] {
                [$((stringify!($kind), $kind::EXAMPLE)),*]
            }

            /// The name of its class in `torch.nn`.
            pub(crate) fn class(self) -> &'static str {
                match self { $(Layer::$kind(_) => stringify!($kind),)* }
            }

            /// The file in `torch/nn/modules` that has the class.
            pub(crate) fn file(self) -> &'static str {
                match self { $(Layer::$kind(_) => $kind::FILE,)* }
            }

            /// See [`LayerKind::SCRIPT`].
            pub(crate) fn script(self) -> &'static str {
                match self { $(Layer::$kind(_) => $kind::SCRIPT,)* }
            }

            /// See [`LayerKind::arguments`].
            pub(super) fn arguments(&mut self, input: &[i64], call: &mut impl Arguments) -> Result<()> {
                match self { $(Layer::$kind(layer) => layer.arguments(input, call),)* }
            }

            /// See [`LayerKind::check`].
            pub(super) fn check(self) -> Result<()> {
                match self { $(Layer::$kind(layer) => layer.check(),)* }
            }

            /// See [`LayerKind::output`].
            pub(super) fn output(self, input: &[i64]) -> Result<Vec<i64>> {
                match self { $(Layer::$kind(layer) => layer.output(input),)* }
            }

            /// See [`LayerKind::variables`].
            pub(crate) fn variables(self) -> Vec<Variable> {
                match self { $(Layer::$kind(layer) => layer.variables(),)* }
            }

            /// See [`LayerKind::window`].
            pub(super) fn window(self, input: &[i64]) -> Window {
                match self { $(Layer::$kind(layer) => layer.window(input),)* }
            }

            /// See [`LayerKind::multiply_adds`].
            pub(super) fn multiply_adds(self, output: &[i64]) -> i64 {
                match self { $(Layer::$kind(layer) => layer.multiply_adds(output),)* }
            }

            /// See [`LayerKind::stage`].
            pub(super) fn stage(self) -> Stage {
                match self { $(Layer::$kind(layer) => layer.stage(),)* }
            }

            /// See [`LayerKind::add_to`].
            pub(super) fn add_to(self, net: SequentialT, path: &Path) -> SequentialT {
                match self { $(Layer::$kind(layer) => layer.add_to(net, path),)* }
            }

            /// See [`LayerKind::aten`].
            pub(crate) fn aten(self) -> Option<aten::Call> {
                match self { $(Layer::$kind(layer) => layer.aten(),)* }
            }

            /// See [`LayerKind::onnx`].
            pub(crate) fn onnx(self, input: &[i64]) -> Result<Vec<onnx::Node>> {
                match self { $(Layer::$kind(layer) => layer.onnx(input),)* }
            }
        }
    };
}

kinds! {
    conv2d::Conv2d,
    batch_norm2d::BatchNorm2d,
    batch_norm1d::BatchNorm1d,
    group_norm::GroupNorm,
    layer_norm::LayerNorm,
    relu::ReLU,
    relu6::ReLU6,
    leaky_relu::LeakyReLU,
    prelu::PReLU,
    elu::ELU,
    gelu::GELU,
    silu::SiLU,
    tanh::Tanh,
    sigmoid::Sigmoid,
    dropout::Dropout,
    dropout2d::Dropout2d,
    max_pool2d::MaxPool2d,
    avg_pool2d::AvgPool2d,
    adaptive_avg_pool2d::AdaptiveAvgPool2d,
    flatten::Flatten,
    linear::Linear,
    identity::Identity,
    log_softmax::LogSoftmax,
}

impl Layer {
    /// The number of its trainable parameters.
    pub(crate) fn parameters(self) -> i64 {
        let parameters = self.variables().into_iter().filter(|variable| variable.is_parameter);
        parameters.fold(0, |sum: i64, variable| sum.saturating_add(product(&variable.shape)))
    }
}
