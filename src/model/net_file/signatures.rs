//! The constructors of `torch.nn` as a table: each argument with its name, its default and the field that it sets. Both
//! directions follow it: from a call to a [`Layer`], and from a `Layer` to the call that makes it.

use super::parser::Call;
use super::value::Value;
use crate::model::layers::{Conv2d, Layer};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// A layer of each class; [`visit`] sets its fields.
const BLANK: [Layer; 15] = {
    const PAIR: [i64; 2] = [0; 2];
    [
        Layer::Conv2d(Conv2d {
            in_channels: 0,
            out_channels: 0,
            kernel_size: PAIR,
            stride: PAIR,
            padding: PAIR,
            dilation: PAIR,
            groups: 0,
            bias: true,
        }),
        Layer::BatchNorm2d { num_features: 0, eps: 0., momentum: 0. },
        Layer::ReLU,
        Layer::LeakyReLU { negative_slope: 0. },
        Layer::GELU { tanh: false },
        Layer::SiLU,
        Layer::Dropout { p: 0. },
        Layer::Dropout2d { p: 0. },
        Layer::MaxPool2d { kernel_size: PAIR, stride: PAIR, padding: PAIR, dilation: PAIR, ceil_mode: false },
        Layer::AvgPool2d { kernel_size: PAIR, stride: PAIR, padding: PAIR, ceil_mode: false, count_include_pad: true },
        Layer::AdaptiveAvgPool2d { output_size: PAIR },
        Layer::Flatten,
        Layer::Linear { in_features: 0, out_features: 0, bias: true },
        Layer::Identity,
        Layer::LogSoftmax,
    ]
};

/// Shows each argument of the layer's constructor to `call`, in PyTorch's order. `input` is the shape of the layer's
/// input without the batch, where it is known.
fn visit(layer: &mut Layer, input: &[i64], call: &mut impl Arguments) -> Result<()> {
    match layer {
        Layer::Conv2d(conv) => {
            call.required("in_channels", &mut conv.in_channels)?;
            call.required("out_channels", &mut conv.out_channels)?;
            call.required("kernel_size", &mut conv.kernel_size)?;
            call.optional("stride", [1, 1], &mut conv.stride)?;
            let mut padding = Padding::Zeros(conv.padding);
            call.optional("padding", Padding::Zeros([0, 0]), &mut padding)?;
            call.optional("dilation", [1, 1], &mut conv.dilation)?;
            call.optional("groups", 1, &mut conv.groups)?;
            call.optional("bias", true, &mut conv.bias)?;
            call.only("padding_mode", Value::Text("zeros".to_string()))?;
            call.only("device", Value::None)?;
            call.only("dtype", Value::None)?;
            conv.padding = padding.resolve(conv)?;
        }
        Layer::BatchNorm2d { num_features, eps, momentum } => {
            call.required("num_features", num_features)?;
            call.optional("eps", 1e-5, eps)?;
            call.optional("momentum", 0.1, momentum)?;
            call.only("affine", Value::Bool(true))?;
            call.only("track_running_stats", Value::Bool(true))?;
            call.only("device", Value::None)?;
            call.only("dtype", Value::None)?;
        }
        Layer::ReLU | Layer::SiLU => call.optional("inplace", false, &mut false)?,
        Layer::LeakyReLU { negative_slope } => {
            call.optional("negative_slope", 0.01, negative_slope)?;
            call.optional("inplace", false, &mut false)?;
        }
        Layer::GELU { tanh } => {
            let mut approximate = Approximate { tanh: *tanh };
            call.optional("approximate", Approximate { tanh: false }, &mut approximate)?;
            *tanh = approximate.tanh;
        }
        Layer::Dropout { p } | Layer::Dropout2d { p } => {
            call.optional("p", 0.5, p)?;
            call.optional("inplace", false, &mut false)?;
        }
        Layer::MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode } => {
            call.required("kernel_size", kernel_size)?;
            optional_stride(call, *kernel_size, stride)?;
            call.optional("padding", [0, 0], padding)?;
            call.optional("dilation", [1, 1], dilation)?;
            call.only("return_indices", Value::Bool(false))?;
            call.optional("ceil_mode", false, ceil_mode)?;
        }
        Layer::AvgPool2d { kernel_size, stride, padding, ceil_mode, count_include_pad } => {
            call.required("kernel_size", kernel_size)?;
            optional_stride(call, *kernel_size, stride)?;
            call.optional("padding", [0, 0], padding)?;
            call.optional("ceil_mode", false, ceil_mode)?;
            call.optional("count_include_pad", true, count_include_pad)?;
            call.only("divisor_override", Value::None)?;
        }
        Layer::AdaptiveAvgPool2d { output_size } => {
            // None is the size of the input.
            let mut sizes = output_size.map(Some);
            call.required("output_size", &mut sizes)?;
            let [height, width] = if let [_, height, width] = *input { [height, width] } else { [1, 1] };
            *output_size = [sizes[0].unwrap_or(height), sizes[1].unwrap_or(width)];
        }
        Layer::Flatten => {
            let (mut start, mut end) = (1, -1);
            call.optional("start_dim", 1, &mut start)?;
            call.optional("end_dim", -1, &mut end)?;
            let is_whole = start == 1 && (end == -1 || end == input.len() as i64);
            ensure!(is_whole, "it must flatten all dimensions but the first: write Flatten()");
        }
        Layer::Linear { in_features, out_features, bias } => {
            call.required("in_features", in_features)?;
            call.required("out_features", out_features)?;
            call.optional("bias", true, bias)?;
            call.only("device", Value::None)?;
            call.only("dtype", Value::None)?;
        }
        Layer::Identity => {}
        Layer::LogSoftmax => {
            // Without a dim PyTorch takes 1 for inputs of two and of four dimensions, and warns.
            let mut dim = Some(1);
            call.optional("dim", None, &mut dim)?;
            let is_classes = dim.is_none_or(|dim| dim == 1 || dim == -(input.len() as i64));
            ensure!(is_classes, "it must be along the classes: write LogSoftmax(dim=1)");
        }
    }
    Ok(())
}

