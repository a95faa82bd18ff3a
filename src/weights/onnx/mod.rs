//! ONNX: the net as a graph of operators (<https://onnx.ai/onnx/operators/>), for ONNX Runtime and whatever else runs
//! it.

mod proto;

use super::format::{Contents, Dict, Entry, Format, Weights};
use crate::data::{MEAN, STD};
use crate::model::{Layer, NamedLayer};
use crate::shape::{CLASSES, SIDE};
use anyhow::{Context, Result, bail};
use prost::Message;
use proto::{Attribute, Constant, Graph, Model, Node, OperatorSet, Property, Value};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

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
            graph: Some(graph(weights)?),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
            metadata_props: properties(metadata),
        };
        Ok(model.encode_to_vec())
    }
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
    let initializer = used.map(|(key, tensor)| Constant::of(key, tensor)).collect::<Result<_>>()?;
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
fn layer_nodes(layer: &NamedLayer, input: &str, shape: &[i64]) -> Result<Vec<Node>> {
    let path = &layer.path;
    // The graph has names of its own. No layer and no weight is called `path.output` where `path` is a layer.
    let name = if OWN.contains(&path.as_str()) { format!("{path}.output") } else { path.clone() };
    let node = |operator, attributes| vec![Node::new(&name, operator, &[input], attributes)];
    let with_own = |operator, parameters: &[&str], attributes| {
        let mut node = Node::new(&name, operator, &[input], attributes);
        node.input.extend(parameters.iter().map(|parameter| format!("{path}.{parameter}")));
        vec![node]
    };
    let weight_and_bias = |bias| if bias { &["weight", "bias"][..] } else { &["weight"] };
    Ok(match layer.layer {
        Layer::Conv2d(conv) => {
            let mut attributes =
                vec![Attribute::ints("kernel_shape", &conv.kernel_size), Attribute::ints("pads", &both(conv.padding))];
            attributes.extend(Attribute::unless_default("strides", conv.stride));
            attributes.extend(Attribute::unless_default("dilations", conv.dilation));
            attributes.extend((conv.groups > 1).then(|| Attribute::int("group", conv.groups)));
            with_own("Conv", weight_and_bias(conv.bias), attributes)
        }
        Layer::Linear { bias, .. } => with_own("Gemm", weight_and_bias(bias), vec![Attribute::int("transB", 1)]),
        Layer::BatchNorm2d { eps, .. } => with_own(
            "BatchNormalization",
            &["weight", "bias", "running_mean", "running_var"],
            vec![Attribute::float("epsilon", eps as f32)],
        ),
        Layer::ReLU => node("Relu", vec![]),
        Layer::LeakyReLU { negative_slope } => {
            node("LeakyRelu", vec![Attribute::float("alpha", negative_slope as f32)])
        }
        Layer::GELU { tanh } => {
            node("Gelu", vec![Attribute::string("approximate", if tanh { "tanh" } else { "none" })])
        }
        Layer::SiLU => {
            let sigmoid = format!("{path}.sigmoid");
            vec![Node::new(&sigmoid, "Sigmoid", &[input], vec![]), Node::new(&name, "Mul", &[input, &sigmoid], vec![])]
        }
        Layer::MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode } => {
            let mut attributes = window(kernel_size, stride, padding, ceil_mode);
            attributes.extend(Attribute::unless_default("dilations", dilation));
            node("MaxPool", attributes)
        }
        Layer::AvgPool2d { kernel_size, stride, padding, ceil_mode, count_include_pad } => {
            let mut attributes = window(kernel_size, stride, padding, ceil_mode);
            let counts = count_include_pad && padding != [0, 0];
            attributes.extend(counts.then(|| Attribute::int("count_include_pad", 1)));
            node("AveragePool", attributes)
        }
        Layer::AdaptiveAvgPool2d { output_size } => adaptive_pool(&name, input, shape, output_size)?,
        Layer::Flatten => node("Flatten", vec![Attribute::int("axis", 1)]),
        Layer::LogSoftmax => node("LogSoftmax", vec![Attribute::int("axis", 1)]),
        Layer::Dropout { .. } | Layer::Dropout2d { .. } | Layer::Identity => vec![],
    })
}

/// The attributes that the pools share.
fn window(kernel_size: [i64; 2], stride: [i64; 2], padding: [i64; 2], ceil_mode: bool) -> Vec<Attribute> {
    let mut attributes = vec![Attribute::ints("kernel_shape", &kernel_size), Attribute::ints("strides", &stride)];
    attributes.extend((padding != [0, 0]).then(|| Attribute::ints("pads", &both(padding))));
    attributes.extend(ceil_mode.then(|| Attribute::int("ceil_mode", 1)));
    attributes
}

/// The padding at the beginning of each axis, then at the end.
fn both([height, width]: [i64; 2]) -> [i64; 4] {
    [height, width, height, width]
}

/// `nn.AdaptiveAvgPool2d`, which ONNX does not have: an average pool where the sizes divide, else a product with a
/// matrix of averages on each side.
fn adaptive_pool(name: &str, input: &str, shape: &[i64], output: [i64; 2]) -> Result<Vec<Node>> {
    let [_, height, width] = *shape else { bail!("{name} takes images") };
    if output == [1, 1] {
        return Ok(vec![Node::new(name, "GlobalAveragePool", &[input], vec![])]);
    }
    if height % output[0] == 0 && width % output[1] == 0 {
        let size = [height / output[0], width / output[1]];
        return Ok(vec![Node::new(name, "AveragePool", &[input], window(size, size, [0, 0], false))]);
    }
    let [rows, columns, narrow] = ["rows", "columns", "narrow"].map(|part| format!("{name}.{part}"));
    Ok(vec![
        Node::constant(&rows, &averages(height, output[0]))?,
        Node::constant(&columns, &averages(width, output[1]).tr())?,
        Node::new(&narrow, "MatMul", &[input, &columns], vec![]),
        Node::new(name, "MatMul", &[&rows, &narrow], vec![]),
    ])
}

/// The matrix [outputs, inputs] that averages `inputs` numbers in PyTorch's `outputs` windows, which may overlap.
fn averages(inputs: i64, outputs: i64) -> Tensor {
    let matrix = Tensor::zeros([outputs, inputs], (Kind::Float, Device::Cpu));
    for window in 0..outputs {
        let start = window * inputs / outputs;
        let end = ((window + 1) * inputs + outputs - 1) / outputs;
        let _ = matrix.get(window).narrow(0, start, end - start).fill_(1.0 / (end - start) as f64);
    }
    matrix
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
