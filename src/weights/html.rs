//! A page to draw digits on, with the net in it as plain JavaScript.

use super::about;
use super::formats::Weights;
use super::tensors::arrays;
use crate::data::{MEAN, STD};
use crate::model::layers::LogSoftmax;
use crate::model::layers::aten::{Pad, Value};
use crate::model::{Layer, NamedLayer};
use crate::page::{self, Script};
use anyhow::Result;
use torch_weights::html;

/// The page, which reads a drawing as one digit.
pub(super) fn render(weights: &Weights) -> Result<Vec<u8>> {
    let layers = weights.architecture.layers();
    let mut functions: Vec<&str> = Vec::new();
    // The net ends in log_softmax, whether it has a layer for that or not.
    for function in layers.iter().map(|named| named.layer.script()).chain([Layer::from(LogSoftmax).script()]) {
        if !functions.contains(&function) {
            functions.push(function);
        }
    }
    let layer = |named: &NamedLayer| (named.path.clone(), call(named));
    let net = Script {
        functions,
        layers: layers.iter().map(layer).collect(),
        weights: html::to_json(&arrays(&weights.state_dict)?, &weights.metadata)?,
        normalisation: [MEAN, STD].map(|number| number.to_string()),
    };
    Ok(page::of_net(&about(&weights.architecture, &weights.metadata), net)?.into_bytes())
}

/// What the layer computes of `x`, in JavaScript.
fn call(NamedLayer { path, layer, .. }: &NamedLayer) -> String {
    let Some(call) = layer.aten() else { return "x".into() };
    let first = match &call.pad {
        Some(Pad { sides, mode }) => format!("pad(x, {sides:?}, {mode:?})"),
        None => "x".into(),
    };
    let arguments = call.arguments.iter().map(|argument| match &argument.value {
        Value::None => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Training => "false".into(),
        Value::Int(number) => number.to_string(),
        Value::Ints(numbers) => format!("{numbers:?}"),
        Value::Float(number) => format!("{number:?}"),
        Value::Text(text) => format!("{text:?}"),
        Value::Variable(name) => format!("state[\"{path}.{name}\"]"),
    });
    let arguments: Vec<String> = std::iter::once(first).chain(arguments).collect();
    format!("{}({})", call.function(), arguments.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Architecture;
    use std::collections::BTreeMap;

    #[test]
    fn every_layer_has_the_function_that_it_calls() {
        for (class, example) in Layer::examples() {
            for named in Architecture::parse(example, &BTreeMap::new()).unwrap().layers() {
                let Some(operator) = named.layer.aten() else { continue };
                let function = format!("function {}(", operator.function());
                assert!(named.layer.script().starts_with(&function), "{class}: {} has no {function}", named.layer);
            }
        }
    }

    #[test]
    fn a_layer_calls_its_function_with_its_weights_and_arguments() {
        let net = "a: Conv2d(1, 4, 3, padding=1, padding_mode='reflect'), GELU('tanh'), Flatten(), Linear(3136, 10), Identity()";
        let net = Architecture::parse(net, &BTreeMap::new()).unwrap();
        let calls: Vec<String> = net.layers().iter().map(call).collect();
        let conv = "conv2d(pad(x, [1, 1, 1, 1], \"reflect\"), state[\"a.0.weight\"], state[\"a.0.bias\"], [1, 1], [0, 0], [1, 1], 1)";
        assert_eq!(calls[..2], [conv, "gelu(x, \"tanh\")"]);
        assert_eq!(calls[3..], ["linear(x, state[\"a.3.weight\"], state[\"a.3.bias\"])", "x"]);
    }
}
