//! Files of `torch.save` and `torch.jit.save`, read: a zip archive with a pickle, `data.pkl`, and the bytes of each
//! storage beside it.
//!
//! The pickle of `torch.save(net.state_dict(), ...)` is a dict of tensors, that of a TorchScript file the tree of
//! modules with the tensors as attributes. Layout: `torch/serialization.py` and `caffe2/serialize/inline_container.h`.

use super::pickle::{Graph, Id, Node, Storage, TensorView, parse};
use super::{MAX_BYTES, tensor};
use crate::model::StateDict;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use tch::{Kind, Tensor};
use zip::ZipArchive;

/// The largest pickle that is read: a hostile one takes 200 times its size in memory. That of the net has 6 KB.
const MAX_PICKLE: u64 = 1 << 20;

/// What the tensors may take in memory: views that repeat one storage can claim any size.
const MAX_TENSOR_BYTES: u64 = 64 << 20;

const DAMAGED: &str = "the archive is damaged or cut short";

/// Modules in modules: more than this is no net.
const MAX_DEPTH: usize = 32;

/// Dict items and attributes that are looked at.
const MAX_ITEMS: usize = 100_000;

/// A longer key is no name of a tensor.
const MAX_KEY: usize = 256;

/// Keys under which training scripts keep the state_dict in a checkpoint.
const WRAPPERS: [&str; 3] = ["model", "state_dict", "model_state_dict"];

/// Reads the weights that the archive in `bytes` holds.
///
/// # Errors
///
/// When the archive is damaged, or holds no state_dict and no TorchScript module.
pub(super) fn read(bytes: &[u8]) -> Result<StateDict> {
    let mut archive = Archive::open(bytes)?;
    let pickle = archive.record("data.pkl", MAX_PICKLE)?;
    let (graph, root) = parse(&pickle).context("its pickle is refused")?;
    let named = Finder::new(&graph).weights(root)?;
    let mut storages = Storages { big_endian: archive.is_big_endian()?, read: HashMap::new(), archive, bytes: 0 };
    let tensors = named.into_iter().map(|(key, tensor)| {
        let tensor = storages.tensor(graph.tensor(tensor)).with_context(|| key.escape_debug().to_string())?;
        Ok((key, tensor))
    });
    Ok(StateDict(tensors.collect::<Result<_>>()?))
}

/// An open archive and the folder in it that holds all records.
struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Archive<'a>> {
        let zip = ZipArchive::new(Cursor::new(bytes)).context(DAMAGED)?;
        let is_pickle = |name: &str| name.strip_suffix("/data.pkl").is_some_and(|folder| !folder.contains('/'));
        let pickle = zip.file_names().filter_map(Result::ok).find(|name| is_pickle(name)).map(|name| name.into_owned());
        let pickle = pickle.context("it is a zip archive, but holds no data.pkl as those of torch.save do")?;
        let folder = pickle.trim_end_matches("data.pkl").to_string();
        Ok(Archive { zip, folder })
    }

    /// The bytes of a record of at most `limit` bytes.
    fn record(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let name = format!("{}{name}", self.folder);
        let damaged = || format!("{DAMAGED} at {name}");
        let record = self.zip.by_name(&name).with_context(damaged)?;
        let mut bytes = Vec::new();
        // The size that the archive states is not to be trusted: it may be packed.
        record.take(limit + 1).read_to_end(&mut bytes).with_context(damaged)?;
        ensure!(bytes.len() as u64 <= limit, "{name} in it has more than {limit} bytes");
        Ok(bytes)
    }

    /// Whether the machine that wrote the storages is big-endian.
    fn is_big_endian(&mut self) -> Result<bool> {
        let name = format!("{}byteorder", self.folder);
        Ok(self.zip.index_for_name(&name).is_some() && self.record("byteorder", 16)? == b"big")
    }
}

/// The storages of an archive, read when a tensor first needs them.
struct Storages<'a> {
    archive: Archive<'a>,
    big_endian: bool,
    /// By class and key: the storage as a tensor [numel].
    read: HashMap<(&'a str, &'a str), Tensor>,
    /// The bytes of all storages and tensors so far.
    bytes: u64,
}

impl<'a> Storages<'a> {
    /// The tensor that `view` describes, with memory of its own.
    fn tensor(&mut self, view: &TensorView<'a>) -> Result<Tensor> {
        let kind = kind_of(view.storage.class)?;
        let storage = self.storage(view.storage, kind)?;
        // Checked before anything is allocated: a view may claim more elements than its storage has, or repeat them.
        let numel = numel_within(view).context("it reaches beyond its storage")?;
        self.count(numel.saturating_mul(kind.elt_size_in_bytes() as u64))?;
        Ok(storage.f_as_strided(&view.size, &view.stride, view.offset)?.f_contiguous()?.f_detach_copy()?)
    }

    fn storage(&mut self, storage: Storage<'a>, kind: Kind) -> Result<Tensor> {
        let key = (storage.class, storage.key);
        if let Some(read) = self.read.get(&key) {
            ensure!(read.size() == [storage.numel], "its storage is described in two ways");
            return Ok(read.shallow_clone());
        }
        let mut bytes = self.archive.record(&format!("data/{}", storage.key), MAX_BYTES)?;
        self.count(bytes.len() as u64)?;
        if self.big_endian {
            bytes.chunks_exact_mut(kind.elt_size_in_bytes()).for_each(<[u8]>::reverse);
        }
        let read = tensor(&bytes, &[storage.numel], kind).context("its storage")?;
        self.read.insert(key, read.shallow_clone());
        Ok(read)
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        ensure!(self.bytes <= MAX_TENSOR_BYTES, "the tensors take more than {MAX_TENSOR_BYTES} bytes");
        Ok(())
    }
}

