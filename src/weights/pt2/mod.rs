//! `.pt2`: what `torch.export.save` writes, a program of ATen operators with its weights beside it.
//!
//! A zip archive with the program as JSON, `models/model.json`, and each tensor as raw bytes.
//! `torch/_export/serde/schema.py` defines the JSON, `torch/export/pt2_archive/constants.py` the names of the records.

mod program;

use super::archive::{Archive, stored, with_extra};
use super::format::{Contents, Dict, Entry, Format, Weights, is_parameter};
use super::torch_save::TorchSave;
use super::{MAX_BYTES, raw, tensor};
use anyhow::{Context, Result, ensure};
use program::{meta, program, sizes};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use tch::{Kind, Tensor};
use zip::ZipWriter;

/// The record by which torch knows such an archive, and the folder of the records when one is written.
const MARKER: &str = "archive_format";
const FOLDER: &str = "model/";

/// The weights: a list by key, and the folder with their bytes.
const CONFIG: &str = "data/weights/model_weights_config.json";
const WEIGHTS: &str = "data/weights/";

/// The weights in files of `torch.export.save` before PyTorch 2.8: a file of `torch.save` in the archive.
const OLD_WEIGHTS: &str = "serialized_state_dict.pt";

/// The largest list of weights that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// `ScalarType` in `schema.py`.
const TYPES: [(Kind, i64); 10] = [
    (Kind::Uint8, 1),
    (Kind::Int8, 2),
    (Kind::Int16, 3),
    (Kind::Int, 4),
    (Kind::Int64, 5),
    (Kind::Half, 6),
    (Kind::Float, 7),
    (Kind::Double, 8),
    (Kind::Bool, 12),
    (Kind::BFloat16, 13),
];

/// The net in evaluation mode, for `torch.export.load(FILE).module()`.
pub(super) struct Pt2;

impl Format for Pt2 {
    fn name(&self) -> &'static str {
        "exported program"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["pt2"]
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        Archive::has(bytes, MARKER) || Archive::has(bytes, OLD_WEIGHTS)
    }

    fn read(&self, bytes: &[u8]) -> Result<Contents> {
        if Archive::has(bytes, OLD_WEIGHTS) {
            return TorchSave.read(&Archive::open(bytes, OLD_WEIGHTS)?.record(OLD_WEIGHTS, MAX_BYTES)?);
        }
        let mut archive = Archive::open(bytes, MARKER)?;
        let config: Config =
            serde_json::from_slice(&archive.record(CONFIG, MAX_CONFIG)?).context("its list of weights")?;
        let (mut entries, mut left) = (Vec::new(), MAX_BYTES);
        for (key, weight) in config.config {
            let bytes = archive.record(&format!("{WEIGHTS}{}", weight.path_name), left)?;
            left -= bytes.len() as u64;
            let entry = match weight.tensor(&bytes) {
                Ok(tensor) => Entry::Tensor(tensor),
                Err(error) => Entry::Unreadable(format!("{error:#}")),
            };
            entries.push((key, entry));
        }
        let metadata = archive.extra()?;
        Ok(Contents { dicts: vec![Dict { path: String::new(), entries }], metadata, ..Contents::default() })
    }

    fn write(&self, weights: &Weights) -> Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let mut record = |name: &str, bytes: &[u8]| -> Result<()> {
            zip.start_file(format!("{FOLDER}{name}"), stored())?;
            Ok(zip.write_all(bytes)?)
        };
        let mut config = serde_json::Map::new();
        for (index, (key, tensor)) in weights.state_dict.0.iter().enumerate() {
            let name = format!("weight_{index}");
            record(&format!("{WEIGHTS}{name}"), &raw(tensor)?)?;
            let meta = meta(tensor.kind(), &sizes(&tensor.size()), &tensor.size(), is_parameter(key))?;
            let weight =
                json!({"path_name": name, "is_param": is_parameter(key), "use_pickle": false, "tensor_meta": meta});
            config.insert(key.clone(), weight);
        }
        record(CONFIG, json!({"config": config}).to_string().as_bytes())?;
        record("data/constants/model_constants_config.json", json!({"config": {}}).to_string().as_bytes())?;
        record("models/model.json", program(weights)?.to_string().as_bytes())?;
        // An example of the input is not needed, but the record is.
        record("data/sample_inputs/model.pt", b"")?;
        record(MARKER, b"pt2")?;
        record("archive_version", b"0")?;
        record("byteorder", b"little")?;
        record(".data/version", b"6\n")?;
        with_extra(zip.finish()?.into_inner(), MARKER, &weights.metadata)
    }
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
    /// The tensor whose storage is `bytes`.
    fn tensor(&self, bytes: &[u8]) -> Result<Tensor> {
        let Meta { dtype, sizes, strides, storage_offset } = &self.tensor_meta;
        ensure!(!self.use_pickle, "it is pickled");
        let found = TYPES.iter().find(|(_, number)| number == dtype);
        let kind = found.with_context(|| format!("its numbers have a type ({dtype}) that is not read"))?.0;
        let size: Vec<i64> = sizes.iter().map(|size| size.as_int).collect();
        ensure!(size.len() <= 8, "it has {} dimensions", size.len());
        let strides: Vec<i64> = strides.iter().map(|stride| stride.as_int).collect();
        ensure!(strides == contiguous(&size) && storage_offset.as_int == 0, "it is a view, which is not read");
        tensor(bytes, &size, kind)
    }
}

/// The strides of a contiguous tensor.
fn contiguous(size: &[i64]) -> Vec<i64> {
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
            if let Ok(tensor) = weight.tensor(&bytes) {
                prop_assert_eq!(tensor.numel() * tensor.kind().elt_size_in_bytes(), bytes.len());
            }
        }
    }
}
