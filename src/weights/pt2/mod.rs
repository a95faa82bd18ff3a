//! `.pt2`: what `torch.export.save` writes, a program of ATen operators with its weights beside it.

mod program;

use super::formats::{Weights, is_parameter};
use super::tensors::array;
use anyhow::Result;
use program::{meta, program, sizes};
use serde_json::json;
use std::io::{Cursor, Write};
use torch_weights::pt2::{CONFIG, MARKER, WEIGHTS};
use torch_weights::stored;
use zip::ZipWriter;

/// The folder of the records.
const FOLDER: &str = "model/";

/// The file of the net in evaluation mode, for `torch.export.load(FILE).module()`.
pub(super) fn render(weights: &Weights) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut record = |name: &str, bytes: &[u8]| -> Result<()> {
        zip.start_file(format!("{FOLDER}{name}"), stored())?;
        Ok(zip.write_all(bytes)?)
    };
    let mut config = serde_json::Map::new();
    for (index, (key, tensor)) in weights.state_dict.0.iter().enumerate() {
        let name = format!("weight_{index}");
        record(&format!("{WEIGHTS}{name}"), array(tensor)?.bytes())?;
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
    Ok(zip.finish()?.into_inner())
}
