//! safetensors files (<https://github.com/huggingface/safetensors>), with metadata.

use super::StateDict;
use anyhow::{Result, anyhow, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use tch::{Kind, Tensor};

/// The longest file that is read; the whole net has 50 kB, a checkpoint of it 150 kB.
const MAX_FILE: u64 = 256 << 20;

/// Text by name, in the file's header.
pub type Metadata = BTreeMap<String, String>;

/// Writes `tensors` and `metadata` to `path`: the same bytes for the same content.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, tensors: &StateDict, metadata: &Metadata) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!(metadata));
    // int64 before float32 before uint8, so that each lies at a multiple of its own size.
    let mut sorted: Vec<&(String, Tensor)> = tensors.0.iter().collect();
    sorted.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.kind().elt_size_in_bytes()));
    let mut data = Vec::new();
    for (name, tensor) in sorted {
        let begin = data.len();
        data.extend(super::bytes(tensor)?);
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Int64 => Dtype::I64,
            Kind::Uint8 => Dtype::U8,
            kind => bail!("{name} is of the type {kind:?}, which is not written"),
        };
        header
            .insert(name.clone(), json!({"dtype": dtype, "shape": tensor.size(), "data_offsets": [begin, data.len()]}));
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = std::fs::File::create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    Ok(file.write_all(&data)?)
}

/// Reads the tensors, on the CPU, and the metadata of `path`.
///
/// # Errors
///
/// One sentence that names the file and what is wrong with it.
pub fn read(path: &Path) -> Result<(StateDict, Metadata)> {
    parse(&super::read_file(path, MAX_FILE)?).map_err(|error| anyhow!("{} {error}", path.display()))
}

/// As [`read`], of a file's bytes; an error reads on from the file's name.
pub(super) fn parse(bytes: &[u8]) -> Result<(StateDict, Metadata)> {
    let damaged = |error| anyhow!("is no whole safetensors file ({error}): copy or save it again");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let mut tensors = Vec::new();
    for (name, view) in SafeTensors::deserialize(bytes).map_err(damaged)?.iter() {
        let kind = match view.dtype() {
            Dtype::F64 => Kind::Double,
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
            Dtype::I32 => Kind::Int,
            Dtype::I16 => Kind::Int16,
            Dtype::I8 => Kind::Int8,
            Dtype::U8 => Kind::Uint8,
            Dtype::BOOL => Kind::Bool,
            dtype => bail!("holds {name} of the type {dtype:?}, which no weights have"),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        ensure!(shape.len() <= 8, "holds {name} of {} dimensions", shape.len());
        tensors.push((name.to_string(), Tensor::f_from_data_size(view.data(), &shape, kind)?));
    }
    Ok((StateDict(tensors), metadata))
}
