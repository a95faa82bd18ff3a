//! The safetensors format: the length of a JSON header, the header, the tensors' bytes.
//!
//! Specification: <https://huggingface.co/docs/safetensors>. The `safetensors` crate reads files. Its writer puts the
//! metadata into the header in the order of a hash map, so that two files of the same tensors differ; so the header is
//! written here.

use crate::text::shown;
use crate::{Array, Contents, Dtype, Format, Room};
use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype as Type, SafeTensors};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The largest header that is read, in bytes: that of the format's own reader. A checkpoint's has some 300 for each epoch.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the header's length.
const LENGTH: usize = 8;

/// Arrays by name.
pub type Arrays = Vec<(String, Array)>;

/// The tensors of a state_dict.
pub(crate) const FORMAT: Format = Format {
    title: "safetensors",
    endings: &["safetensors"],
    written_by: "`safetensors.torch.save_file`, candle, burn, tch; `checkpoint.safetensors` of a run",
    purpose: "a `Net` of your own, without pickle",
    opens_with: "safetensors.torch.load_file(file)",
    keeps: "the state_dict; classes, settings and accuracy as metadata",
    layers: false,
    batch_counts: true,
    metadata: Room::Header,
    // A number of eight bytes, and then a JSON object.
    recognises: |bytes| matches!(bytes, [_, _, _, _, _, _, _, _, b'{', ..]),
    read: |input| {
        let (arrays, metadata) = parse(input.bytes)?;
        Ok(Contents { metadata, ..Contents::of(arrays) })
    },
    write: Some(|arrays, metadata| {
        let mut metadata = metadata.clone();
        // As PyTorch's own writer has it.
        metadata.insert("format".into(), "pt".into());
        Ok(to_bytes(arrays, &metadata))
    }),
};

/// The file's bytes. As the format's own writers do, the types with the widest elements come first, then the names
/// are sorted, and the header is padded so that the data begins at a multiple of 8.
pub fn to_bytes(arrays: &[(String, Array)], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut arrays: Vec<&(String, Array)> = arrays.iter().collect();
    arrays.sort_by_key(|(name, array)| (std::cmp::Reverse(array.dtype().size()), name));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut end = 0;
    for (name, array) in &arrays {
        let start = end;
        end += array.bytes().len();
        let info = json!({"dtype": type_of(array.dtype()), "shape": array.shape(), "data_offsets": [start, end]});
        header.insert(name.clone(), info);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let mut bytes = Vec::with_capacity(LENGTH + header.len() + end);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.append(&mut header);
    arrays.iter().for_each(|(_, array)| bytes.extend_from_slice(array.bytes()));
    bytes
}

/// The arrays of a file, sorted by name, and its metadata.
///
/// # Errors
///
/// If it is cut short, damaged, or has numbers of another type.
pub fn parse(bytes: &[u8]) -> Result<(Arrays, BTreeMap<String, String>)> {
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
    let mut arrays = Vec::new();
    for (name, view) in file.tensors() {
        let read = || Array::new(dtype_of(view.dtype())?, view.shape().to_vec(), view.data().to_vec());
        let array = read().with_context(|| shown(&name))?;
        arrays.push((name, array));
    }
    arrays.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok((arrays, header.metadata().clone().unwrap_or_default().into_iter().collect()))
}

fn type_of(dtype: Dtype) -> Type {
    match dtype {
        Dtype::F32 => Type::F32,
        Dtype::F64 => Type::F64,
        Dtype::F16 => Type::F16,
        Dtype::BF16 => Type::BF16,
        Dtype::I64 => Type::I64,
        Dtype::I32 => Type::I32,
        Dtype::I16 => Type::I16,
        Dtype::I8 => Type::I8,
        Dtype::U8 => Type::U8,
        Dtype::Bool => Type::BOOL,
    }
}

fn dtype_of(dtype: Type) -> Result<Dtype> {
    Ok(match dtype {
        Type::F32 => Dtype::F32,
        Type::F64 => Dtype::F64,
        Type::F16 => Dtype::F16,
        Type::BF16 => Dtype::BF16,
        Type::I64 => Dtype::I64,
        Type::I32 => Dtype::I32,
        Type::I16 => Dtype::I16,
        Type::I8 => Dtype::I8,
        Type::U8 => Dtype::U8,
        Type::BOOL => Dtype::Bool,
        _ => bail!("its numbers have a type ({dtype:?}) that is not read"),
    })
}
