//! A layer as operators of ONNX (<https://onnx.ai/onnx/operators/>), in evaluation mode.

/// One operator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Its name among the layer's nodes; `None` for the last one, whose output is the layer's.
    pub(crate) name: Option<&'static str>,
    pub(crate) operator: &'static str,
    pub(crate) inputs: Vec<Input>,
    pub(crate) attributes: Vec<(&'static str, Attribute)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Input {
    /// The layer's input.
    Layer,
    /// A parameter or buffer of the layer.
    Variable(&'static str),
    /// The output of another of the layer's nodes.
    Node(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
    /// A tensor of float32.
    Floats {
        shape: Vec<i64>,
        values: Vec<f32>,
    },
    /// A tensor of int64 [n].
    Shape(Vec<i64>),
}

impl Node {
    /// The only operator of a layer, or its last one, on the layer's input.
    pub(super) fn new(operator: &'static str) -> Node {
        Node { name: None, operator, inputs: vec![Input::Layer], attributes: Vec::new() }
    }

    /// A number that is not one of the net's weights.
    pub(super) fn scalar(name: &'static str, value: f32) -> Node {
        Node::constant(name, Attribute::Floats { shape: vec![], values: vec![value] })
    }

    /// A tensor of numbers that are not the net's weights.
    pub(super) fn floats(name: &'static str, shape: &[i64], values: Vec<f32>) -> Node {
        Node::constant(name, Attribute::Floats { shape: shape.to_vec(), values })
    }

    /// The shape of a tensor.
    pub(super) fn shape(name: &'static str, sizes: Vec<i64>) -> Node {
        Node::constant(name, Attribute::Shape(sizes))
    }

    fn constant(name: &'static str, value: Attribute) -> Node {
        Node { name: Some(name), operator: "Constant", inputs: vec![], attributes: vec![("value", value)] }
    }

    pub(super) fn named(self, name: &'static str) -> Node {
        Node { name: Some(name), ..self }
    }

    /// The same operator on other inputs.
    pub(super) fn on(self, inputs: &[Input]) -> Node {
        Node { inputs: inputs.to_vec(), ..self }
    }

    /// Adds parameters or buffers of the layer to the inputs.
    pub(super) fn variables(mut self, names: &[&'static str]) -> Node {
        self.inputs.extend(names.iter().map(|name| Input::Variable(name)));
        self
    }

    /// The weight of the layer, and its bias if it has one.
    pub(super) fn weight_and_bias(self, bias: bool) -> Node {
        self.variables(if bias { &["weight", "bias"] } else { &["weight"] })
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<Attribute>) -> Node {
        self.attributes.push((name, value.into()));
        self
    }

    /// An attribute that is left out where it has ONNX's `default`.
    pub(super) fn unless<T: Into<Attribute> + PartialEq>(self, default: T, name: &'static str, value: T) -> Node {
        if value == default { self } else { self.with(name, value) }
    }

    /// The attributes that pools share.
    pub(super) fn pool(self, kernel_size: [i64; 2], stride: [i64; 2], padding: [i64; 2], ceil_mode: bool) -> Node {
        self.with("kernel_shape", kernel_size).with("strides", stride).unless([0; 4], "pads", both(padding)).unless(
            0,
            "ceil_mode",
            i64::from(ceil_mode),
        )
    }
}

/// The padding at the beginning of each axis, then at the end.
pub(super) fn both([height, width]: [i64; 2]) -> [i64; 4] {
    [height, width, height, width]
}

impl From<i64> for Attribute {
    fn from(value: i64) -> Attribute {
        Attribute::Int(value)
    }
}

impl<const N: usize> From<[i64; N]> for Attribute {
    fn from(value: [i64; N]) -> Attribute {
        Attribute::Ints(value.to_vec())
    }
}

impl From<f64> for Attribute {
    fn from(value: f64) -> Attribute {
        Attribute::Float(value as f32)
    }
}

impl From<&'static str> for Attribute {
    fn from(value: &'static str) -> Attribute {
        Attribute::Text(value)
    }
}
