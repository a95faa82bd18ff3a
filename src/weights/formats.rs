//! The list of formats.

use super::format::Format;
use super::{legacy, npz, onnx, pt2, safetensors, torch_save, torchscript};
use std::path::Path;

/// Every format. The first one that recognises a file reads it.
pub(super) const FORMATS: [&dyn Format; 7] = [
    &torchscript::TorchScript,
    &torch_save::TorchSave,
    &safetensors::Safetensors,
    &onnx::Onnx,
    &pt2::Pt2,
    &npz::Npz,
    &legacy::Legacy,
];

/// The format that `bytes` are in.
pub(super) fn recognise(bytes: &[u8]) -> Option<&'static dyn Format> {
    FORMATS.into_iter().find(|format| format.recognises(bytes))
}

/// The format that the name of `path` stands for, in capitals too.
pub(super) fn named(path: &Path) -> Option<&'static dyn Format> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    let fits = |format: &&dyn Format| format.endings().iter().any(|ending| name.ends_with(&format!(".{ending}")));
    FORMATS.into_iter().find(fits)
}

/// `.pt (TorchScript module), .pth (state_dict), ... or .npz (NumPy arrays)`, for a message.
pub(super) fn endings() -> String {
    let written = FORMATS.into_iter().filter_map(|format| Some((format.endings().first()?, format.name())));
    let all: Vec<String> = written.map(|(ending, name)| format!(".{ending} ({name})")).collect();
    format!("{} or {}", all[..all.len() - 1].join(", "), all[all.len() - 1])
}
