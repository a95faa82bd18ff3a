//! TorchScript modules: what is written has the tree of the original `Net`, to run and to train further in Python.

use super::archive::Archive;
use super::archive::with_extra;
use super::format::{Contents, Format, Weights};
use super::torch_save::{PICKLE, TorchSave};
use crate::libtorch::jit::{Module, TensorKind, saved};
use crate::model::{Block, Layer, StateDict, blocks};
use anyhow::{Context, Result};
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
        with_extra(module_file(&weights.state_dict, weights.dropout)?, PICKLE, &weights.metadata)
    }
}

/// The file of `weights` as a scripted `Net` in evaluation mode, whose dropout layers zero the share `dropout` in training.
fn module_file(weights: &StateDict, dropout: f64) -> Result<Vec<u8>> {
    let blocks = blocks(dropout);
    let mut modules = vec![module(None, "", "Net", net_source(&blocks))];
    for block in &blocks {
        // `pool1` is a bare layer in the original.
        if let ("pool1", [layer]) = (block.name, block.layers.as_slice()) {
            modules.push(layer_module(0, block.name, layer));
            continue;
        }
        let sequential = modules.len();
        modules.push(module(Some(0), block.name, "torch.nn.modules.container.Sequential", sequential_source(block)));
        for (index, layer) in block.layers.iter().enumerate() {
            let mut child = layer_module(sequential, &index.to_string(), layer);
            for &(name, kind) in tensors(layer) {
                let key = format!("{}.{index}.{name}", block.name);
                child.tensors.push((name.to_string(), find(weights, &key)?, kind));
            }
            modules.push(child);
        }
    }
    // The original has this layer too, and never calls it.
    modules.push(layer_module(0, "dropout", &Layer::Dropout { p: 0.1 }));
    saved(&modules)
}

fn find(weights: &StateDict, key: &str) -> Result<Tensor> {
    let found = weights.0.iter().find(|(name, _)| name == key);
    let (_, tensor) = found.with_context(|| format!("{key} is missing"))?;
    Ok(tensor.shallow_clone())
}

fn module(parent: Option<usize>, name: &str, class: &str, source: String) -> Module {
    Module { parent, name: name.to_string(), class: format!("__torch__.{class}"), source, tensors: Vec::new() }
}

fn layer_module(parent: usize, name: &str, layer: &Layer) -> Module {
    let (class, body) = match *layer {
        Layer::Conv2d { padding, .. } => {
            ("conv.Conv2d", format!("torch.conv2d(x, self.weight, None, [1, 1], [{padding}, {padding}], [1, 1], 1)"))
        }
        Layer::ReLU => ("activation.ReLU", "torch.relu(x)".into()),
        Layer::BatchNorm2d { .. } => (
            "batchnorm.BatchNorm2d",
            "torch.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.training, 0.1, 1e-05, \
             True)"
            .into(),
        ),
        Layer::Dropout { p } => ("dropout.Dropout", format!("torch.dropout(x, {p:?}, self.training)")),
        Layer::MaxPool2d { kernel } => (
            "pooling.MaxPool2d",
            format!("torch.max_pool2d(x, [{kernel}, {kernel}], [{kernel}, {kernel}], [0, 0], [1, 1], False)"),
        ),
        Layer::AvgPool2d { kernel } => (
            "pooling.AvgPool2d",
            format!("torch.avg_pool2d(x, [{kernel}, {kernel}], [{kernel}, {kernel}], [0, 0], False, True, None)"),
        ),
    };
    let count = match layer {
        Layer::BatchNorm2d { .. } => "    if self.training:\n        self.num_batches_tracked.add_(1)\n",
        _ => "",
    };
    module(Some(parent), name, &format!("torch.nn.modules.{class}"), forward(&format!("{count}    return {body}\n")))
}

/// The layer's tensors in the order of its state_dict.
fn tensors(layer: &Layer) -> &'static [(&'static str, TensorKind)] {
    use TensorKind::{Buffer, Parameter};
    match layer {
        Layer::Conv2d { .. } => &[("weight", Parameter)],
        Layer::BatchNorm2d { .. } => &[
            ("weight", Parameter),
            ("bias", Parameter),
            ("running_mean", Buffer),
            ("running_var", Buffer),
            ("num_batches_tracked", Buffer),
        ],
        Layer::ReLU | Layer::Dropout { .. } | Layer::MaxPool2d { .. } | Layer::AvgPool2d { .. } => &[],
    }
}

fn sequential_source(block: &Block) -> String {
    let calls = (0..block.layers.len()).map(|index| format!("    x = getattr(self, \"{index}\").forward(x)\n"));
    forward(&format!("{}    return x\n", calls.collect::<String>()))
}

fn net_source(blocks: &[Block]) -> String {
    let calls = blocks.iter().map(|block| format!("    x = self.{}.forward(x)\n", block.name));
    let calls: String = calls.collect();
    forward(&format!("{calls}    x = x.view([-1, 10])\n    return torch.log_softmax(x, -1)\n"))
}

fn forward(body: &str) -> String {
    format!("def forward(self, x: Tensor) -> Tensor:\n{body}")
}
