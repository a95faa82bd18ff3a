//! Files of `torch.save` before PyTorch 1.6, which `_use_new_zipfile_serialization=False` still writes: five pickles
//! one after the other (a magic number, a version, the byte order, the object, the keys of the storages), then the
//! storages.

use super::torch_save::MAX_PICKLE;
use crate::pickle::{self, Graph, Id, Node};
use crate::storages::{Source, Storages};
use crate::{Contents, Format, Input, Room, dicts};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;

/// The pickle of the magic number 0x1950a86a20f9469cfc6c, by which `torch.load` knows such a file.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// A state_dict in the format before PyTorch 1.6.
pub(crate) const FORMAT: Format = Format {
    title: "state_dict in the format before PyTorch 1.6",
    endings: &[],
    written_by: "`torch.save` before PyTorch 1.6, and with `_use_new_zipfile_serialization=False`",
    purpose: "",
    opens_with: "torch.load(file, weights_only=True)",
    keeps: "the state_dict",
    layers: false,
    batch_counts: true,
    metadata: Room::None,
    recognises: |bytes| matches!(bytes, [0x80, 0..=5, ..]),
    read,
    write: None,
};

fn read(input: &Input) -> Result<Contents> {
    let rest = input.bytes.strip_prefix(MAGIC).context(
        "it is a bare pickle, not a file of torch.save: in Python, save the net's state_dict() with torch.save",
    )?;
    let (_, _, rest) = next(rest)?;
    let (system, about, rest) = next(rest)?;
    let (graph, root, rest) = next(rest)?;
    let (keys, list, rest) = next(rest)?;
    let sizes = element_sizes(&graph);
    let storages = Raw::parse(&sizes, &keys, list, rest)?;
    dicts::read(&graph, root, Storages::new(storages, is_big_endian(&system, about)))
}

/// The next pickle: its values, its root, and the bytes after it.
fn next(bytes: &[u8]) -> Result<(Graph<'_>, Id, &[u8])> {
    let (graph, root, rest) = pickle::parse_first(bytes).context("its pickle is refused")?;
    let length = (bytes.len() - rest.len()) as u64;
    ensure!(length <= MAX_PICKLE, "its pickle has more than {MAX_PICKLE} bytes");
    Ok((graph, root, rest))
}

fn is_big_endian(graph: &Graph, about: Id) -> bool {
    let little = graph.items(graph.node(about)).iter().find(|(key, _)| graph.node(*key) == Node::Text("little_endian"));
    little.is_some_and(|(_, value)| graph.node(*value) == Node::Bool(false))
}

/// The bytes per element of each storage that the pickle refers to.
fn element_sizes<'a>(graph: &Graph<'a>) -> HashMap<&'a str, usize> {
    let storages = graph.storages();
    storages.filter_map(|storage| Some((storage.key, storage.dtype().ok()?.size()))).collect()
}

/// The storages at the end of the file: for each key the number of elements, eight bytes, and the elements.
struct Raw<'a>(HashMap<String, &'a [u8]>);

impl<'a> Raw<'a> {
    fn parse(sizes: &HashMap<&str, usize>, keys: &Graph, list: Id, mut rest: &'a [u8]) -> Result<Raw<'a>> {
        let mut storages = HashMap::new();
        for &key in keys.sequence(list)? {
            let Node::Text(key) = keys.node(key) else { bail!("a storage has no key") };
            let size = *sizes.get(key).context("it has a storage of a type that is not read")?;
            let (count, behind) = rest.split_first_chunk::<8>().context("it is cut short")?;
            let length = usize::try_from(u64::from_le_bytes(*count))?.checked_mul(size).context("it is damaged")?;
            let (bytes, behind) = behind.split_at_checked(length).context("it is cut short")?;
            storages.insert(key.to_string(), bytes);
            rest = behind;
        }
        Ok(Raw(storages))
    }
}

impl Source for Raw<'_> {
    fn storage(&mut self, key: &str) -> Result<Vec<u8>> {
        self.0.get(key).map(|bytes| bytes.to_vec()).context("its storage is missing")
    }
}