/// A pool's stride is its kernel_size by default.
fn optional_stride(call: &mut impl Arguments, kernel_size: [i64; 2], stride: &mut [i64; 2]) -> Result<()> {
    let mut given = Some(*stride);
    call.optional("stride", Some(kernel_size), &mut given)?;
    *stride = given.unwrap_or(kernel_size);
    Ok(())
}

/// The layer that `call` makes, for an input of this shape.
///
/// # Errors
///
/// One sentence about the class, or about an argument.
pub(super) fn read(call: &Call, input: &[i64]) -> Result<Layer> {
    let Some(mut layer) = BLANK.into_iter().find(|layer| layer.class() == call.class) else {
        let classes: Vec<&str> = BLANK.iter().map(|layer| layer.class()).collect();
        bail!("it is not a known layer{}", suggestion(call.class, &classes))
    };
    // nn.Identity takes any arguments and ignores them.
    if layer != Layer::Identity {
        let given = bound(call, &Signature::of(layer))?;
        visit(&mut layer, input, &mut Reader { given })?;
    }
    Ok(layer)
}

/// The layer as a call of Python, such as `Conv2d(1, 16, 3, bias=False)`: without what is the default.
impl Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = Writer::default();
        visit(&mut self.clone(), &[], &mut writer).map_err(|_| fmt::Error)?;
        write!(f, "{}({})", self.class(), writer.written.join(", "))
    }
}

