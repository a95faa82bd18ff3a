//! Weights files: TorchScript (`.pt`), state_dict (`.pth`) and safetensors, read by content and written by ending.

pub mod archive;
pub mod pickle;
pub mod safetensors;
pub mod torchscript;

use crate::cli::UsageError;
use crate::files::write_atomically;
use crate::model::Net;
use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::Metadata;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The longest weights file that is read; the whole net has 60 kB in any format.
const MAX_FILE: u64 = 256 << 20;

/// The tensors of a net by name, in PyTorch's order: what `Net().state_dict()` returns there.
pub struct StateDict(pub Vec<(String, Tensor)>);

/// Reads the weights in `path`, whatever its name: TorchScript, `torch.save` or safetensors.
///
/// # Errors
///
/// One sentence that names the file: it cannot be read, is damaged, or holds no state_dict.
pub fn read(path: &Path) -> Result<StateDict> {
    let bytes = read_file(path, MAX_FILE)?;
    let weights = match bytes.as_slice() {
        [] => bail!("{} is empty", path.display()),
        [b'P', b'K', ..] => archive::read(Cursor::new(bytes)),
        [0x80, 2, 0x8a, ..] => Err(anyhow!("is in PyTorch's format of before 1.6: load and save it again in Python")),
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::parse(&bytes).map(|(weights, _)| weights),
        _ => Err(anyhow!("is no weights file: a .pt, .pth or .safetensors file is expected")),
    };
    weights.map_err(|error| anyhow!("{} {error:#}", path.display()))
}

/// A file's bytes, if it is a file of at most `limit` bytes.
fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let cannot = || format!("{} cannot be read", path.display());
    let metadata = std::fs::metadata(path).with_context(cannot)?;
    ensure!(metadata.is_file(), "{} is no file", path.display());
    ensure!(
        metadata.len() <= limit,
        "{} has {} bytes, too many for weights of this net",
        path.display(),
        metadata.len()
    );
    let mut bytes = Vec::new();
    File::open(path).with_context(cannot)?.take(limit).read_to_end(&mut bytes).with_context(cannot)?;
    Ok(bytes)
}

/// `weights` as a net takes them: exactly the keys of `expected`, in its order, of its shapes and types.
///
/// Floats of another width become float32, with a notice in the log; a prefix `module.` (of DataParallel) is taken off.
///
/// # Errors
///
/// One sentence that names the file and the first key that is missing, left over, of another shape or type, or that
/// holds a number that is not finite.
pub fn matching(path: &Path, weights: StateDict, expected: &StateDict) -> Result<StateDict> {
    let file = path.display();
    let mut given: HashMap<String, Tensor> = HashMap::new();
    for (key, tensor) in weights.0 {
        let key = key.strip_prefix("module.").map(str::to_string).unwrap_or(key);
        given.insert(key, tensor);
    }
    let mut converted = None;
    let mut matched = Vec::new();
    for (key, like) in &expected.0 {
        let tensor = given.remove(key).with_context(|| format!("{file} lacks {key}: it is of another net"))?;
        let (have, want) = (tensor.size(), like.size());
        ensure!(
            have == want,
            "{file} holds {key} of the shape {have:?} where {want:?} is expected: it is of another net"
        );
        let floats = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
        let right_type = match like.kind() {
            Kind::Float => floats.contains(&tensor.kind()),
            kind => tensor.kind() == kind,
        };
        ensure!(right_type, "{file} holds {key} of the type {:?} where {:?} is expected", tensor.kind(), like.kind());
        if tensor.kind() != like.kind() {
            converted = Some(tensor.kind());
        }
        let tensor = tensor.f_to_kind(like.kind())?;
        let finite = i64::try_from(tensor.f_isfinite()?.f_all()?)? != 0;
        ensure!(finite, "{file} holds a number in {key} that is nan or infinite: weights must be finite");
        matched.push((key.clone(), tensor));
    }
    let mut left_over: Vec<&String> = given.keys().collect();
    left_over.sort();
    if let Some(key) = left_over.first() {
        bail!("{file} holds {key}, which the net has not: it is of another net");
    }
    if let Some(kind) = converted {
        tracing::warn!("{file} holds weights of the type {kind:?}: they were converted to float32");
    }
    Ok(StateDict(matched))
}

/// Reads the weights in `path` into `net`.
///
/// # Errors
///
/// Those of [`read`] and [`matching`].
pub fn load(path: &Path, net: &Net) -> Result<()> {
    net.load_state_dict(&matching(path, read(path)?, &net.state_dict())?)
}

/// Writes `weights` to `path` in the format of its ending; a `.pt` module gets this `dropout`, a safetensors file the
/// `metadata`. The bytes depend on nothing else.
///
/// # Errors
///
/// A [`UsageError`] for another ending; one sentence when the file cannot be written.
pub fn write(path: &Path, weights: &StateDict, dropout: f64, metadata: &Metadata) -> Result<()> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("pt") => write_atomically(path, |path| torchscript::write(path, weights, dropout)),
        Some("pth") => write_atomically(path, |path| archive::write(path, weights)),
        Some("safetensors") => write_atomically(path, |path| safetensors::write(path, weights, metadata)),
        _ => Err(UsageError(format!(
            "{} must end in .pt (TorchScript), .pth (state_dict) or .safetensors",
            path.display()
        ))
        .into()),
    }
}

/// A tensor's elements, contiguous and little-endian.
fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}
