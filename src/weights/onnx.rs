//! ONNX: the net as a graph of operators, for ONNX Runtime and whatever else runs it.
//!
//! The messages below are the part of `onnx.proto` (<https://onnx.ai/onnx/repo-docs/IR.html>) that this net needs, with its field
//! numbers. Operators: <https://onnx.ai/onnx/operators/>.

use super::format::{Contents, Dict, Entry, Format, Weights};
use super::{raw, tensor};
use crate::data::{MEAN, STD};
use crate::model::{Layer, StateDict, blocks};
use crate::shape::{CLASSES, SIDE};
use anyhow::{Context, Result, bail};
use prost::Message;
use std::collections::BTreeMap;
use tch::Kind;

/// The version of the file format, and of the operators: ONNX 1.17, which ONNX Runtime reads since version 1.20.
const IR_VERSION: i64 = 10;
const OPSET: i64 = 22;

const INPUT: &str = "images";
const OUTPUT: &str = "log_probabilities";

/// The net in evaluation mode: images [N, 1, 28, 28] to log-probabilities [N, 10].
pub(super) struct Onnx;

impl Format for Onnx {
    fn name(&self) -> &'static str {
        "ONNX model"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["onnx"]
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        // Field 1, the version, comes first in every model.
        bytes.first() == Some(&0x08) && Model::decode(bytes).is_ok_and(|model| model.graph.is_some())
    }

    fn read(&self, bytes: &[u8]) -> Result<Contents> {
        let model = Model::decode(bytes).context("it is damaged")?;
        let initializers = model.graph.map_or_else(Vec::new, |graph| graph.initializer);
        let entry = |constant: Constant| match constant.tensor() {
            Ok(tensor) => (constant.name, Entry::Tensor(tensor)),
            Err(error) => (constant.name, Entry::Unreadable(format!("{error:#}"))),
        };
        let entries = initializers.into_iter().map(entry).collect();
        let metadata = model.metadata_props.into_iter().map(|property| (property.key, property.value)).collect();
        Ok(Contents { dicts: vec![Dict { path: String::new(), entries }], metadata, hint: None })
    }

    fn write(&self, weights: &Weights) -> Result<Vec<u8>> {
        let mut metadata = weights.metadata.clone();
        metadata.insert("normalisation".into(), format!("(byte / 255 - {MEAN}) / {STD}, white digits on black"));
        let model = Model {
            ir_version: IR_VERSION,
            producer_name: env!("CARGO_PKG_NAME").into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph(&weights.state_dict)?),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
            metadata_props: properties(metadata),
        };
        Ok(model.encode_to_vec())
    }
}

fn properties(metadata: BTreeMap<String, String>) -> Vec<Property> {
    metadata.into_iter().map(|(key, value)| Property { key, value }).collect()
}

/// The graph: a node per layer, each named after it, the weights under their names in the state_dict.
fn graph(weights: &StateDict) -> Result<Graph> {
    let mut nodes = Vec::new();
    let mut last = INPUT.to_string();
    // Dropout does nothing in evaluation, and is left out.
    for block in blocks(0.0) {
        for (index, layer) in block.layers.iter().enumerate() {
            let name = format!("{}.{index}", block.name);
            if let Some(node) = node(&name, layer, &last) {
                last = name;
                nodes.push(node);
            }
        }
    }
    nodes.push(Node::new("flatten", "Flatten", &[&last], vec![Attribute::int("axis", 1)]));
    let mut log_softmax = Node::new("log_softmax", "LogSoftmax", &["flatten"], vec![Attribute::int("axis", -1)]);
    log_softmax.output = vec![OUTPUT.into()];
    nodes.push(log_softmax);
    // The count of batches has no part in evaluation.
    let used = weights.0.iter().filter(|(key, _)| nodes.iter().any(|node| node.input.contains(key)));
    let initializer = used.map(|(key, tensor)| Constant::of(key, tensor)).collect::<Result<_>>()?;
    let side = SIDE as i64;
    Ok(Graph {
        name: "Net".into(),
        input: vec![Value::of(INPUT, &[1, side, side])],
        output: vec![Value::of(OUTPUT, &[CLASSES as i64])],
        node: nodes,
        initializer,
    })
}

