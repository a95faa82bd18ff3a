//! The messages of `onnx.proto` (<https://onnx.ai/onnx/repo-docs/IR.html>) that a net needs, with their field numbers.

#![allow(missing_docs)]

use crate::text::shown;
use crate::{Array, Dtype};
use anyhow::{Context, Result};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Property>,
}

impl Model {
    /// The bytes of its file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Property {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Constant>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

impl Node {
    pub fn new(name: &str, op_type: &str, input: &[&str], attribute: Vec<Attribute>) -> Node {
        let input = input.iter().map(|name| name.to_string()).collect();
        Node { input, output: vec![name.into()], name: name.into(), op_type: op_type.into(), attribute }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(string, tag = "4")]
    pub s: String,
    #[prost(message, optional, tag = "5")]
    pub t: Option<Constant>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// 1: `f`, 2: `i`, 3: `s`, 4: `t`, 7: `ints`.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

impl Attribute {
    pub fn float(name: &str, f: f32) -> Attribute {
        Attribute { name: name.into(), f: Some(f), r#type: 1, ..Attribute::default() }
    }

    pub fn int(name: &str, i: i64) -> Attribute {
        Attribute { name: name.into(), i: Some(i), r#type: 2, ..Attribute::default() }
    }

    pub fn string(name: &str, s: &str) -> Attribute {
        Attribute { name: name.into(), s: s.into(), r#type: 3, ..Attribute::default() }
    }

    /// An attribute with a tensor.
    pub fn tensor(name: &str, t: Constant) -> Attribute {
        Attribute { name: name.into(), t: Some(t), r#type: 4, ..Attribute::default() }
    }

    pub fn ints(name: &str, ints: &[i64]) -> Attribute {
        Attribute { name: name.into(), ints: ints.to_vec(), r#type: 7, ..Attribute::default() }
    }
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Constant {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Property>,
    /// 1: the numbers are in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// `TensorProto.DataType`.
const TYPES: [(Dtype, i32); 10] = [
    (Dtype::F32, 1),
    (Dtype::U8, 2),
    (Dtype::I8, 3),
    (Dtype::I16, 5),
    (Dtype::I32, 6),
    (Dtype::I64, 7),
    (Dtype::Bool, 9),
    (Dtype::F16, 10),
    (Dtype::F64, 11),
    (Dtype::BF16, 16),
];

/// Where the numbers are in another file.
pub(super) struct Place<'a> {
    pub(super) location: &'a str,
    pub(super) offset: usize,
    pub(super) length: Option<usize>,
}

impl Constant {
    /// The constant of this name.
    pub fn of(name: &str, array: &Array) -> Constant {
        let (_, data_type) = TYPES.iter().find(|(dtype, _)| *dtype == array.dtype()).expect("every type is there");
        Constant {
            dims: array.shape().iter().map(|&size| size as i64).collect(),
            data_type: *data_type,
            name: name.into(),
            raw_data: array.bytes().to_vec(),
            ..Constant::default()
        }
    }

    /// Where its numbers are, if they are not here.
    pub(super) fn external(&self) -> Result<Option<Place<'_>>> {
        if self.data_location != 1 {
            return Ok(None);
        }
        let value = |key: &str| self.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
        let number = |text: &String| {
            text.parse()
                .ok()
                .with_context(|| format!("{} is at a place that is no number: {}", shown(&self.name), shown(text)))
        };
        let location =
            value("location").with_context(|| format!("{} is in a file that is not named", shown(&self.name)))?;
        let offset = value("offset").map(number).transpose()?.unwrap_or(0);
        Ok(Some(Place { location, offset, length: value("length").map(number).transpose()? }))
    }

    /// Its array; `numbers` are its bytes if another file has them.
    pub(super) fn array(&self, numbers: Option<Vec<u8>>) -> Result<Array> {
        let found = TYPES.iter().find(|(_, data_type)| *data_type == self.data_type);
        let (dtype, _) =
            found.with_context(|| format!("its numbers have a type ({}) that is not read", self.data_type))?;
        Array::from_sizes(*dtype, &self.dims, numbers.unwrap_or_else(|| self.own_numbers(*dtype)))
    }

    /// The bytes of its numbers, which are in one of several fields.
    fn own_numbers(&self, dtype: Dtype) -> Vec<u8> {
        match dtype {
            Dtype::F32 if !self.float_data.is_empty() => {
                self.float_data.iter().flat_map(|number| number.to_le_bytes()).collect()
            }
            Dtype::I64 if !self.int64_data.is_empty() => {
                self.int64_data.iter().flat_map(|number| number.to_le_bytes()).collect()
            }
            Dtype::F64 if !self.double_data.is_empty() => {
                self.double_data.iter().flat_map(|number| number.to_le_bytes()).collect()
            }
            _ => self.raw_data.clone(),
        }
    }
}

/// `ValueInfoProto`: the name, type and shape of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// A size, or the name of a size that is not fixed.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

impl Value {
    /// float32 [N, sizes...] with any N.
    pub fn of(name: &str, sizes: &[i64]) -> Value {
        let batch = Dimension { dim_value: None, dim_param: Some("N".into()) };
        let fixed = sizes.iter().map(|&size| Dimension { dim_value: Some(size), dim_param: None });
        let shape = Shape { dim: std::iter::once(batch).chain(fixed).collect() };
        let tensor_type = TensorType { elem_type: 1, shape: Some(shape) };
        Value { name: name.into(), r#type: Some(Type { tensor_type: Some(tensor_type) }) }
    }
}
