//! TorchScript modules: what is written has the tree of modules that PyTorch has, to run and to train further in
//! Python.

use super::formats::{Weights, is_parameter};
use crate::libtorch::jit::{Module, TensorKind, saved};
use crate::model::layers::aten::{Argument, Pad, Value};
use crate::model::layers::{Dropout, Layer, NUM_BATCHES_TRACKED};
use crate::model::{Architecture, NamedLayer, StateDict, repr};
use crate::shape::CLASSES;
use anyhow::Result;
use tch::Tensor;

/// The file of the weights as a scripted `Net` in evaluation mode.
pub(super) fn render(weights: &Weights) -> Result<Vec<u8>> {
    let architecture = &weights.architecture;
    let mut modules = vec![module(None, "", "Net", String::new())];
    let mut body = call_all(&add_children(&mut modules, 0, architecture.layers(), 0, &weights.state_dict));
    body += &format!("    x = x.view([-1, {CLASSES}])\n");
    body += if architecture.ends_in_log_softmax() { "    return x\n" } else { "    return torch.log_softmax(x, -1)\n" };
    modules[0].source = forward(&body);
    if is_original(architecture) {
        modules.push(layer_module(0, UNUSED.0, &UNUSED.1));
    }
    saved(&modules)
}

/// A layer that the original has too, and never calls.
const UNUSED: (&str, Layer) = ("dropout", Layer::Dropout(Dropout { p: 0.1 }));

/// Whether this is the net of the original, with any dropout.
fn is_original(architecture: &Architecture) -> bool {
    let original = Architecture::original(0.0);
    let alike = |(one, other): (&NamedLayer, &NamedLayer)| {
        let is_dropout = |layer| matches!(layer, Layer::Dropout(_));
        one.path == other.path && (one.layer == other.layer || is_dropout(one.layer) && is_dropout(other.layer))
    };
    let (layers, expected) = (architecture.layers(), original.layers());
    layers.len() == expected.len() && layers.iter().zip(expected).all(alike)
}

/// Adds the modules of `layers`, whose paths agree in the first `depth` parts, below `parent`: layers, and an
/// `nn.Sequential` for those that share the next part too. Returns their names in `parent`.
fn add_children(
    modules: &mut Vec<Module>,
    parent: usize,
    layers: &[NamedLayer],
    depth: usize,
    weights: &StateDict,
) -> Vec<String> {
    let part = |layer: &NamedLayer, depth| layer.path.split('.').nth(depth).map(String::from);
    let mut names = Vec::new();
    for group in layers.chunk_by(|one, next| part(one, depth) == part(next, depth)) {
        let name = part(&group[0], depth).unwrap_or_default();
        if part(&group[0], depth + 1).is_none() {
            let mut child = layer_module(parent, &name, &group[0].layer);
            child.tensors = tensors(weights, &group[0].path);
            modules.push(child);
        } else {
            let index = modules.len();
            modules.push(module(Some(parent), &name, "torch.nn.modules.container.Sequential", String::new()));
            let calls = call_all(&add_children(modules, index, group, depth + 1, weights));
            modules[index].source = forward(&format!("{calls}    return x\n"));
        }
        names.push(name);
    }
    names
}

/// The tensors of the layer with this path, in the order of its state_dict.
fn tensors(weights: &StateDict, path: &str) -> Vec<(String, Tensor, TensorKind)> {
    let own = |(key, tensor): &(String, Tensor)| {
        let name = key.strip_prefix(path)?.strip_prefix('.')?;
        let kind = if is_parameter(key) { TensorKind::Parameter } else { TensorKind::Buffer };
        Some((name.to_string(), tensor.shallow_clone(), kind))
    };
    weights.0.iter().filter_map(own).collect()
}

fn module(parent: Option<usize>, name: &str, class: &str, source: String) -> Module {
    Module { parent, name: name.to_string(), class: format!("__torch__.{class}"), source, tensors: Vec::new() }
}

fn layer_module(parent: usize, name: &str, layer: &Layer) -> Module {
    let counts = layer.variables().iter().any(|variable| variable.name == NUM_BATCHES_TRACKED);
    let count = if counts {
        format!("    if self.training:\n        self.{NUM_BATCHES_TRACKED}.add_(1)\n")
    } else {
        String::new()
    };
    let class = format!("torch.nn.modules.{}.{}", layer.file(), layer.class());
    module(Some(parent), name, &class, forward(&format!("{count}    return {}\n", call(layer))))
}

/// What the layer computes of `x`, in TorchScript.
fn call(layer: &Layer) -> String {
    let Some(call) = layer.aten() else { return "x".to_string() };
    let first = match &call.pad {
        Some(Pad { sides, mode }) => format!("torch.pad(x, {sides:?}, \"{mode}\")"),
        None => "x".to_string(),
    };
    let arguments = call.arguments.iter().map(|argument| match argument {
        Argument { name, value, is_keyword: true, .. } => format!(", {name}={}", text(value)),
        Argument { value, .. } => format!(", {}", text(value)),
    });
    format!("torch.{}({first}{})", call.function(), arguments.collect::<String>())
}

/// A value in TorchScript.
fn text(value: &Value) -> String {
    match value {
        Value::None => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(number) => number.to_string(),
        Value::Ints(numbers) => format!("{numbers:?}"),
        Value::Float(number) => repr(*number),
        Value::Text(text) => format!("\"{text}\""),
        Value::Variable(name) => format!("self.{name}"),
        Value::Training => "self.training".into(),
    }
}

/// The children with these names, one after the other.
fn call_all(names: &[String]) -> String {
    let calls = names.iter().map(|name| match name.starts_with(|first: char| first.is_ascii_digit()) {
        true => format!("    x = getattr(self, \"{name}\").forward(x)\n"),
        false => format!("    x = self.{name}.forward(x)\n"),
    });
    calls.collect()
}

fn forward(body: &str) -> String {
    format!("def forward(self, x: Tensor) -> Tensor:\n{body}")
}
