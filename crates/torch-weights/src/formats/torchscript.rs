//! TorchScript modules.

use super::torch_save;
use crate::archive::Archive;
use crate::{Contents, Format, Input, Room};
use anyhow::Result;

/// The record that TorchScript has and a state_dict does not.
const CONSTANTS: &str = "constants.pkl";

/// A module with its layers, scripted or traced. tch saves a VarStore as one.
pub(crate) const FORMAT: Format = Format {
    title: "TorchScript module",
    endings: &["pt"],
    written_by: "`torch.jit.save`, scripted or traced, but not frozen; tch's `VarStore::save` (`.ot`)",
    purpose: "training further without its code",
    opens_with: "torch.jit.load(file)",
    keeps: "the module with its layers, dropout too; classes and settings in its record `extra/tch_mnist.json`. PyTorch 2.11 calls TorchScript deprecated",
    layers: true,
    batch_counts: true,
    metadata: Room::ExtraFiles,
    recognises: |bytes| Archive::has(bytes, CONSTANTS),
    read,
    write: None,
};

fn read(input: &Input) -> Result<Contents> {
    let mut contents = torch_save::read(input)?;
    if contents.dicts.is_empty() {
        contents.hint = Some(
            "it is a frozen TorchScript module, whose weights are constants in its code: save the module before \
             torch.jit.freeze"
                .into(),
        );
    }
    Ok(contents)
}
