//! safetensors files of this program: a run's checkpoints, and tensors for other programs.

use super::tensors::{arrays, tensors};
use crate::model::StateDict;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use torch_weights::{MAX_BYTES, read_file, safetensors};

/// The name in a run's checkpoint of the state of the CPU's generator: a file that has it is a checkpoint.
pub(crate) const CPU_GENERATOR: &str = "rng.cpu";

/// The prefix in a checkpoint of the weights that were measured. Others are those of the optimizer and of an average.
pub(crate) const MODEL: &str = "model.";

/// Writes `tensors` and `metadata` to `path`. The bytes depend only on the arguments.
pub(crate) fn write(path: &Path, tensors: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    std::fs::write(path, safetensors::to_bytes(&arrays(tensors)?, metadata))?;
    Ok(())
}

/// Reads what [`write()`] or Python wrote: the tensors on the CPU, sorted by name, and the metadata.
pub(crate) fn read(path: &Path) -> Result<(StateDict, BTreeMap<String, String>)> {
    let read = || -> Result<_> {
        let (arrays, metadata) = safetensors::parse(&read_file(path, MAX_BYTES)?)?;
        Ok((tensors(&arrays)?, metadata))
    };
    read().with_context(|| format!("{} cannot be read as safetensors", path.display()))
}
