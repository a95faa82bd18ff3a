//! The program of a `.pt2` file, generated from the list of layers: ATen operators, tensors and signature, as
//! `torch/_export/serde/schema.py` defines them.

use super::super::formats::{Weights, is_parameter};
use super::super::tensors::dtype;
use crate::libtorch::LIBTORCH_VERSION;
use crate::model::layers::aten::{self, Argument};
use crate::model::{NamedLayer, StateDict};
use crate::shape::{CLASSES, SIDE};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use tch::{Kind, Tensor};
use torch_weights::pt2::{contiguous, scalar_type};

/// The names that are neither a weight's nor a layer's.
const INPUT: &str = "x";
const VIEW: &str = "view";
const LOG_SOFTMAX: &str = "log_softmax";

/// `models/model.json`: the net in evaluation mode.
pub(super) fn program(weights: &Weights) -> Result<Value> {
    let state_dict = sorted(&weights.state_dict);
    let names = names(weights, &state_dict);
    let argument = |key: &String| &names[key];
    let mut tensors = serde_json::Map::new();
    for (key, tensor) in &state_dict {
        let meta = meta(tensor.kind(), &sizes(&tensor.size()), &tensor.size(), is_parameter(key))?;
        tensors.insert(argument(key).clone(), meta);
    }
    let side = SIDE as i64;
    tensors.insert(INPUT.into(), batch_of(&[1, side, side])?);
    let mut program =
        Program { names: &names, nodes: Vec::new(), tensors, last: INPUT.into(), shape: vec![1, side, side] };
    for layer in weights.architecture.layers() {
        program.layer(layer)?;
    }
    let classes = CLASSES as i64;
    program.add("view.default", VIEW, "self", vec![input("size", ints(&[-1, classes]), false)], &[classes])?;
    if !weights.architecture.ends_in_log_softmax() {
        program.add("log_softmax.int", LOG_SOFTMAX, "self", vec![input("dim", int(-1), false)], &[classes])?;
    }

    let spec = |key: &String| match is_parameter(key) {
        true => json!({"parameter": {"arg": {"name": argument(key)}, "parameter_name": key}}),
        false => json!({"buffer": {"arg": {"name": argument(key)}, "buffer_name": key, "persistent": true}}),
    };
    let inputs = state_dict.iter().map(|(key, _)| named(argument(key))).chain([named(INPUT)]);
    let specs = state_dict.iter().map(|(key, _)| spec(key)).chain([json!({"user_input": {"arg": named(INPUT)}})]);
    Ok(json!({
        "graph_module": {
            "graph": {
                "inputs": inputs.collect::<Vec<_>>(),
                "outputs": [named(&program.last)],
                "nodes": program.nodes,
                "tensor_values": program.tensors,
                "sym_int_values": {},
                "sym_bool_values": {},
                "is_single_tensor_return": false,
                "custom_obj_values": {},
                "sym_float_values": {},
            },
            "signature": {
                "input_specs": specs.collect::<Vec<_>>(),
                "output_specs": [{"user_output": {"arg": named(&program.last)}}],
            },
            "module_call_graph": [{"fqn": "", "signature": call_signature()}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s0": {"min_val": 0, "max_val": null}},
        "schema_version": {"major": 8, "minor": 17},
        "verifiers": ["TRAINING"],
        "torch_version": LIBTORCH_VERSION,
        "guards_code": [],
    }))
}

/// Parameters first, then buffers, each in the order of the state_dict.
fn sorted(weights: &StateDict) -> Vec<&(String, Tensor)> {
    let (parameters, buffers): (Vec<_>, Vec<_>) = weights.0.iter().partition(|(key, _)| is_parameter(key));
    [parameters, buffers].concat()
}

/// Where [`names`] has that of the padded input of the layer at `path`.
fn padded(path: &str) -> String {
    format!("{path}.padded")
}

/// The names in the program: of the weights by key, `p_convblock1_0_weight`, or `b_...` for a buffer, and of the layers
/// by path, `convblock1_0`. Each is an identifier in Python and there once.
fn names(weights: &Weights, state_dict: &[&(String, Tensor)]) -> HashMap<String, String> {
    let tensors = state_dict.iter().map(|(key, _)| (key.clone(), if is_parameter(key) { "p_" } else { "b_" }));
    let layers = weights.architecture.layers().iter().flat_map(|layer| {
        let is_number = layer.path.starts_with(|first: char| first.is_ascii_digit());
        let names = [layer.path.clone(), padded(&layer.path)];
        names.map(|name| (name, if is_number { "_" } else { "" }))
    });
    let mut taken: HashSet<String> = [INPUT, VIEW, LOG_SOFTMAX].map(String::from).into();
    let mut names = HashMap::new();
    for (path, prefix) in tensors.chain(layers) {
        let mut name = format!("{prefix}{}", path.replace('.', "_"));
        while !taken.insert(name.clone()) {
            name.push('_');
        }
        names.insert(path, name);
    }
    names
}

pub(super) fn sizes(size: &[i64]) -> Vec<Value> {
    size.iter().map(|size| json!({"as_int": size})).collect()
}

/// The size of the batch: any.
fn batch() -> Value {
    json!({"as_expr": {"expr_str": "Symbol('s0', positive=True, integer=True)", "hint": {"as_int": 2}}})
}

/// The meta of a batch of `shape`, in float32.
fn batch_of(shape: &[i64]) -> Result<Value> {
    let all: Vec<Value> = std::iter::once(batch()).chain(sizes(shape)).collect();
    let like: Vec<i64> = std::iter::once(1).chain(shape.iter().copied()).collect();
    meta(Kind::Float, &all, &like, false)
}

/// `TensorMeta`; the strides are those of a contiguous tensor of the shape `like`.
pub(super) fn meta(kind: Kind, sizes: &[Value], like: &[i64], requires_grad: bool) -> Result<Value> {
    Ok(json!({
        "dtype": scalar_type(dtype(kind)?),
        "sizes": sizes,
        "requires_grad": requires_grad,
        "device": {"type": "cpu", "index": null},
        "strides": contiguous(like).iter().map(|stride| json!({"as_int": stride})).collect::<Vec<_>>(),
        "storage_offset": {"as_int": 0},
        // Strided.
        "layout": 7,
    }))
}

/// The program: nodes, tensors and signature.
struct Program<'a> {
    /// See [`names`].
    names: &'a HashMap<String, String>,
    nodes: Vec<Value>,
    tensors: serde_json::Map<String, Value>,
    /// The result of the last node, and its shape.
    last: String,
    shape: Vec<i64>,
}

impl Program<'_> {
    /// Adds a node that maps the last result, its argument `first`, to a batch of `shape`.
    fn add(&mut self, operator: &str, name: &str, first: &str, rest: Vec<Value>, shape: &[i64]) -> Result<()> {
        self.nodes.push(json!({
            "target": format!("torch.ops.aten.{operator}"),
            "inputs": std::iter::once(input(first, named(&self.last), false)).chain(rest).collect::<Vec<_>>(),
            "outputs": [named(name)],
            "metadata": {},
            "is_hop_single_tensor_return": null,
            "name": name,
        }));
        self.tensors.insert(name.into(), batch_of(shape)?);
        self.last = name.into();
        self.shape = shape.to_vec();
        Ok(())
    }

    /// Adds the layer's node, if it does anything.
    fn layer(&mut self, NamedLayer { path, layer, output }: &NamedLayer) -> Result<()> {
        let Some(call) = layer.aten() else { return Ok(()) };
        if let Some(pad) = &call.pad {
            let mode = json!({"as_string": pad.mode});
            let rest = vec![input("pad", ints(&pad.sides), false), input("mode", mode, false)];
            self.add("pad.default", &self.names[&padded(path)], "self", rest, &pad.output(&self.shape))?;
        }
        let rest = call.given().iter().map(|argument| self.argument(path, argument)).collect();
        self.add(call.operator, &self.names[path], call.input, rest, output)
    }

    /// An argument of the call of the layer at `path`, in evaluation mode.
    fn argument(&self, path: &str, Argument { name, value, is_keyword, .. }: &Argument) -> Value {
        let value = match value {
            aten::Value::None => json!({"as_none": true}),
            aten::Value::Bool(value) => truth(*value),
            aten::Value::Training => truth(false),
            aten::Value::Int(value) => int(*value),
            aten::Value::Ints(values) => ints(values),
            aten::Value::Float(value) => json!({"as_float": value}),
            aten::Value::Text(text) => json!({"as_string": text}),
            aten::Value::Variable(variable) => named(&self.names[&format!("{path}.{variable}")]),
        };
        input(name, value, *is_keyword)
    }
}

