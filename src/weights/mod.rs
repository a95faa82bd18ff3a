//! Weights files of several formats, read and written.
//!
//! [`formats`] is the list of formats, one file each. A reader returns all named tensors of a file and never runs
//! anything in it: that is a [`WeightsFile`]. [`select`] finds the net's weights among them. `docs/weights.md` says what is read, `docs/python.md`
//! how the files that are written are opened in Python.

mod archive;
mod dicts;
mod file;
mod format;
mod formats;
mod legacy;
mod npz;
mod onnx;
mod pickle;
mod pt2;
pub(crate) mod safetensors;
mod select;
mod storages;
mod torch_save;
mod torchscript;

use crate::files::write_atomically;
use crate::model::{Architecture, StateDict};
use anyhow::{Context, Result, ensure};
pub use file::WeightsFile;
use format::Weights;
pub(crate) use select::Misfit;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The largest file that is read as weights, in bytes: 10 million parameters with the two buffers of Adam, in double
/// precision, take 240 MB.
pub(crate) const MAX_BYTES: u64 = 256 << 20;

/// The key of the metadata with the settings of the run, as its `config.toml`.
pub(crate) const CONFIG: &str = "config";

/// The key of the metadata with the names of the classes, a list in JSON.
pub(crate) const CLASSES: &str = "classes";

/// The key of the metadata with what images of the classes look like to the net.
pub(crate) const FAMILIARITY: &str = "familiarity";

/// The key of the metadata with the net's layers, in the text of a net file.
pub(crate) const NET: &str = "net";

/// The bytes of a regular file of at most [`MAX_BYTES`].
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    // Before opening it: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path)?;
    ensure!(!metadata.is_dir(), "it is a folder; name a file in it, such as model.pt");
    ensure!(metadata.is_file(), "it is not a regular file");
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "it has more than {} MiB, the most that is read as weights",
        MAX_BYTES >> 20
    );
    Ok(bytes)
}

/// A tensor on the CPU of `bytes`, whose number is checked: libtorch does not.
fn tensor(bytes: &[u8], size: &[i64], kind: Kind) -> Result<Tensor> {
    let numel = size.iter().try_fold(1usize, |numel, &size| numel.checked_mul(usize::try_from(size).ok()?));
    let expected = numel.and_then(|numel| numel.checked_mul(kind.elt_size_in_bytes()));
    ensure!(expected == Some(bytes.len()), "{} bytes are not a tensor {size:?} of {}", bytes.len(), dtype(kind));
    Ok(Tensor::f_from_data_size(bytes, size, kind)?)
}

/// The bytes of a contiguous copy of `tensor`, little-endian as every machine that libtorch runs on.
fn raw(tensor: &Tensor) -> Result<Vec<u8>> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

/// PyTorch's name of a type.
fn dtype(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "float32",
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        Kind::Int64 => "int64",
        Kind::Int => "int32",
        Kind::Int16 => "int16",
        Kind::Int8 => "int8",
        Kind::Uint8 => "uint8",
        Kind::Bool => "bool",
        _ => "another type",
    }
}

/// What a file with the name of `path` would hold, or one sentence with the endings that can be written.
pub fn describe(path: &Path) -> Result<&'static str> {
    let format = formats::named(path);
    format
        .map(|format| format.name())
        .with_context(|| format!("{} does not end in {}", path.display(), formats::endings()))
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
    describe(path)?;
    let on_cpu = |(key, tensor): &(String, Tensor)| Ok((key.clone(), tensor.f_detach()?.f_to_device(Device::Cpu)?));
    let state_dict = StateDict(weights.0.iter().map(on_cpu).collect::<Result<_>>()?);
    let mut metadata = metadata.clone();
    metadata.insert(NET.into(), architecture.to_string());
    let weights = Weights { state_dict, architecture: architecture.clone(), metadata };
    let format = formats::named(path).context("checked above")?;
    let bytes = format.write(&weights)?;
    write_atomically(path, |path| Ok(std::fs::write(path, &bytes)?))
}
