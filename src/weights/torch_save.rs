//! Files of `torch.save`: a zip archive with a pickle, `data.pkl`, and the bytes of each storage beside it.
//!
//! The pickle of a state_dict is a dict of tensors; that of a TorchScript file the tree of modules with the tensors as
//! attributes. Layout: `torch/serialization.py` and `caffe2/serialize/inline_container.h`.

use super::archive::{Archive, with_extra};
use super::format::{Contents, Format, Weights};
use super::pickle::parse;
use super::storages::{Source, Storages};
use super::{MAX_BYTES, dicts};
use crate::libtorch::jit;
use anyhow::{Context, Result};

/// The largest pickle that is read: a hostile one takes 200 times its size in memory. That of the net has 6 KB.
pub(super) const MAX_PICKLE: u64 = 1 << 20;

pub(super) const PICKLE: &str = "data.pkl";

/// A state_dict, alone or in a checkpoint.
pub(super) struct TorchSave;

impl Format for TorchSave {
    fn name(&self) -> &'static str {
        "state_dict"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["pth", "pth.tar", "ckpt", "bin"]
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        Archive::has(bytes, PICKLE)
    }

    fn read(&self, bytes: &[u8]) -> Result<Contents> {
        let mut archive = Archive::open(bytes, PICKLE)?;
        let pickle = archive.record(PICKLE, MAX_PICKLE)?;
        let (graph, root) = parse(&pickle).context("its pickle is refused")?;
        let big_endian = archive.contains("byteorder") && archive.record("byteorder", 16)? == b"big";
        let metadata = archive.extra()?;
        Ok(Contents { metadata, ..dicts::read(&graph, root, Storages::new(archive, big_endian))? })
    }

    fn write(&self, weights: &Weights) -> Result<Vec<u8>> {
        with_extra(jit::pickled_dict(&weights.state_dict.0)?, PICKLE, &weights.metadata)
    }
}

impl Source for Archive<'_> {
    fn storage(&mut self, key: &str) -> Result<Vec<u8>> {
        self.record(&format!("data/{key}"), MAX_BYTES)
    }
}