/// An argument of a node.
fn input(name: &str, value: Value, is_keyword: bool) -> Value {
    // 1: a positional argument, 2: one by keyword.
    json!({"name": name, "arg": value, "kind": if is_keyword { 2 } else { 1 }})
}

fn named(name: &str) -> Value {
    json!({"as_tensor": {"name": name}})
}

fn truth(value: bool) -> Value {
    json!({"as_bool": value})
}

fn int(value: i64) -> Value {
    json!({"as_int": value})
}

fn ints(values: &[i64]) -> Value {
    json!({"as_ints": values})
}

/// How the arguments of a call, one tensor, and its result are laid out: a pytree as JSON within JSON.
fn call_signature() -> Value {
    let leaf = json!({"type": null, "context": null, "children_spec": []});
    let positional = json!({"type": "builtins.tuple", "context": "null", "children_spec": [leaf]});
    let keywords = json!({"type": "builtins.dict", "context": "[]", "children_spec": []});
    let call = json!({"type": "builtins.tuple", "context": "null", "children_spec": [positional, keywords]});
    json!({
        "inputs": [],
        "outputs": [],
        "in_spec": json!([1, call]).to_string(),
        "out_spec": json!([1, leaf]).to_string(),
        "forward_arg_names": [INPUT],
    })
}
