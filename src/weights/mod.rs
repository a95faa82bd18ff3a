//! Weights files: the same tensors as a TorchScript module, a state_dict or safetensors, read and written.
//!
//! What Python writes is read here by this program's own readers, which never run anything that a file holds; what is
//! written here opens in Python with `torch.jit.load`, `torch.load(weights_only=True)` and `safetensors`.

mod archive;
mod pickle;
pub mod safetensors;
mod torchscript;

use crate::files::write_atomically;
use crate::libtorch::jit;
use crate::model::{Net, StateDict};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The largest file that is read as weights, in bytes. The net's take 60 KB, in double precision and with an
/// optimizer's state beside them 300 KB.
const MAX_BYTES: u64 = 16 << 20;

/// Puts `weights` into `net`: [`read`], [`matching`] and `load_state_dict`.
///
/// # Errors
///
/// Those of [`read`] and [`matching`]; the net is then as it was.
pub fn load(path: &Path, net: &Net) -> Result<()> {
    let weights = matching(path, read(path)?, &net.state_dict())?;
    net.load_state_dict(&weights).with_context(|| format!("{} does not fit the net", path.display()))
}

/// Reads a weights file on the CPU: TorchScript, a state_dict (alone, or in a dict under `model`, `state_dict` or
/// `model_state_dict`) or safetensors, a run's checkpoint too. What it is, its content says, not its ending.
///
/// # Errors
///
/// One sentence when the file is missing, damaged, of another format, or a pickle that does what no weights file
/// needs.
pub fn read(path: &Path) -> Result<StateDict> {
    let read = || -> Result<_> {
        let bytes = read_bytes(path, MAX_BYTES)?;
        match Content::of(&bytes) {
            Content::Archive => archive::read(&bytes),
            Content::Safetensors => Ok(without_the_rest(safetensors::parse(&bytes)?.0)),
            Content::Pickle => bail!(
                "it is a bare pickle, as torch.save wrote before version 1.6: in Python, torch.load(FILE, \
                 weights_only=True) opens such a state_dict and torch.save writes it anew"
            ),
            Content::Nothing => bail!("it is empty"),
            Content::Unknown => bail!("it is neither a file of torch.save or torch.jit.save nor safetensors"),
        }
    };
    read().with_context(|| format!("{} cannot be read as weights", path.display()))
}

/// The weights alone of a `checkpoint.safetensors`, which has `model.` before their keys; other files as they are.
fn without_the_rest(StateDict(tensors): StateDict) -> StateDict {
    const PREFIX: &str = "model.";
    if !tensors.iter().any(|(key, _)| key == "rng.cpu") {
        return StateDict(tensors);
    }
    let weight = |(key, tensor): (String, Tensor)| Some((key.strip_prefix(PREFIX)?.to_string(), tensor));
    StateDict(tensors.into_iter().filter_map(weight).collect())
}

/// The metadata of a safetensors file; none for the other formats, which have none.
///
/// # Errors
///
/// Those of [`read`].
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let read = || -> Result<_> {
        let bytes = read_bytes(path, MAX_BYTES)?;
        match Content::of(&bytes) {
            Content::Safetensors => Ok(safetensors::parse(&bytes)?.1),
            _ => Ok(BTreeMap::new()),
        }
    };
    read().with_context(|| format!("{} cannot be read as weights", path.display()))
}

/// What the first bytes of a file say that it is.
enum Content {
    /// A zip archive: `torch.save` since 1.6, `torch.jit.save`
    Archive,
    Safetensors,
    Pickle,
    Nothing,
    Unknown,
}

impl Content {
    fn of(bytes: &[u8]) -> Content {
        match bytes {
            [] => Content::Nothing,
            [b'P', b'K', ..] => Content::Archive,
            // A number of eight bytes, and then a JSON object of that length.
            [_, _, _, _, _, _, _, _, b'{', ..] => Content::Safetensors,
            [0x80, 0..=5, ..] => Content::Pickle,
            _ => Content::Unknown,
        }
    }
}

/// The bytes of a regular file of at most `limit` bytes.
fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    // Asked before it is opened: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path)?;
    ensure!(!metadata.is_dir(), "it is a folder");
    ensure!(metadata.is_file(), "it is no regular file");
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= limit, "it has more than {limit} bytes, and the net's weights take under 100,000");
    Ok(bytes)
}

/// A tensor on the CPU of `bytes`, which libtorch takes without asking how many they are.
fn tensor(bytes: &[u8], size: &[i64], kind: Kind) -> Result<Tensor> {
    let numel = size.iter().try_fold(1usize, |numel, &size| numel.checked_mul(usize::try_from(size).ok()?));
    let expected = numel.and_then(|numel| numel.checked_mul(kind.elt_size_in_bytes()));
    ensure!(expected == Some(bytes.len()), "{} bytes make no tensor {size:?} of {}", bytes.len(), dtype(kind));
    Ok(Tensor::f_from_data_size(bytes, size, kind)?)
}

