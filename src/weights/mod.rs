//! Weights files of several formats, read and written.
//!
//! [`formats`] is the list of formats, one file each. A reader returns all named tensors of a file and never runs
//! anything in it; [`select`] finds the net's weights among them. `docs/weights.md` says what is read, `docs/python.md`
//! how the files that are written are opened in Python.

mod archive;
mod dicts;
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
use crate::model::{Architecture, Kernels, Net, StateDict};
use anyhow::{Context, Result, bail, ensure};
use archive::Archive;
use format::{Contents, Weights};
pub(crate) use select::Misfit;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The largest file that is read as weights, in bytes: 10 million parameters with the two buffers of Adam, in double
/// precision, take 240 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Reads the weights of `net` from the file `path` into it; if the file holds several sets, `key` names one. What is
/// different in the file and does not matter is logged as a warning.
///
/// # Errors
///
/// One sentence on a file that is missing, damaged, of an unknown format, or without the weights of this net. `net` is
/// then unchanged.
pub fn load(path: &Path, key: Option<&str>, net: &Net) -> Result<()> {
    net.load_state_dict(&read(path, key, &net.state_dict())?)
        .with_context(|| format!("{} does not fit the net", path.display()))
}

/// Reads the weights of a net with the keys, shapes and types of `expected`, as [`load`] does.
pub fn read(path: &Path, key: Option<&str>, expected: &StateDict) -> Result<StateDict> {
    let contents = contents(path)?;
    let selected = select::select(&contents, expected, key);
    let (weights, notices) = selected.with_context(|| format!("{} does not fit the net", path.display()))?;
    for notice in notices {
        tracing::warn!("{}: {notice}", path.display());
    }
    Ok(weights)
}

/// The key of the metadata with the names of the classes, a list in JSON.
pub(crate) const CLASSES: &str = "classes";

/// The key of the metadata with what images of the classes look like to the net.
pub(crate) const FAMILIARITY: &str = "familiarity";

/// The key of the metadata with the net's layers, in the text of a net file.
pub(crate) const NET: &str = "net";

/// The net whose weights are in the file `path`: the one that the file describes, else the first of this program's own,
/// with `dropout`, that it has the weights of. `None` if it has those of none. `key` as in [`load`].
pub(crate) fn architecture(path: &Path, key: Option<&str>, dropout: f64) -> Result<Option<Architecture>> {
    let contents = contents(path)?;
    if let Some(text) = contents.metadata.get(NET) {
        let parsed = Architecture::parse(text, &BTreeMap::new());
        return parsed.map(Some).with_context(|| format!("the net that {} describes is refused", path.display()));
    }
    let fits = |net: &Architecture| {
        let expected = Net::new(Device::Cpu, net, Kernels::Torch).state_dict();
        select::select(&contents, &expected, key).is_ok()
    };
    Ok(Architecture::own_names().map(|name| Architecture::own(name, dropout)).find(fits))
}

/// The metadata of a file, for formats that have some.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    Ok(contents(path)?.metadata)
}

fn contents(path: &Path) -> Result<Contents> {
    let read = || -> Result<Contents> {
        let bytes = read_bytes(path)?;
        ensure!(!bytes.is_empty(), "it is empty");
        match formats::recognise(&bytes) {
            Some(format) => format.read(&bytes),
            None if bytes.starts_with(b"PK") => {
                Archive::flat(&bytes)?;
                bail!("it is a zip archive, but not one of torch.save, torch.jit.save, torch.export.save or NumPy")
            }
            None => bail!("it is not a file of torch.save, nor safetensors, ONNX or .npz"),
        }
    };
    read().with_context(|| format!("{} cannot be read as weights", path.display()))
}

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
