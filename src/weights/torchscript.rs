//! TorchScript modules: what is written has the tree of modules that PyTorch has, to run and to train further in
//! Python.

use super::archive::Archive;
use super::archive::with_extra;
use super::format::{Contents, Format, Weights, is_parameter};
use super::torch_save::{PICKLE, TorchSave};
use crate::libtorch::jit::{Module, TensorKind, saved};
use crate::model::{Architecture, Layer, NamedLayer, StateDict, repr};
use crate::shape::CLASSES;
use anyhow::Result;
use tch::Tensor;

/// The record that TorchScript has and a state_dict does not.
const CONSTANTS: &str = "constants.pkl";

/// A module with its layers: scripted or traced in Python, or written here. tch saves a VarStore as one.
pub(super) struct TorchScript;

impl Format for TorchScript {
    fn name(&self) -> &'static str {
        "TorchScript module"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["pt"]
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        Archive::has(bytes, CONSTANTS)
    }

    fn read(&self, bytes: &[u8]) -> Result<Contents> {
        let mut contents = TorchSave.read(bytes)?;
        if contents.dicts.is_empty() {
            contents.hint = Some(
                "it is a frozen TorchScript module, whose weights are constants in its code: save the module before \
                 torch.jit.freeze"
                    .into(),
            );
        }
        Ok(contents)
    }

    fn write(&self, weights: &Weights) -> Result<Vec<u8>> {
        with_extra(module_file(weights)?, PICKLE, &weights.metadata)
    }
}

/// The file of the weights as a scripted `Net` in evaluation mode.
fn module_file(weights: &Weights) -> Result<Vec<u8>> {
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
const UNUSED: (&str, Layer) = ("dropout", Layer::Dropout { p: 0.1 });

/// Whether this is the net of the original, with any dropout.
fn is_original(architecture: &Architecture) -> bool {
    let original = Architecture::original(0.0);
    let alike = |(one, other): (&NamedLayer, &NamedLayer)| {
        let is_dropout = |layer| matches!(layer, Layer::Dropout { .. });
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
    let count = match layer {
        Layer::BatchNorm2d { .. } => "    if self.training:\n        self.num_batches_tracked.add_(1)\n",
        _ => "",
    };
    let class = format!("torch.nn.modules.{}.{}", file(layer), layer.class());
    module(Some(parent), name, &class, forward(&format!("{count}    return {}\n", call(layer))))
}

/// The file in `torch/nn/modules` that has the layer's class.
fn file(layer: &Layer) -> &'static str {
    match layer {
        Layer::Conv2d(_) => "conv",
        Layer::BatchNorm2d { .. } => "batchnorm",
        Layer::ReLU | Layer::LeakyReLU { .. } | Layer::GELU { .. } | Layer::SiLU | Layer::LogSoftmax => "activation",
        Layer::Dropout { .. } | Layer::Dropout2d { .. } => "dropout",
        Layer::MaxPool2d { .. } | Layer::AvgPool2d { .. } | Layer::AdaptiveAvgPool2d { .. } => "pooling",
        Layer::Flatten => "flatten",
        Layer::Linear { .. } | Layer::Identity => "linear",
    }
}

/// What the layer computes of `x`, in TorchScript. Rust's `{:?}` writes lists and floats as TorchScript reads them.
fn call(layer: &Layer) -> String {
    let truth = |value| if value { "True" } else { "False" };
    let own_bias = |bias| if bias { "self.bias" } else { "None" };
    match *layer {
        Layer::Conv2d(conv) => format!(
            "torch.conv2d(x, self.weight, {}, {:?}, {:?}, {:?}, {})",
            own_bias(conv.bias),
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups
        ),
        Layer::BatchNorm2d { eps, momentum, .. } => format!(
            "torch.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.training, \
             {momentum:?}, {}, True)",
            repr(eps)
        ),
        Layer::ReLU => "torch.relu(x)".into(),
        Layer::LeakyReLU { negative_slope } => format!("torch.leaky_relu(x, {negative_slope:?})"),
        Layer::GELU { tanh } => format!("torch.gelu(x, approximate=\"{}\")", if tanh { "tanh" } else { "none" }),
        Layer::SiLU => "torch.silu(x)".into(),
        Layer::Dropout { p } => format!("torch.dropout(x, {p:?}, self.training)"),
        Layer::Dropout2d { p } => format!("torch.feature_dropout(x, {p:?}, self.training)"),
        Layer::MaxPool2d { kernel_size, stride, padding, dilation, ceil_mode } => {
            format!("torch.max_pool2d(x, {kernel_size:?}, {stride:?}, {padding:?}, {dilation:?}, {})", truth(ceil_mode))
        }
        Layer::AvgPool2d { kernel_size, stride, padding, ceil_mode, count_include_pad } => format!(
            "torch.avg_pool2d(x, {kernel_size:?}, {stride:?}, {padding:?}, {}, {}, None)",
            truth(ceil_mode),
            truth(count_include_pad)
        ),
        Layer::AdaptiveAvgPool2d { output_size } => format!("torch.adaptive_avg_pool2d(x, {output_size:?})"),
        Layer::Flatten => "torch.flatten(x, 1, -1)".into(),
        Layer::Linear { bias, .. } => format!("torch.linear(x, self.weight, {})", own_bias(bias)),
        Layer::Identity => "x".into(),
        Layer::LogSoftmax => "torch.log_softmax(x, 1)".into(),
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
