//! The list of formats, one file each.

pub mod html;
pub mod onnx;
pub mod pt2;
pub mod safetensors;
pub(crate) mod torch_save;

mod index;
mod legacy;
mod npz;
mod torchscript;

use crate::Format;

/// Every format. The first one that recognises a file reads it.
pub const FORMATS: [&Format; 9] = [
    &torchscript::FORMAT,
    &torch_save::FORMAT,
    &safetensors::FORMAT,
    &onnx::FORMAT,
    &pt2::FORMAT,
    &npz::FORMAT,
    &html::FORMAT,
    &legacy::FORMAT,
    &index::FORMAT,
];
