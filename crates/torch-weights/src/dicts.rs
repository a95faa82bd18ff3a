//! The dicts of tensors in a pickle, at any depth.

use crate::contents::{Contents, Dict, Entry};
use crate::pickle::{Graph, Id, Node};
use crate::storages::{Source, Storages};
use anyhow::{Result, ensure};
use std::collections::HashSet;

/// Dicts in dicts, and modules in modules: what is nested deeper is not a net.
const MAX_DEPTH: usize = 32;

/// Dict items and attributes that are looked at.
const MAX_ITEMS: usize = 100_000;

/// The longest key of a tensor, in bytes, and the longest path of keys to a dict.
const MAX_KEY: usize = 256;
const MAX_PATH: usize = 1024;

/// Reads every dict in `graph` that has a tensor, or an object that may stand for one, under a name.
pub(crate) fn read<'a, S: Source>(graph: &'a Graph<'a>, root: Id, storages: Storages<'a, S>) -> Result<Contents> {
    let mut walk = Walk { graph, storages, contents: Contents::default(), seen: HashSet::new(), items: 0 };
    if let Node::Opaque(object) = graph.node(root) {
        walk.contents.hint = Some(format!(
            "it is an object that {} would make in Python, and nothing is run here: save the net's state_dict() instead",
            graph.opaque(object).name()
        ));
    }
    walk.value(root, String::new(), 0)?;
    Ok(walk.contents)
}

struct Walk<'a, S> {
    graph: &'a Graph<'a>,
    storages: Storages<'a, S>,
    contents: Contents,
    /// The dicts and lists that were visited: a pickle may contain itself.
    seen: HashSet<Id>,
    items: usize,
}

impl<'a, S: Source> Walk<'a, S> {
    /// Looks for dicts in the value `id`, which the keys in `path` lead to.
    fn value(&mut self, id: Id, path: String, depth: usize) -> Result<()> {
        let node = self.graph.node(id);
        if depth > MAX_DEPTH || !self.seen.insert(id) {
            return Ok(());
        }
        match node {
            Node::Object(module) => {
                let mut entries = Vec::new();
                self.module(module, "", 0, &mut entries)?;
                self.keep(path, entries);
            }
            Node::Dict(_) | Node::Opaque(_) => {
                let items = self.graph.items(node);
                let entries = self.entries(items)?;
                self.keep(path.clone(), entries);
                for &(key, value) in items {
                    if let Node::Text(name) = self.graph.node(key) {
                        self.inside(value, &path, name, depth)?;
                    }
                }
            }
            Node::Sequence(_) => {
                for (index, &value) in self.graph.sequence(id)?.iter().enumerate() {
                    self.count()?;
                    self.inside(value, &path, &index.to_string(), depth)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks for dicts in the value `id`, which is in the container at `path` under `name`.
    fn inside(&mut self, id: Id, path: &str, name: &str, depth: usize) -> Result<()> {
        // Only for a container is a path made: a long one costs its length for each item.
        if !matches!(self.graph.node(id), Node::Dict(_) | Node::Object(_) | Node::Opaque(_) | Node::Sequence(_)) {
            return Ok(());
        }
        ensure!(path.len() + name.len() < MAX_PATH, "it holds a key of more than {MAX_PATH} bytes");
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        self.value(id, path, depth + 1)
    }

    fn keep(&mut self, path: String, entries: Vec<(String, Entry)>) {
        if !entries.is_empty() {
            self.contents.dicts.push(Dict::new(path, entries));
        }
    }

    /// The tensors and objects of a dict by name.
    fn entries(&mut self, items: &[(Id, Id)]) -> Result<Vec<(String, Entry)>> {
        let mut entries: Vec<(String, Entry)> = Vec::new();
        for &(key, value) in items {
            self.count()?;
            let Node::Text(name) = self.graph.node(key) else { continue };
            let Some(entry) = self.entry(value)? else { continue };
            ensure!(name.len() <= MAX_KEY, "it holds a key of more than {MAX_KEY} bytes");
            entries.push((name.to_string(), entry));
        }
        Ok(entries)
    }

    /// The tensors of a TorchScript module and of the modules in it, under the keys of its state_dict.
    ///
    /// tch saves a VarStore as such a module, with bars for the dots, which TorchScript does not allow in a name.
    fn module(&mut self, module: usize, prefix: &str, depth: usize, entries: &mut Vec<(String, Entry)>) -> Result<()> {
        ensure!(depth <= MAX_DEPTH, "its modules are nested more than {MAX_DEPTH} deep");
        for &(key, value) in self.graph.items(Node::Object(module)) {
            self.count()?;
            let Node::Text(name) = self.graph.node(key) else { continue };
            ensure!(prefix.len() + name.len() <= MAX_KEY, "it holds a key of more than {MAX_KEY} bytes");
            let key = format!("{prefix}{}", name.replace('|', "."));
            match self.graph.node(value) {
                Node::Object(inner) => self.module(inner, &format!("{key}."), depth + 1, entries)?,
                _ => {
                    if let Some(entry) = self.entry(value)? {
                        entries.push((key, entry));
                    }
                }
            }
        }
        Ok(())
    }

    /// A tensor, or an object that cannot be one; `None` for any other value.
    fn entry(&mut self, value: Id) -> Result<Option<Entry>> {
        let entry = match self.graph.node(value) {
            Node::Tensor(tensor) => match self.storages.tensor(self.graph.tensor(tensor)) {
                Ok(array) => Entry::Array(array),
                Err(error) if self.storages.is_exhausted() => return Err(error),
                Err(error) => Entry::Unreadable(format!("{error:#}")),
            },
            Node::Opaque(object) => Entry::Unreadable(uncalled(&self.graph.opaque(object).name())),
            _ => return Ok(None),
        };
        Ok(Some(entry))
    }

    fn count(&mut self) -> Result<()> {
        self.items += 1;
        ensure!(self.items <= MAX_ITEMS, "it holds more than {MAX_ITEMS} entries");
        Ok(())
    }
}

/// The functions by which PyTorch and NumPy save arrays that are not read, and what to do.
const KINDS: [(&str, &str); 10] = [
    ("torch._utils._rebuild_qtensor", "it is quantized: save its dequantize()"),
    ("torch._utils._rebuild_sparse_tensor", "it is sparse: save its to_dense()"),
    ("torch._utils._rebuild_nested_tensor", "it is a nested tensor: save its to_padded_tensor(0.0)"),
    ("torch._utils._rebuild_meta_tensor_no_storage", "it is on the device meta and has no numbers"),
    ("torch._utils._rebuild_tensor_v3", "its numbers have a type that is not read: save its float()"),
    ("torch._tensor._rebuild_from_type_v2", "it is of a subclass of Tensor: save its as_subclass(torch.Tensor)"),
    ("torch._utils._rebuild_wrapper_subclass", "it is of a subclass of Tensor: save a plain tensor"),
    ("numpy._core.multiarray._reconstruct", "it is a NumPy array: save torch.from_numpy of it, or all by numpy.savez"),
    ("numpy.core.multiarray._reconstruct", "it is a NumPy array: save torch.from_numpy of it, or all by numpy.savez"),
    ("torch._utils._rebuild_device_tensor_from_numpy", "it was on a device that is not read: save its cpu()"),
];

/// Why a value that the function or class `name` would make cannot be read.
fn uncalled(name: &str) -> String {
    let known = KINDS.iter().find(|(function, _)| *function == name);
    known.map_or_else(|| format!("it depends on {name}, which is not called here"), |(_, what)| (*what).into())
}
