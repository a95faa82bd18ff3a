//! ONNX: the net as a graph of operators (<https://onnx.ai/onnx/operators/>), for ONNX Runtime and whatever else runs
//! it.

use super::formats::Weights;
use super::tensors::array;
use crate::data::{MEAN, STD};
use crate::model::NamedLayer;
use crate::model::layers::onnx::{self, Input};
use crate::shape::{CLASSES, SIDE};
use anyhow::Result;
use std::collections::BTreeMap;
use tch::Tensor;
use torch_weights::onnx::{Attribute, Constant, Graph, Model, Node, OperatorSet, Property, Value};

/// The version of the file format, and of the operators: ONNX 1.17, which ONNX Runtime reads since version 1.20.
const IR_VERSION: i64 = 10;
const OPSET: i64 = 22;

const INPUT: &str = "images";
const OUTPUT: &str = "log_probabilities";

/// The nodes after the layers.
const FLATTEN: &str = "flatten";
const LOG_SOFTMAX: &str = "log_softmax";

/// The graph's own names, which a layer may have too.
const OWN: [&str; 4] = [INPUT, OUTPUT, FLATTEN, LOG_SOFTMAX];

/// The file of the net in evaluation mode: images [N, 1, 28, 28] to log-probabilities [N, 10].
pub(super) fn render(weights: &Weights) -> Result<Vec<u8>> {
    let mut metadata = weights.metadata.clone();
    metadata.insert("normalisation".into(), format!("(byte / 255 - {MEAN}) / {STD}, white digits on black"));
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph(weights)?),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: properties(metadata),
    };
    Ok(model.to_bytes())
}

fn properties(metadata: BTreeMap<String, String>) -> Vec<Property> {
    metadata.into_iter().map(|(key, value)| Property { key, value }).collect()
}

/// The graph: each layer's nodes, the last of them named after it, the weights under their names in the state_dict.
fn graph(weights: &Weights) -> Result<Graph> {
    let images = [1, SIDE as i64, SIDE as i64];
    let mut nodes = Vec::new();
    let (mut last, mut shape) = (INPUT.to_string(), images.as_slice());
    for layer in weights.architecture.layers() {
        nodes.extend(layer_nodes(layer, &last, shape)?);
        last = nodes.last().map_or(last, |node: &Node| node.name.clone());
        shape = &layer.output;
    }
    nodes.push(Node::new(FLATTEN, "Flatten", &[&last], vec![Attribute::int("axis", 1)]));
    if !weights.architecture.ends_in_log_softmax() {
        nodes.push(Node::new(LOG_SOFTMAX, "LogSoftmax", &[FLATTEN], vec![Attribute::int("axis", -1)]));
    }
    if let Some(node) = nodes.last_mut() {
        node.output = vec![OUTPUT.into()];
    }
    // The count of batches has no part in evaluation.
    let used = weights.state_dict.0.iter().filter(|(key, _)| nodes.iter().any(|node| node.input.contains(key)));
    let initializer = used.map(|(key, tensor)| Ok(Constant::of(key, &array(tensor)?))).collect::<Result<_>>()?;
    Ok(Graph {
        name: "Net".into(),
        input: vec![Value::of(INPUT, &images)],
        output: vec![Value::of(OUTPUT, &[CLASSES as i64])],
        node: nodes,
        initializer,
    })
}

/// The nodes of a layer for `input`, a batch of this shape. The last one has the layer's path as its name and its
/// output's. What does nothing in evaluation has none.
fn layer_nodes(NamedLayer { path, layer, .. }: &NamedLayer, input: &str, shape: &[i64]) -> Result<Vec<Node>> {
    // The graph has names of its own. No layer and no weight is called `path.output` where `path` is a layer.
    let name = if OWN.contains(&path.as_str()) { format!("{path}.output") } else { path.clone() };
    let node = |node: onnx::Node| {
        let inputs = node.inputs.iter().map(|source| match source {
            Input::Layer => input.to_string(),
            Input::Variable(name) | Input::Node(name) => format!("{path}.{name}"),
        });
        let name = node.name.map_or_else(|| name.clone(), |part| format!("{path}.{part}"));
        let attributes = node.attributes.iter().map(|(name, value)| attribute(name, value)).collect::<Result<_>>()?;
        Ok(Node { input: inputs.collect(), ..Node::new(&name, node.operator, &[], attributes) })
    };
    layer.onnx(shape)?.into_iter().map(node).collect()
}

fn attribute(name: &str, value: &onnx::Attribute) -> Result<Attribute> {
    Ok(match value {
        onnx::Attribute::Int(number) => Attribute::int(name, *number),
        onnx::Attribute::Ints(numbers) => Attribute::ints(name, numbers),
        onnx::Attribute::Float(number) => Attribute::float(name, *number),
        onnx::Attribute::Text(text) => Attribute::string(name, text),
        onnx::Attribute::Floats { shape, values } => {
            let tensor = Tensor::from_slice(values).f_view(shape.as_slice())?;
            Attribute::tensor(name, Constant::of("", &array(&tensor)?))
        }
        onnx::Attribute::Shape(sizes) => Attribute::tensor(name, Constant::of("", &array(&Tensor::from_slice(sizes))?)),
    })
}
