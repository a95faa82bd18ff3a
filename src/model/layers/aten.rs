//! A layer as a call of an ATen operator, which TorchScript and `.pt2` render each in their own way.

/// A call whose first argument is the layer's input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// The operator with its overload, such as `conv2d.default`.
    pub(crate) operator: &'static str,
    /// The name of the first argument, such as `self`.
    pub(crate) input: &'static str,
    /// The others, in the operator's order.
    pub(crate) arguments: Vec<Argument>,
    /// How the input is padded before the call, if it is.
    pub(crate) pad: Option<Pad>,
}

/// `F.pad`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pad {
    /// The columns on the left and on the right, the rows above and below.
    pub(crate) sides: [i64; 4],
    /// What they have in them, such as `reflect`.
    pub(crate) mode: &'static str,
}

impl Pad {
    /// The shape of an input of the shape [C, H, W] with its padding.
    pub(crate) fn output(&self, input: &[i64]) -> Vec<i64> {
        let [left, right, above, below] = self.sides;
        vec![input[0], input[1] + above + below, input[2] + left + right]
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
    /// `None` for an argument that a call must give.
    pub(crate) default: Option<Value>,
    /// Whether it can only be given by name.
    pub(crate) is_keyword: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Ints(Vec<i64>),
    Float(f64),
    Text(&'static str),
    /// A parameter or buffer of the layer.
    Variable(&'static str),
    /// Whether the net is in training mode.
    Training,
}

impl Call {
    pub(super) fn new(operator: &'static str, input: &'static str) -> Call {
        Call { operator, input, arguments: Vec::new(), pad: None }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Call {
        self.arguments.push(Argument { name, value: value.into(), default: None, is_keyword: false });
        self
    }

    pub(super) fn padded(self, pad: Option<Pad>) -> Call {
        Call { pad, ..self }
    }

    pub(super) fn optional<T: Into<Value>>(mut self, name: &'static str, value: T, default: T) -> Call {
        let default = Some(default.into());
        self.arguments.push(Argument { name, value: value.into(), default, is_keyword: false });
        self
    }

    pub(super) fn keyword<T: Into<Value>>(self, name: &'static str, value: T, default: T) -> Call {
        let mut call = self.optional(name, value, default);
        call.arguments.iter_mut().filter(|argument| argument.name == name).for_each(|it| it.is_keyword = true);
        call
    }

    /// The layer's own parameters and buffers, each under its name.
    pub(super) fn variables(self, names: &[&'static str]) -> Call {
        names.iter().fold(self, |call, name| call.with(name, Value::Variable(name)))
    }

    /// A parameter of the layer that may be missing.
    pub(super) fn optional_variable(self, name: &'static str, exists: bool) -> Call {
        self.optional(name, if exists { Value::Variable(name) } else { Value::None }, Value::None)
    }

    /// The operator without its overload.
    pub(crate) fn function(&self) -> &'static str {
        self.operator.split('.').next().unwrap_or(self.operator)
    }

    /// The arguments up to the last that differs from its default, as `torch.export` writes them.
    pub(crate) fn given(&self) -> &[Argument] {
        let is_default = |argument: &Argument| argument.default.as_ref() == Some(&argument.value);
        let end = self.arguments.iter().rposition(|argument| !is_default(argument)).map_or(0, |last| last + 1);
        &self.arguments[..end]
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl<const N: usize> From<[i64; N]> for Value {
    fn from(value: [i64; N]) -> Value {
        Value::Ints(value.to_vec())
    }
}

impl From<&[i64]> for Value {
    fn from(value: &[i64]) -> Value {
        Value::Ints(value.to_vec())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Float(value)
    }
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Value {
        Value::Text(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_given_up_to_the_last_that_is_not_the_default() {
        let call = Call::new("op.default", "self").with("size", 1).optional("a", 1, 1).optional("b", true, false);
        let names = |call: &Call| call.given().iter().map(|argument| argument.name).collect::<Vec<_>>();
        assert_eq!(names(&call), ["size", "a", "b"]);
        let call = Call::new("op.default", "self").with("size", 1).optional("a", 1, 1);
        assert_eq!((names(&call), call.function()), (vec!["size"], "op"));
    }
}
