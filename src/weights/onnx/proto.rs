//! The messages of `onnx.proto` (<https://onnx.ai/onnx/repo-docs/IR.html>) that a net needs, with their field numbers.

use super::super::{raw, tensor};
use anyhow::{Context, Result, bail};
use prost::Message;
use tch::{Kind, Tensor};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    #[prost(string, tag = "3")]
    pub(super) producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata_props: Vec<Property>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Property {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<Constant>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<Attribute>,
}

impl Node {
    pub(super) fn new(name: &str, op_type: &str, input: &[&str], attribute: Vec<Attribute>) -> Node {
        let input = input.iter().map(|name| name.to_string()).collect();
        Node { input, output: vec![name.into()], name: name.into(), op_type: op_type.into(), attribute }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(float, optional, tag = "2")]
    pub(super) f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(super) i: Option<i64>,
    #[prost(string, tag = "4")]
    pub(super) s: String,
    #[prost(message, optional, tag = "5")]
    pub(super) t: Option<Constant>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(super) ints: Vec<i64>,
    /// 1: `f`, 2: `i`, 3: `s`, 4: `t`, 7: `ints`.
    #[prost(int32, tag = "20")]
    pub(super) r#type: i32,
}

impl Attribute {
    pub(super) fn float(name: &str, f: f32) -> Attribute {
        Attribute { name: name.into(), f: Some(f), r#type: 1, ..Attribute::default() }
    }

    pub(super) fn int(name: &str, i: i64) -> Attribute {
        Attribute { name: name.into(), i: Some(i), r#type: 2, ..Attribute::default() }
    }

    pub(super) fn string(name: &str, s: &str) -> Attribute {
        Attribute { name: name.into(), s: s.into(), r#type: 3, ..Attribute::default() }
    }

    pub(super) fn tensor(name: &str, t: Constant) -> Attribute {
        Attribute { name: name.into(), t: Some(t), r#type: 4, ..Attribute::default() }
    }

    pub(super) fn ints(name: &str, ints: &[i64]) -> Attribute {
        Attribute { name: name.into(), ints: ints.to_vec(), r#type: 7, ..Attribute::default() }
    }
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Constant {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw_data: Vec<u8>,
}

/// `TensorProto.DataType`.
const TYPES: [(Kind, i32); 4] = [(Kind::Float, 1), (Kind::Int64, 7), (Kind::Half, 10), (Kind::Double, 11)];

impl Constant {
    pub(super) fn of(name: &str, tensor: &Tensor) -> Result<Constant> {
        let found = TYPES.iter().find(|(kind, _)| *kind == tensor.kind());
        let data_type = found.context("ONNX has no such type")?.1;
        Ok(Constant { dims: tensor.size(), data_type, name: name.into(), raw_data: raw(tensor)? })
    }

    pub(super) fn tensor(&self) -> Result<Tensor> {
        let Some((kind, _)) = TYPES.iter().find(|(_, data_type)| *data_type == self.data_type) else {
            bail!("its numbers have a type ({}) that is not read", self.data_type);
        };
        tensor(&self.raw_data, &self.dims, *kind)
    }
}

/// `ValueInfoProto`: the name, type and shape of an input or output.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Type {
    #[prost(message, optional, tag = "1")]
    pub(super) tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(super) elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub(super) dim: Vec<Dimension>,
}

/// A size, or the name of a size that is not fixed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub(super) dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(super) dim_param: Option<String>,
}

impl Value {
    /// float32 [N, sizes...] with any N.
    pub(super) fn of(name: &str, sizes: &[i64]) -> Value {
        let batch = Dimension { dim_value: None, dim_param: Some("N".into()) };
        let fixed = sizes.iter().map(|&size| Dimension { dim_value: Some(size), dim_param: None });
        let shape = Shape { dim: std::iter::once(batch).chain(fixed).collect() };
        let tensor_type = TensorType { elem_type: 1, shape: Some(shape) };
        Value { name: name.into(), r#type: Some(Type { tensor_type: Some(tensor_type) }) }
    }
}
