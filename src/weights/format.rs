//! The trait behind which each format is, and what a file holds once it is read.

use crate::model::{Architecture, StateDict};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use tch::Tensor;

/// A weights format.
pub(super) trait Format: Sync {
    /// What a file of this format holds, for a message.
    fn name(&self) -> &'static str;

    /// The endings of file names that stand for the format when it is written, the usual one first; none if it is only
    /// read.
    fn endings(&self) -> &'static [&'static str];

    /// Whether `bytes` are a file of this format. The content decides, not the name.
    fn recognises(&self, bytes: &[u8]) -> bool;

    /// Reads a file. Nothing in it is run.
    fn read(&self, bytes: &[u8]) -> Result<Contents>;

    /// The bytes of a file; they depend only on `weights`.
    fn write(&self, _weights: &Weights) -> Result<Vec<u8>> {
        bail!("{} is only read", self.name())
    }
}

/// What is written.
pub(super) struct Weights {
    /// The net's tensors on the CPU, in the order of its state_dict.
    pub(super) state_dict: StateDict,
    /// The net's layers, for formats that contain them.
    pub(super) architecture: Architecture,
    /// How the weights came about, for formats that have room for it.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Whether the tensor with this key is a parameter. The others are the buffers of BatchNorm.
pub(super) fn is_parameter(key: &str) -> bool {
    key.ends_with(".weight") || key.ends_with(".bias")
}

/// What a file holds.
#[derive(Default)]
pub(super) struct Contents {
    /// The dicts of named tensors in it, outermost first.
    pub(super) dicts: Vec<Dict>,
    pub(super) metadata: BTreeMap<String, String>,
    /// Why it may hold no weights, and what to do, if the file shows that.
    pub(super) hint: Option<String>,
}

/// A dict of named tensors: a state_dict, or something like it.
pub(super) struct Dict {
    /// The keys that lead to it, joined by dots; empty for the outermost dict.
    pub(super) path: String,
    pub(super) entries: Vec<(String, Entry)>,
}

/// A value in a [`Dict`].
pub(super) enum Entry {
    Tensor(Tensor),
    /// It cannot be read, and why.
    Unreadable(String),
}

impl Contents {
    /// One dict of tensors and nothing else.
    pub(super) fn of(tensors: Vec<(String, Tensor)>) -> Contents {
        let entries = tensors.into_iter().map(|(key, tensor)| (key, Entry::Tensor(tensor))).collect();
        Contents { dicts: vec![Dict { path: String::new(), entries }], ..Contents::default() }
    }
}
