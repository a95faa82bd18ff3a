//! The text of a net: a line per member of the net in the words of PyTorch, or what `print(net)` shows.
//!
//! ```text
//! # a comment
//! block1: Conv2d(1, 16, kernel_size=(3, 3), bias=False), ReLU(), BatchNorm2d(16), Dropout(p={dropout})
//! pool1: MaxPool2d(2)
//! ```
//!
//! Several layers in a line are an `nn.Sequential`, with the paths `block1.0`, `block1.1` and so on. docs/nets.md has
//! all of it.

mod display;
mod foreign;
mod parser;
mod signatures;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;
mod value;

use super::architecture::{Architecture, Builder};
use anyhow::{Result, anyhow};
use parser::{Item, Module};
use std::collections::BTreeMap;
pub(super) use value::Value;
pub(crate) use value::repr;

impl Architecture {
    /// The net that `text` describes, with `values` for its placeholders `{name}`. A value for `dropout` may be unused.
    ///
    /// # Errors
    ///
    /// One sentence with the line, the layer, what is wrong and what would fit.
    pub fn parse(text: &str, values: &BTreeMap<String, String>) -> Result<Architecture> {
        let mut net = Net::default();
        net.add("", &parser::members(text, values)?)?;
        let line = net.line;
        net.builder.finish().map_err(|error| anyhow!("line {line}, {error:#}"))
    }
}

/// A net in the making.
#[derive(Default)]
struct Net {
    builder: Builder,
    /// The line of the last layer.
    line: usize,
}

impl Net {
    /// Adds the layers of `items`, the members of the module `parent`.
    fn add(&mut self, parent: &str, items: &[Item]) -> Result<()> {
        for item in items {
            for name in item.names() {
                let path = if parent.is_empty() { name } else { format!("{parent}.{name}") };
                match &item.module {
                    Module::Container(items) => self.add(&path, items)?,
                    Module::Layer(call) => {
                        self.line = call.line;
                        signatures::read(call, &self.builder.shape())
                            .map_err(|error| error.context(format!("{path}, {}", call.class)))
                            .and_then(|layer| self.builder.push(path, layer))
                            .map_err(|error| anyhow!("line {}, {error:#}", call.line))?;
                    }
                }
            }
        }
        Ok(())
    }
}
