//! The formats in which a net is written: by `torch_weights` from arrays alone, or here, with libtorch or from the net's
//! layers.

use super::tensors::arrays;
use super::{ACCURACIES, CLASSES, FAMILIARITY, NET, html, onnx, pt2, torch_save, torchscript};
use crate::error::either;
use crate::model::{Architecture, StateDict};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use torch_weights::{FORMATS, Format, Room, with_extra};

/// What is written.
pub(super) struct Weights {
    /// The net's tensors on the CPU, in the order of its state_dict.
    pub(super) state_dict: StateDict,
    /// The net's layers, for formats that contain them.
    pub(super) architecture: Architecture,
    /// How the weights came about, for formats that have room for it.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Makes a file of a net, without its metadata where they are an extra file.
type Render = fn(&Weights) -> Result<Vec<u8>>;

/// The formats that are made here, by the usual ending.
const RENDERED: [(&str, Render); 5] = [
    ("pt", torchscript::render),
    ("pth", torch_save::render),
    ("onnx", onnx::render),
    ("pt2", pt2::render),
    ("html", html::render),
];

/// The name of the extra file with what a prediction needs beside the weights, in JSON.
pub(super) const EXTRA: &str = "tch_mnist.json";

/// The metadata that go into it. Most others say how the weights came about.
const KEPT: [&str; 5] = [CLASSES, FAMILIARITY, NET, ACCURACIES[0].0, ACCURACIES[1].0];

/// Whether the tensor with this key is a parameter. The others are the buffers of BatchNorm.
pub(super) fn is_parameter(key: &str) -> bool {
    key.ends_with(".weight") || key.ends_with(".bias")
}

/// The bytes of a file of this format; they depend only on `weights`.
pub(super) fn to_bytes(format: &Format, weights: &Weights) -> Result<Vec<u8>> {
    let rendered = RENDERED.iter().find(|(ending, _)| format.endings.first() == Some(ending));
    let texts = |kept: &[&str]| -> BTreeMap<String, String> {
        let is_kept = |(key, _): &(&String, &String)| kept.contains(&key.as_str());
        weights.metadata.iter().filter(is_kept).map(|(key, text)| (key.clone(), text.clone())).collect()
    };
    match (rendered, format.write) {
        (Some((_, render)), _) if format.metadata == Room::ExtraFiles => {
            with_extra(render(weights)?, EXTRA, &serde_json::to_string(&texts(&KEPT))?)
        }
        (Some((_, render)), _) => render(weights),
        (None, Some(write)) => write(
            &arrays(&weights.state_dict)?,
            &match format.metadata {
                Room::Header => weights.metadata.clone(),
                Room::ExtraFiles => BTreeMap::from([(EXTRA.to_string(), serde_json::to_string(&texts(&KEPT))?)]),
                Room::Comment => texts(&[NET]),
                Room::None => BTreeMap::new(),
            },
        ),
        (None, None) => bail!("{} is only read", format.title),
    }
}

/// The formats that are written.
pub fn written() -> impl Iterator<Item = &'static Format> {
    FORMATS.into_iter().filter(|format| !format.endings.is_empty())
}

/// The format that the name of `path` stands for, or one sentence with the endings that can be written.
pub fn named(path: &Path) -> Result<&'static Format> {
    match Format::named(path) {
        Some(format) => Ok(format),
        None => bail!("{} does not end in {}", path.display(), endings()),
    }
}

/// `.pt (TorchScript module), .pth (state_dict), ... or .npz (NumPy arrays)`, for a message.
pub(crate) fn endings() -> String {
    let all: Vec<String> = written().map(|format| format!(".{} ({})", format.endings[0], format.title)).collect();
    either(&all, "or")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_that_has_an_ending_is_written() {
        for format in written() {
            let is_rendered = RENDERED.iter().any(|(ending, _)| *ending == format.endings[0]);
            assert!(is_rendered != format.write.is_some(), "{} needs one writer", format.title);
        }
        for (ending, _) in RENDERED {
            assert!(written().any(|format| format.endings[0] == ending), "no format ends in .{ending}");
        }
    }
}
