//! Files of `torch.save`: a zip archive with a pickle, `data.pkl`, and the bytes of each storage beside it.
//!
//! The pickle of a state_dict is a dict of tensors; that of a TorchScript file the tree of modules with the tensors as
//! attributes. Layout: `torch/serialization.py` and `caffe2/serialize/inline_container.h`.

use crate::archive::Archive;
use crate::pickle::parse;
use crate::storages::{Source, Storages};
use crate::{Contents, Format, Input, MAX_BYTES, Room, dicts};
use anyhow::{Context, Result};

/// The largest pickle that is read: a hostile one takes 200 times its size in memory. That of a net of 38 tensors has
/// 6 KB.
pub(crate) const MAX_PICKLE: u64 = 1 << 20;

const PICKLE: &str = "data.pkl";

/// A state_dict, alone or in a checkpoint.
pub(crate) const FORMAT: Format = Format {
    title: "state_dict",
    endings: &["pth", "pth.tar", "ckpt", "bin"],
    written_by: "`torch.save`: a state_dict, alone or in a checkpoint",
    purpose: "a `Net` of your own",
    opens_with: "torch.load(file, weights_only=True)",
    keeps: "the state_dict; classes and settings in its record `extra/tch_mnist.json`",
    layers: false,
    batch_counts: true,
    metadata: Room::ExtraFiles,
    recognises: |bytes| Archive::has(bytes, PICKLE),
    read,
    write: None,
};

pub(crate) fn read(input: &Input) -> Result<Contents> {
    let mut archive = Archive::open(input.bytes, PICKLE)?;
    let pickle = archive.record(PICKLE, MAX_PICKLE)?;
    let (graph, root) = parse(&pickle).context("its pickle is refused")?;
    let big_endian = archive.contains("byteorder") && archive.record("byteorder", 16)? == b"big";
    let metadata = archive.extra()?;
    Ok(Contents { metadata, ..dicts::read(&graph, root, Storages::new(archive, big_endian))? })
}

impl Source for Archive<'_> {
    fn storage(&mut self, key: &str) -> Result<Vec<u8>> {
        self.record(&format!("data/{key}"), MAX_BYTES)
    }
}
