//! The arguments of a constructor of `torch.nn`: each kind of layer shows its own, once, and is read and written by it.

use crate::model::net_file::Value;
use anyhow::Result;

/// What is done with the arguments of a constructor: they are listed, read from a call, or written as one.
pub(in crate::model) trait Arguments {
    /// An argument without a default.
    fn required<T: Argument>(&mut self, name: &'static str, field: &mut T) -> Result<()>;

    fn optional<T: Argument>(&mut self, name: &'static str, default: T, field: &mut T) -> Result<()>;

    /// An argument of PyTorch for which this program has only one value, the default.
    fn only(&mut self, name: &'static str, default: Value) -> Result<()>;

    /// The constructor takes any arguments and ignores them.
    fn anything(&mut self) -> Result<()> {
        Ok(())
    }

    /// `inplace` changes no result.
    fn inplace(&mut self) -> Result<()> {
        self.optional("inplace", false, &mut false)
    }

    /// `device` and `dtype`, which a net gets as a whole.
    fn factory(&mut self) -> Result<()> {
        self.only("device", Value::None)?;
        self.only("dtype", Value::None)
    }
}

/// The type of an argument.
pub(in crate::model) trait Argument: Clone + PartialEq {
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