/// The `weights` of the file `path` in the order of `expected`, with exactly its keys, shapes and types.
///
/// Floats of another precision are converted, and a prefix that a wrapper of the net left on every key (`module.` of
/// DataParallel, `_orig_mod.` of torch.compile) is removed, each with a warning in the log.
///
/// # Errors
///
/// One sentence when a key is missing or too many, a shape or type differs, or a number is nan or infinite.
pub fn matching(path: &Path, weights: StateDict, expected: &StateDict) -> Result<StateDict> {
    let check = || {
        let weights = without_wrapper_prefix(path, weights.0);
        let plural = if weights.len() == 1 { "" } else { "s" };
        let described = format!("the file holds {} tensor{plural}, the first {}", weights.len(), first_key(&weights));
        let mut by_key: HashMap<String, Tensor> = weights.into_iter().collect();
        let mut converted = None;
        let mut matched = Vec::with_capacity(expected.0.len());
        for (key, like) in &expected.0 {
            let tensor = by_key.remove(key).with_context(|| format!("{key} is missing ({described})"))?;
            let (have, want) = (tensor.kind(), like.kind());
            ensure!(tensor.size() == like.size(), "{key} has the shape {:?}, not {:?}", tensor.size(), like.size());
            let tensor = match have {
                _ if have == want => tensor,
                Kind::Double | Kind::Half | Kind::BFloat16 if want == Kind::Float => {
                    converted = Some(have);
                    tensor.f_to_kind(want)?
                }
                // `net.half().state_dict()` keeps the counts of batches; a loop over it that converts all does not.
                Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16
                    if want == Kind::Int64 && bool::try_from(tensor.f_frac()?.f_eq(0.0)?.f_all()?)? =>
                {
                    tensor.f_to_kind(want)?
                }
                _ => bail!("{key} is of the type {}, not {}", dtype(have), dtype(want)),
            };
            let finite = bool::try_from(tensor.f_isfinite()?.f_all()?)?;
            ensure!(finite, "{key} holds a number that is nan or infinite");
            matched.push((key.clone(), tensor));
        }
        // The smallest, so that the same file always gives the same sentence.
        if let Some(key) = by_key.keys().min() {
            bail!("{} is no tensor of it", key.escape_debug());
        }
        if let Some(kind) = converted {
            tracing::warn!("{}: its {} weights are converted to float32", path.display(), dtype(kind));
        }
        Ok(StateDict(matched))
    };
    check().with_context(|| format!("{} does not fit the net", path.display()))
}

/// `weights` without the prefix that a wrapper of the net left on every key.
fn without_wrapper_prefix(path: &Path, weights: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    for prefix in ["module.", "_orig_mod."] {
        if !weights.is_empty() && weights.iter().all(|(key, _)| key.starts_with(prefix)) {
            tracing::warn!("{}: {prefix} is removed from the front of every key", path.display());
            return weights.into_iter().map(|(key, tensor)| (key[prefix.len()..].to_string(), tensor)).collect();
        }
    }
    weights
}

fn first_key(weights: &[(String, Tensor)]) -> String {
    weights.first().map_or_else(String::new, |(key, _)| key.escape_debug().to_string())
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

/// The formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.pt`: a TorchScript module with the tree of the original net.
    TorchScript,
    /// `.pth`: a state_dict, for `torch.load(weights_only=True)`.
    StateDict,
    /// `.safetensors`
    Safetensors,
}

impl Format {
    /// The endings, for a message.
    pub const ENDINGS: &str = ".pt (a TorchScript module), .pth (a state_dict) or .safetensors";

    /// The format that the ending of `path` stands for.
    pub fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "pt" => Some(Format::TorchScript),
            "pth" => Some(Format::StateDict),
            "safetensors" => Some(Format::Safetensors),
            _ => None,
        }
    }

    /// What a file of this format holds.
    pub fn describe(self) -> &'static str {
        match self {
            Format::TorchScript => "TorchScript module",
            Format::StateDict => "state_dict",
            Format::Safetensors => "safetensors",
        }
    }
}

/// Writes `weights` to `path` in the format of its ending; at every moment the file is the old or the whole new one.
///
/// The bytes depend on the arguments alone, not on the time or the folder. `dropout` goes into TorchScript's dropout
/// layers; `metadata` and `format: pt`, as PyTorch's own writer has it, go into safetensors' header.
///
/// # Errors
///
/// When the ending is unknown, a tensor of the net is missing (TorchScript), or the file cannot be written.
pub fn write(path: &Path, weights: &StateDict, dropout: f64, metadata: &BTreeMap<String, String>) -> Result<()> {
    let format = Format::of(path).with_context(|| format!("{} does not end in {}", path.display(), Format::ENDINGS))?;
    let on_cpu = |(key, tensor): &(String, Tensor)| Ok((key.clone(), tensor.f_to_device(Device::Cpu)?));
    let weights = StateDict(weights.0.iter().map(on_cpu).collect::<Result<_>>()?);
    let bytes = match format {
        Format::TorchScript => torchscript::bytes(&weights, dropout)?,
        Format::StateDict => jit::pickled_dict(&weights.0)?,
        Format::Safetensors => {
            let mut metadata = metadata.clone();
            metadata.insert("format".into(), "pt".into());
            safetensors::bytes(&weights, &metadata)?
        }
    };
    write_atomically(path, |path| Ok(std::fs::write(path, &bytes)?))
}
