//! `.pt2`: what `torch.export.save` writes, a program of ATen operators with its weights beside it.
//!
//! A zip archive with the program as JSON, `models/model.json`, and each tensor as raw bytes.
//! `torch/_export/serde/schema.py` defines the JSON, `torch/export/pt2_archive/constants.py` the names of the records.

use super::torch_save;
use crate::archive::Archive;
use crate::contents::Entry;
use crate::{Array, Contents, Dtype, Format, Input, MAX_BYTES, Room};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The record by which torch knows such an archive.
pub const MARKER: &str = "archive_format";

/// The list of the weights by key.
pub const CONFIG: &str = "data/weights/model_weights_config.json";

/// The folder with their bytes.
pub const WEIGHTS: &str = "data/weights/";

/// The weights in files of `torch.export.save` before PyTorch 2.8: a file of `torch.save` in the archive.
const OLD_WEIGHTS: &str = "serialized_state_dict.pt";

/// The largest list of weights that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// `ScalarType` in `schema.py`.
const TYPES: [(Dtype, i64); 10] = [
    (Dtype::U8, 1),
    (Dtype::I8, 2),
    (Dtype::I16, 3),
    (Dtype::I32, 4),
    (Dtype::I64, 5),
    (Dtype::F16, 6),
    (Dtype::F32, 7),
    (Dtype::F64, 8),
    (Dtype::Bool, 12),
    (Dtype::BF16, 13),
];

/// A program of ATen operators with its weights.
pub(crate) const FORMAT: Format = Format {
    title: "exported program",
    endings: &["pt2"],
    written_by: "`torch.export.save`",
    purpose: "running it in PyTorch without its code",
    opens_with: "torch.export.load(file).module()",
    keeps: "the program in evaluation mode, the state_dict; classes and settings in its record `extra/tch_mnist.json`",
    layers: true,
    batch_counts: true,
    metadata: Room::ExtraFiles,
    recognises: |bytes| Archive::has(bytes, MARKER) || Archive::has(bytes, OLD_WEIGHTS),
    read,
    write: None,
};

/// The number of a type in the list of weights and in the program.
pub fn scalar_type(dtype: Dtype) -> i64 {
    TYPES.iter().find(|(own, _)| *own == dtype).expect("every type is there").1
}

fn read(input: &Input) -> Result<Contents> {
    if Archive::has(input.bytes, OLD_WEIGHTS) {
        let weights = Archive::open(input.bytes, OLD_WEIGHTS)?.record(OLD_WEIGHTS, MAX_BYTES)?;
        return torch_save::read(&Input { bytes: &weights, folder: None });
    }
    let mut archive = Archive::open(input.bytes, MARKER)?;
    let config: Config = serde_json::from_slice(&archive.record(CONFIG, MAX_CONFIG)?).context("its list of weights")?;
    let (mut entries, mut left) = (Vec::new(), MAX_BYTES);
    for (key, weight) in config.config {
        let bytes = archive.record(&format!("{WEIGHTS}{}", weight.path_name), left)?;
        left -= bytes.len() as u64;
        entries.push((key, Entry::from(weight.array(bytes))));
    }
    let metadata = archive.extra()?;
    Ok(Contents { metadata, ..Contents::of_entries(entries) })
}

/// The list of weights.
#[derive(Deserialize)]
struct Config {
    config: BTreeMap<String, Weight>,
}

#[derive(Deserialize)]
struct Weight {
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    tensor_meta: Meta,
}

#[derive(Deserialize)]
struct Meta {
    dtype: i64,
    sizes: Vec<Size>,
    strides: Vec<Size>,
    storage_offset: Size,
}

#[derive(Deserialize)]
struct Size {
    as_int: i64,
}

impl Weight {
    /// The array whose storage is `bytes`.
    fn array(&self, bytes: Vec<u8>) -> Result<Array> {
        let Meta { dtype, sizes, strides, storage_offset } = &self.tensor_meta;
        ensure!(!self.use_pickle, "it is pickled");
        let found = TYPES.iter().find(|(_, number)| number == dtype);
        let dtype = found.with_context(|| format!("its numbers have a type ({dtype}) that is not read"))?.0;
        let size: Vec<i64> = sizes.iter().map(|size| size.as_int).collect();
        ensure!(size.len() <= 8, "it has {} dimensions", size.len());
        let strides: Vec<i64> = strides.iter().map(|stride| stride.as_int).collect();
        ensure!(strides == contiguous(&size) && storage_offset.as_int == 0, "it is a view, which is not read");
        Array::from_sizes(dtype, &size, bytes)
    }
}

/// The strides of a contiguous tensor.
pub fn contiguous(size: &[i64]) -> Vec<i64> {
    let mut strides = vec![1i64; size.len()];
    for index in (1..size.len()).rev() {
        strides[index - 1] = strides[index].saturating_mul(size[index].max(1));
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strides_of_contiguous_tensors() {
        assert_eq!(contiguous(&[16, 1, 3, 3]), [9, 9, 3, 1]);
        assert_eq!(contiguous(&[16]), [1]);
        assert!(contiguous(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn any_description_is_read_or_refused(
            dtype in 0i64..15, sizes in prop::collection::vec(any::<i64>().prop_map(|size| size % 5), 0..4),
            strides in prop::collection::vec(-3i64..20, 0..4), bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let of = |numbers: Vec<i64>| numbers.into_iter().map(|as_int| Size { as_int }).collect();
            let tensor_meta = Meta { dtype, sizes: of(sizes), strides: of(strides), storage_offset: Size { as_int: 0 } };
            let weight = Weight { path_name: "weight_0".into(), use_pickle: false, tensor_meta };
            if let Ok(array) = weight.array(bytes.clone()) {
                prop_assert_eq!(array.bytes(), bytes);
            }
        }
    }
}