/// The number of elements of `view`, when it lies within its storage.
fn numel_within(view: &TensorView) -> Option<u64> {
    if view.size.len() != view.stride.len() {
        return None;
    }
    let numel = view.size.iter().try_fold(1u64, |numel, &size| numel.checked_mul(u64::try_from(size).ok()?))?;
    let storage = u64::try_from(view.storage.numel).ok()?;
    let mut last = u64::try_from(view.offset).ok()?;
    if numel == 0 {
        return (last <= storage).then_some(0);
    }
    for (&size, &stride) in view.size.iter().zip(&view.stride) {
        let reach = u64::try_from(size - 1).ok()?.checked_mul(u64::try_from(stride).ok()?)?;
        last = last.checked_add(reach)?;
    }
    (last < storage).then_some(numel)
}

/// The type of the elements of a storage class of torch's.
fn kind_of(class: &str) -> Result<Kind> {
    Ok(match class {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => bail!("its numbers are of a type ({}) that is not read", class.escape_debug()),
    })
}

/// Finds the named tensors in a pickle.
struct Finder<'a> {
    graph: &'a Graph<'a>,
    /// Keys in the order in which they first come, with the index of the tensor that came last.
    found: Vec<(String, usize)>,
    position: HashMap<String, usize>,
    items: usize,
}

impl<'a> Finder<'a> {
    fn new(graph: &'a Graph<'a>) -> Finder<'a> {
        Finder { graph, found: Vec::new(), position: HashMap::new(), items: 0 }
    }

    /// The tensors of a state_dict, of a state_dict in a checkpoint's dict, or of a TorchScript module.
    fn weights(mut self, root: Id) -> Result<Vec<(String, usize)>> {
        match self.graph.node(root) {
            Node::Object(attributes) => self.collect(attributes, "", 0)?,
            Node::Dict(dict) => {
                let inner = self.wrapped(dict).unwrap_or(dict);
                self.collect(inner, "", 0)?;
            }
            other => bail!("it holds {}, not a state_dict", other.describe()),
        }
        ensure!(
            !self.found.is_empty(),
            "it holds no tensor under a name, so it is no state_dict, nor a dict with one under {}",
            WRAPPERS.join(", ")
        );
        Ok(self.found)
    }

    /// The state_dict that `dict` holds under one of the usual keys.
    fn wrapped(&self, dict: usize) -> Option<usize> {
        let items = self.graph.dict(dict);
        WRAPPERS.iter().find_map(|wrapper| {
            let item = items.iter().find(|(key, _)| self.graph.node(*key) == Node::Text(wrapper));
            match self.graph.node(item?.1) {
                Node::Dict(dict) | Node::Object(dict) => Some(dict),
                _ => None,
            }
        })
    }

    /// Collects the tensors of a dict or of a module and the modules in it; whatever else is there is passed over.
    fn collect(&mut self, dict: usize, prefix: &str, depth: usize) -> Result<()> {
        ensure!(depth <= MAX_DEPTH, "its modules are nested more than {MAX_DEPTH} deep");
        for &(key, value) in self.graph.dict(dict) {
            self.items += 1;
            ensure!(self.items <= MAX_ITEMS, "it holds more than {MAX_ITEMS} entries");
            let Node::Text(name) = self.graph.node(key) else { continue };
            ensure!(prefix.len() + name.len() <= MAX_KEY, "it holds a key of more than {MAX_KEY} bytes");
            match self.graph.node(value) {
                Node::Tensor(tensor) => {
                    let key = format!("{prefix}{name}");
                    match self.position.get(&key) {
                        Some(&position) => self.found[position].1 = tensor,
                        None => {
                            self.position.insert(key.clone(), self.found.len());
                            self.found.push((key, tensor));
                        }
                    }
                }
                Node::Object(attributes) => self.collect(attributes, &format!("{prefix}{name}."), depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_lies_within_its_storage_or_is_none() {
        let numel = |numel, offset, size: &[i64], stride: &[i64]| {
            let storage = Storage { class: "FloatStorage", key: "0", numel };
            numel_within(&TensorView { storage, offset, size: size.to_vec(), stride: stride.to_vec() })
        };
        assert_eq!(numel(6, 0, &[2, 3], &[3, 1]), Some(6));
        assert_eq!(numel(6, 0, &[3, 2], &[1, 3]), Some(6));
        assert_eq!(numel(6, 1, &[2, 3], &[3, 1]), None);
        assert_eq!(numel(1, 0, &[], &[]), Some(1));
        assert_eq!(numel(0, 0, &[], &[]), None);
        assert_eq!(numel(0, 0, &[0, 5], &[5, 1]), Some(0));
        assert_eq!(numel(1, 0, &[1 << 40], &[0]), Some(1 << 40));
        assert_eq!(numel(6, 0, &[1 << 40, 1 << 40], &[0, 0]), None);
        assert_eq!(numel(6, 0, &[2, 3], &[i64::MAX, 1]), None);
        assert_eq!(numel(6, 5, &[2], &[-1]), None);
        assert_eq!(numel(6, -1, &[2], &[1]), None);
        assert_eq!(numel(6, 0, &[-2], &[1]), None);
        assert_eq!(numel(6, 0, &[2, 3], &[1]), None);
    }
}
