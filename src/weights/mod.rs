//! Weights files.

use tch::Tensor;

/// The tensors of a net by name, in PyTorch's order: what `Net().state_dict()` returns there.
pub struct StateDict(pub Vec<(String, Tensor)>);
pub mod safetensors;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
pub fn load(_p: &Path, _n: &crate::model::Net) -> Result<()> {
    unimplemented!()
}
pub fn write(p: &Path, w: &StateDict, _dropout: f64, m: &BTreeMap<String, String>) -> Result<()> {
    if p.extension().unwrap() == "safetensors" {
        safetensors::write(p, w, m)?
    }
    Ok(())
}