/// The node of a layer, whose output has the layer's name.
fn node(name: &str, layer: &Layer, input: &str) -> Option<Node> {
    let own = |parameter: &str| format!("{name}.{parameter}");
    let square = |attribute: &str, size: i64| Attribute::ints(attribute, &[size, size]);
    Some(match *layer {
        Layer::Conv2d { kernel, padding, .. } => {
            let attributes = vec![square("kernel_shape", kernel), Attribute::ints("pads", &[padding; 4])];
            Node::new(name, "Conv", &[input, &own("weight")], attributes)
        }
        Layer::ReLU => Node::new(name, "Relu", &[input], vec![]),
        Layer::BatchNorm2d { .. } => {
            let [weight, bias, mean, var] = ["weight", "bias", "running_mean", "running_var"].map(own);
            Node::new(
                name,
                "BatchNormalization",
                &[input, &weight, &bias, &mean, &var],
                vec![Attribute::float("epsilon", 1e-5)],
            )
        }
        Layer::Dropout { .. } => return None,
        Layer::MaxPool2d { kernel } => {
            Node::new(name, "MaxPool", &[input], vec![square("kernel_shape", kernel), square("strides", kernel)])
        }
        Layer::AvgPool2d { kernel } => {
            Node::new(name, "AveragePool", &[input], vec![square("kernel_shape", kernel), square("strides", kernel)])
        }
    })
}

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<Property>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Property {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Constant>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

impl Node {
    fn new(name: &str, op_type: &str, input: &[&str], attribute: Vec<Attribute>) -> Node {
        let input = input.iter().map(|name| name.to_string()).collect();
        Node { input, output: vec![name.into()], name: name.into(), op_type: op_type.into(), attribute }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    /// 1: `f`, 2: `i`, 7: `ints`.
    #[prost(int32, tag = "20")]
    r#type: i32,
}

impl Attribute {
    fn float(name: &str, f: f32) -> Attribute {
        Attribute { name: name.into(), f: Some(f), r#type: 1, ..Attribute::default() }
    }

    fn int(name: &str, i: i64) -> Attribute {
        Attribute { name: name.into(), i: Some(i), r#type: 2, ..Attribute::default() }
    }

    fn ints(name: &str, ints: &[i64]) -> Attribute {
        Attribute { name: name.into(), ints: ints.to_vec(), r#type: 7, ..Attribute::default() }
    }
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
struct Constant {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

/// `TensorProto.DataType`.
const TYPES: [(Kind, i32); 4] = [(Kind::Float, 1), (Kind::Int64, 7), (Kind::Half, 10), (Kind::Double, 11)];

impl Constant {
    fn of(name: &str, tensor: &tch::Tensor) -> Result<Constant> {
        let found = TYPES.iter().find(|(kind, _)| *kind == tensor.kind());
        let data_type = found.context("ONNX has no such type")?.1;
        Ok(Constant { dims: tensor.size(), data_type, name: name.into(), raw_data: raw(tensor)? })
    }

    fn tensor(&self) -> Result<tch::Tensor> {
        let Some((kind, _)) = TYPES.iter().find(|(_, data_type)| *data_type == self.data_type) else {
            bail!("its numbers have a type ({}) that is not read", self.data_type);
        };
        tensor(&self.raw_data, &self.dims, *kind)
    }
}

/// `ValueInfoProto`: the name, type and shape of an input or output.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

/// A size, or the name of a size that is not fixed.
#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

impl Value {
    /// float32 [N, sizes...] with any N.
    fn of(name: &str, sizes: &[i64]) -> Value {
        let batch = Dimension { dim_value: None, dim_param: Some("N".into()) };
        let fixed = sizes.iter().map(|&size| Dimension { dim_value: Some(size), dim_param: None });
        let shape = Shape { dim: std::iter::once(batch).chain(fixed).collect() };
        let tensor_type = TensorType { elem_type: 1, shape: Some(shape) };
        Value { name: name.into(), r#type: Some(Type { tensor_type: Some(tensor_type) }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&[0x08, 10, 0x3a][..], &bytes].concat();
            if Onnx.recognises(&bytes) {
                let _ = Onnx.read(&bytes);
            }
        }
    }
}
