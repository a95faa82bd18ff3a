//! Weights in several files: an index in JSON that says which tensor is in which file beside it, as Hugging Face's
//! libraries write it (`model.safetensors.index.json`).

use crate::contents::Entry;
use crate::{Contents, Format, Input, MAX_BYTES, Room};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// An index and the files that it names.
pub(crate) const FORMAT: Format = Format {
    title: "index of several weights files",
    endings: &[],
    written_by: "`save_pretrained` of Hugging Face's libraries, in several files with `model.safetensors.index.json`",
    purpose: "weights of many gigabytes",
    opens_with: "",
    keeps: "",
    layers: false,
    batch_counts: true,
    metadata: Room::None,
    recognises: |bytes| bytes.starts_with(b"{") && serde_json::from_slice::<Index>(bytes).is_ok(),
    read,
    write: None,
};

#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

fn read(input: &Input) -> Result<Contents> {
    let Index { weight_map } = serde_json::from_slice(input.bytes).context("its index is damaged")?;
    let files: BTreeSet<&String> = weight_map.values().collect();
    let (mut left, mut entries, mut metadata) = (MAX_BYTES, Vec::new(), BTreeMap::new());
    for name in files {
        let bytes = input.beside(name, left)?;
        left -= bytes.len() as u64;
        let part = || format!("the file {} beside it", name.escape_debug());
        let contents = part_of(&bytes).with_context(part)?;
        metadata.extend(contents.metadata);
        for (key, entry) in contents.dicts.into_iter().flatten() {
            if weight_map.get(&key) == Some(name) {
                entries.push((key, entry));
            }
        }
    }
    let found: BTreeSet<&String> = entries.iter().map(|(key, _): &(String, Entry)| key).collect();
    let missing = weight_map.keys().find(|key| !found.contains(key));
    ensure!(missing.is_none(), "its index names {}, which is in no file", missing.map_or("", |key| key).escape_debug());
    Ok(Contents { metadata, ..Contents::of_entries(entries) })
}

/// The contents of one of the files. It is no index itself: it could name itself.
fn part_of(bytes: &[u8]) -> Result<Contents> {
    let format = Format::of(bytes)?;
    ensure!(*format != FORMAT, "it is an index too");
    (format.read)(&Input { bytes, folder: None })
}