/// What is done with the arguments of a constructor.
trait Arguments {
    /// An argument without a default.
    fn required<T: Argument>(&mut self, name: &'static str, field: &mut T) -> Result<()>;

    fn optional<T: Argument>(&mut self, name: &'static str, default: T, field: &mut T) -> Result<()>;

    /// An argument of PyTorch for which this program has only one value, the default.
    fn only(&mut self, name: &'static str, default: Value) -> Result<()>;
}

/// The names of a constructor's arguments.
#[derive(Default)]
struct Signature {
    all: Vec<&'static str>,
    required: Vec<&'static str>,
}

impl Signature {
    fn of(mut layer: Layer) -> Signature {
        let mut signature = Signature::default();
        visit(&mut layer, &[], &mut signature).expect("a signature reads nothing");
        signature
    }
}

impl Arguments for Signature {
    fn required<T: Argument>(&mut self, name: &'static str, _: &mut T) -> Result<()> {
        self.required.push(name);
        self.all.push(name);
        Ok(())
    }

    fn optional<T: Argument>(&mut self, name: &'static str, _: T, _: &mut T) -> Result<()> {
        self.all.push(name);
        Ok(())
    }

    fn only(&mut self, name: &'static str, _: Value) -> Result<()> {
        self.all.push(name);
        Ok(())
    }
}

/// The values of `call` by name, as Python binds them.
fn bound<'a>(call: &'a Call, signature: &Signature) -> Result<BTreeMap<&'a str, &'a Value>> {
    let (most, count) = (signature.all.len(), call.positional.len());
    ensure!(count <= most, "it gets {count} arguments and takes at most {most}");
    let mut given: BTreeMap<&str, &Value> = signature.all.iter().copied().zip(&call.positional).collect();
    for (name, value) in &call.keywords {
        ensure!(signature.all.contains(name), "{name} is not an argument{}", suggestion(name, &signature.all));
        ensure!(given.insert(name, value).is_none(), "{name} is given twice");
    }
    for name in &signature.required {
        let required = signature.required.join(", ");
        ensure!(given.contains_key(name), "{name} is missing: write {}({required})", call.class);
    }
    Ok(given)
}

/// The end of a sentence: what `word` may be meant as, the nearest of `known` or any of them.
fn suggestion(word: &str, known: &[&str]) -> String {
    let distance = |other: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &other.to_lowercase());
    match known.iter().min_by_key(|other| distance(other)) {
        Some(nearest) if 3 * distance(nearest) <= nearest.len() => format!(": did you mean {nearest}?"),
        _ => format!("; there are {}", known.join(", ")),
    }
}

/// Sets fields to the values of a call.
struct Reader<'a> {
    given: BTreeMap<&'a str, &'a Value>,
}

impl Reader<'_> {
    fn field<T: Argument>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.given.get(name) else { return Ok(None) };
        T::read(value).map(Some).with_context(|| format!("{name} is {value}: it must be {}", T::expected()))
    }
}

impl Arguments for Reader<'_> {
    fn required<T: Argument>(&mut self, name: &'static str, field: &mut T) -> Result<()> {
        *field = self.field(name)?.with_context(|| format!("{name} is missing"))?;
        Ok(())
    }

    fn optional<T: Argument>(&mut self, name: &'static str, default: T, field: &mut T) -> Result<()> {
        *field = self.field(name)?.unwrap_or(default);
        Ok(())
    }

    fn only(&mut self, name: &'static str, default: Value) -> Result<()> {
        match self.given.get(name) {
            Some(value) if **value != default => bail!("{name}={value} is not supported: leave it out"),
            _ => Ok(()),
        }
    }
}

/// Writes the call that makes a layer.
#[derive(Default)]
struct Writer {
    written: Vec<String>,
}

impl Arguments for Writer {
    fn required<T: Argument>(&mut self, _: &'static str, field: &mut T) -> Result<()> {
        self.written.push(field.value().to_string());
        Ok(())
    }

    fn optional<T: Argument>(&mut self, name: &'static str, default: T, field: &mut T) -> Result<()> {
        if *field != default {
            self.written.push(format!("{name}={}", field.value()));
        }
        Ok(())
    }

    fn only(&mut self, _: &'static str, _: Value) -> Result<()> {
        Ok(())
    }
}

/// The type of an argument.
trait Argument: Clone + PartialEq {
    fn expected() -> String;
    fn read(value: &Value) -> Option<Self>;
    fn value(&self) -> Value;
}

impl Argument for i64 {
    fn expected() -> String {
        "a whole number".to_string()
    }

