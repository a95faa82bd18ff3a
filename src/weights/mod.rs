//! Weights files of several formats, read and written.
//!
//! `torch_weights` reads the formats as named arrays; [`select`] finds the net's weights among them, and a [`WeightsFile`]
//! is what was read. [`formats`] writes a net in each format. `docs/weights.md` says what is read, `docs/python.md` how the
//! files that are written are opened in Python.

mod file;
mod formats;
mod html;
mod onnx;
mod pt2;
pub(crate) mod safetensors;
mod select;
mod tensors;
mod torch_save;
mod torchscript;

use crate::files::write_atomically;
use crate::model::{Architecture, StateDict, thousands};
use anyhow::{Context, Result};
pub use file::WeightsFile;
use formats::Weights;
pub(crate) use formats::endings;
pub use formats::{named, written};
pub(crate) use select::Misfit;
use std::collections::BTreeMap;
use std::path::{Component, Path};
use tch::{Device, Tensor};
pub(crate) use torch_weights::MAX_BYTES;

/// The key of the metadata with the settings of the run, as its `config.toml`.
pub(crate) const CONFIG: &str = "config";

/// The key of the metadata with the names of the classes, a list in JSON.
pub(crate) const CLASSES: &str = "classes";

/// The key of the metadata with what images of the classes look like to the net.
pub(crate) const FAMILIARITY: &str = "familiarity";

/// The key of the metadata with the net's layers, in the text of a net file.
pub(crate) const NET: &str = "net";

/// The key of the metadata with the file that the weights are from.
const SOURCE: &str = "source";

/// The keys of the metadata with the accuracy in percent, and what it is of.
const ACCURACIES: [(&str, &str); 2] = [("test_accuracy", "test images"), ("validation_accuracy", "held-out images")];

/// The metadata of the weights in `file`, with its name and that of its folder.
pub(crate) fn metadata_of(file: &WeightsFile) -> BTreeMap<String, String> {
    let name =
        |part: Component| matches!(part, Component::Normal(_)).then(|| part.as_os_str().to_string_lossy().into_owned());
    let names: Vec<String> = file.path().components().filter_map(name).collect();
    let mut metadata = file.metadata().clone();
    metadata.insert(SOURCE.into(), names[names.len().saturating_sub(2)..].join("/"));
    metadata
}

/// Which net it is, in a line: its file, its number of parameters and its accuracy, as far as `metadata` know them.
pub(crate) fn about(architecture: &Architecture, metadata: &BTreeMap<String, String>) -> String {
    let parameters = format!("{} parameters", thousands(architecture.parameters()));
    let measured = |(key, images): &(&str, &str)| {
        let accuracy: f64 = metadata.get(*key)?.parse().ok()?;
        Some(format!("{accuracy:.2} % of the {images} right"))
    };
    let source = metadata.get(SOURCE).cloned();
    let parts: Vec<String> =
        source.into_iter().chain([parameters]).chain(ACCURACIES.iter().find_map(measured)).collect();
    parts.join(", ")
}

/// Writes `weights` to `path` in the format of its ending; at every moment the file is the old or the whole new one.
///
/// The bytes depend only on the arguments, not on the time or the folder. `architecture`, the net's, goes into formats
/// that contain layers, and as text beside `metadata` into those that have room for them.
///
/// # Errors
///
/// One sentence if the ending is unknown or the file cannot be written.
pub fn write(
    path: &Path,
    weights: &StateDict,
    architecture: &Architecture,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let format = named(path)?;
    let on_cpu = |(key, tensor): &(String, Tensor)| Ok((key.clone(), tensor.f_detach()?.f_to_device(Device::Cpu)?));
    let state_dict = StateDict(weights.0.iter().map(on_cpu).collect::<Result<_>>()?);
    let mut metadata = metadata.clone();
    metadata.insert(NET.into(), architecture.to_string());
    let weights = Weights { state_dict, architecture: architecture.clone(), metadata };
    let bytes = formats::to_bytes(format, &weights).with_context(|| format!("{} cannot be written", path.display()))?;
    write_atomically(path, |path| Ok(std::fs::write(path, &bytes)?))
}
