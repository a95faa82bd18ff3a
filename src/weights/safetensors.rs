//! The safetensors format: the length of a JSON header, the header, the tensors' bytes.
//!
//! Specification: <https://huggingface.co/docs/safetensors>. The `safetensors` crate reads files. Its writer puts the
//! metadata into the header in the order of a hash map, so that two files of the same tensors differ; so the header is
//! written here.

use super::format::{Contents, Format, Weights};
use super::{raw, read_bytes, tensor};
use crate::model::StateDict;
use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// The largest header that is read, in bytes: that of the format's own reader. A checkpoint's has some 300 for each epoch.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the header's length.
const LENGTH: usize = 8;

/// The name in a run's checkpoint of the state of the CPU's generator: a file that has it is a checkpoint.
pub(crate) const CPU_GENERATOR: &str = "rng.cpu";

/// The prefix in a checkpoint of the weights that were measured. Others are those of the optimizer and of an average.
pub(crate) const MODEL: &str = "model.";

/// The tensors of a state_dict or of a run's checkpoint.
pub(crate) struct Safetensors;

impl Format for Safetensors {
    fn name(&self) -> &'static str {
        "safetensors"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["safetensors"]
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        // A number of eight bytes, and then a JSON object.
        matches!(bytes, [_, _, _, _, _, _, _, _, b'{', ..])
    }

    fn read(&self, bytes: &[u8]) -> Result<Contents> {
        let (StateDict(mut tensors), metadata) = parse(bytes)?;
        if tensors.iter().any(|(key, _)| key == CPU_GENERATOR) {
            tensors.retain(|(key, _)| key.starts_with(MODEL));
            tensors.iter_mut().for_each(|(key, _)| *key = key[MODEL.len()..].to_string());
        }
        Ok(Contents { metadata, ..Contents::of(tensors) })
    }

    fn write(&self, weights: &Weights) -> Result<Vec<u8>> {
        let mut metadata = weights.metadata.clone();
        // As PyTorch's own writer has it.
        metadata.insert("format".into(), "pt".into());
        to_bytes(&weights.state_dict, &metadata)
    }
}

/// Writes `tensors` and `metadata` to `path`. The bytes depend only on the arguments.
pub(crate) fn write(path: &Path, tensors: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    std::fs::write(path, to_bytes(tensors, metadata)?)?;
    Ok(())
}

/// Reads what [`write()`] or Python wrote: the tensors on the CPU, sorted by name, and the metadata.
pub(crate) fn read(path: &Path) -> Result<(StateDict, BTreeMap<String, String>)> {
    let read = || parse(&read_bytes(path)?);
    read().with_context(|| format!("{} cannot be read as safetensors", path.display()))
}

/// The file's bytes. As the format's own writers do, the types with the widest elements come first, then the names
/// are sorted, and the header is padded so that the data begins at a multiple of 8.
fn to_bytes(tensors: &StateDict, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut tensors: Vec<&(String, Tensor)> = tensors.0.iter().collect();
    tensors.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.kind().elt_size_in_bytes()), name));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let start = data.len();
        data.append(&mut raw(tensor)?);
        let info =
            json!({"dtype": type_of(tensor.kind())?, "shape": tensor.size(), "data_offsets": [start, data.len()]});
        header.insert(name.clone(), info);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    bytes.append(&mut data);
    Ok(bytes)
}

/// Reads a file's bytes.
fn parse(bytes: &[u8]) -> Result<(StateDict, BTreeMap<String, String>)> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().context("it is cut short")?;
    let length = u64::from_le_bytes(*length);
    ensure!(
        length <= rest.len() as u64,
        "its header should have {length} bytes, and {} bytes follow: it is cut short or not a safetensors file",
        rest.len()
    );
    ensure!(length <= MAX_HEADER, "its header has {length} bytes, more than {MAX_HEADER}");
    let damaged = "it is damaged or not a safetensors file";
    let file = SafeTensors::deserialize(bytes).context(damaged)?;
    let (_, header) = SafeTensors::read_metadata(bytes).context(damaged)?;
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let shape = view.shape().iter().map(|&size| Ok(i64::try_from(size)?)).collect::<Result<Vec<_>>>();
        let read = || tensor(view.data(), &shape?, kind_of(view.dtype())?);
        let tensor = read().with_context(|| name.escape_debug().to_string())?;
        Ok((name, tensor))
    });
    let mut tensors = tensors.collect::<Result<Vec<_>>>()?;
    tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok((StateDict(tensors), header.metadata().clone().unwrap_or_default().into_iter().collect()))
}

fn type_of(kind: Kind) -> Result<Dtype> {
    Ok(match kind {
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Int64 => Dtype::I64,
        Kind::Int => Dtype::I32,
        Kind::Int16 => Dtype::I16,
        Kind::Int8 => Dtype::I8,
        Kind::Uint8 => Dtype::U8,
        Kind::Bool => Dtype::BOOL,
        _ => bail!("a tensor of the type {kind:?} cannot be written as safetensors"),
    })
}

fn kind_of(dtype: Dtype) -> Result<Kind> {
    Ok(match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => bail!("its numbers have a type ({dtype:?}) that is not read"),
    })
}