    fn read(value: &Value) -> Option<i64> {
        if let Value::Int(number) = value { Some(*number) } else { None }
    }

    fn value(&self) -> Value {
        Value::Int(*self)
    }
}

impl Argument for f64 {
    fn expected() -> String {
        "a number".to_string()
    }

    fn read(value: &Value) -> Option<f64> {
        match value {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        Value::Float(*self)
    }
}

impl Argument for bool {
    fn expected() -> String {
        "True or False".to_string()
    }

    fn read(value: &Value) -> Option<bool> {
        if let Value::Bool(flag) = value { Some(*flag) } else { None }
    }

    fn value(&self) -> Value {
        Value::Bool(*self)
    }
}

/// One value for both dimensions, or a tuple of two.
impl<T: Argument> Argument for [T; 2] {
    fn expected() -> String {
        format!("{} or two of them, as in (3, 3)", T::expected())
    }

    fn read(value: &Value) -> Option<[T; 2]> {
        match value {
            Value::Tuple(values) => match &values[..] {
                [height, width] => Some([T::read(height)?, T::read(width)?]),
                _ => None,
            },
            // PyTorch takes (None, None) as an output_size, but not None alone.
            Value::None => None,
            _ => T::read(value).map(|both| [both.clone(), both]),
        }
    }

    fn value(&self) -> Value {
        let [height, width] = self;
        if height == width { height.value() } else { Value::Tuple(vec![height.value(), width.value()]) }
    }
}

impl<T: Argument> Argument for Option<T> {
    fn expected() -> String {
        format!("{} or None", T::expected())
    }

    fn read(value: &Value) -> Option<Option<T>> {
        if *value == Value::None { Some(None) } else { T::read(value).map(Some) }
    }

    fn value(&self) -> Value {
        self.as_ref().map_or(Value::None, Argument::value)
    }
}

/// The `padding` of `nn.Conv2d`.
#[derive(Clone, PartialEq)]
enum Padding {
    Zeros([i64; 2]),
    /// padding='same': the output has the size of the input.
    Same,
}

impl Padding {
    /// The rows and columns on each side of the input of `conv`.
    fn resolve(self, conv: &Conv2d) -> Result<[i64; 2]> {
        let Padding::Zeros(zeros) = self else {
            ensure!(conv.stride == [1, 1], "padding='same' needs stride=1, as in PyTorch");
            let spans = [0, 1].map(|axis| conv.dilation[axis].saturating_mul(conv.kernel_size[axis].saturating_sub(1)));
            let is_even = spans.iter().all(|span| span % 2 == 0);
            ensure!(is_even, "padding='same' needs an odd kernel_size: PyTorch pads an even one more on one side");
            return Ok(spans.map(|span| span / 2));
        };
        Ok(zeros)
    }
}

impl Argument for Padding {
    fn expected() -> String {
        format!("{}, or 'same' or 'valid'", <[i64; 2]>::expected())
    }

    fn read(value: &Value) -> Option<Padding> {
        match value {
            Value::Text(text) if text == "same" => Some(Padding::Same),
            Value::Text(text) if text == "valid" => Some(Padding::Zeros([0, 0])),
            _ => Argument::read(value).map(Padding::Zeros),
        }
    }

    fn value(&self) -> Value {
        match self {
            Padding::Zeros(zeros) => zeros.value(),
            Padding::Same => Value::Text("same".to_string()),
        }
    }
}

/// The `approximate` of `nn.GELU`.
#[derive(Clone, PartialEq)]
struct Approximate {
    tanh: bool,
}

impl Argument for Approximate {
    fn expected() -> String {
        "'none' or 'tanh'".to_string()
    }

    fn read(value: &Value) -> Option<Approximate> {
        match value {
            Value::Text(text) if text == "none" => Some(Approximate { tanh: false }),
            Value::Text(text) if text == "tanh" => Some(Approximate { tanh: true }),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        Value::Text(if self.tanh { "tanh" } else { "none" }.to_string())
    }
}
