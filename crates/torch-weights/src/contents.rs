//! What a weights file holds.

use crate::{Array, Format};
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// The format that it was read from.
    pub format: Option<&'static Format>,
    /// The dicts of named arrays in it, outermost first.
    pub dicts: Vec<Dict>,
    /// Texts beside them: the metadata of safetensors and ONNX, the extra files of TorchScript and `.pt2`.
    pub metadata: BTreeMap<String, String>,
    /// Why it may hold no weights, and what to do, if the file shows that.
    pub hint: Option<String>,
}

/// A dict of named arrays: a state_dict, or something like it.
#[derive(Debug)]
pub struct Dict {
    path: String,
    entries: IndexMap<String, Entry>,
}

/// A value in a [`Dict`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// An array.
    Array(Array),
    /// A value that cannot be read, and why.
    Unreadable(String),
}

impl Contents {
    /// One dict of arrays and nothing else.
    pub fn of(arrays: impl IntoIterator<Item = (String, Array)>) -> Contents {
        Contents::of_entries(arrays.into_iter().map(|(key, array)| (key, Entry::Array(array))))
    }

    /// One dict and nothing else.
    pub(crate) fn of_entries(entries: impl IntoIterator<Item = (String, Entry)>) -> Contents {
        Contents { dicts: vec![Dict::new(String::new(), entries)], ..Contents::default() }
    }
}

impl Dict {
    /// A dict that the keys in `path` lead to. Of a key that is there twice the last value counts, in the place of the
    /// first, as in Python.
    pub fn new(path: String, entries: impl IntoIterator<Item = (String, Entry)>) -> Dict {
        Dict { path, entries: last_values(entries) }
    }

    /// The keys that lead to it, joined by dots; empty for the outermost dict.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its entries in the file's order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// Its arrays in the file's order.
    pub fn arrays(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.entries().filter_map(|(key, entry)| match entry {
            Entry::Array(array) => Some((key, array)),
            Entry::Unreadable(_) => None,
        })
    }

    /// The entry under `key`.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }
}

impl IntoIterator for Dict {
    type Item = (String, Entry);
    type IntoIter = indexmap::map::IntoIter<String, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl From<anyhow::Result<Array>> for Entry {
    fn from(read: anyhow::Result<Array>) -> Entry {
        read.map_or_else(|error| Entry::Unreadable(format!("{error:#}")), Entry::Array)
    }
}

/// The last value of each key, in the place of its first.
fn last_values<K: std::hash::Hash + Eq, V>(items: impl IntoIterator<Item = (K, V)>) -> IndexMap<K, V> {
    items.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::hash::{Hash, Hasher};

    /// A key that counts how often it is compared.
    struct Counting<'a>(usize, &'a Cell<usize>);

    impl PartialEq for Counting<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.1.set(self.1.get() + 1);
            self.0 == other.0
        }
    }

    impl Eq for Counting<'_> {}

    impl Hash for Counting<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    #[test]
    fn a_dict_of_many_keys_takes_a_few_comparisons_for_each() {
        let comparisons = Cell::new(0);
        // Each key twice.
        let items = (0..200_000).map(|number| (Counting(number % 100_000, &comparisons), number));
        let last = last_values(items);
        assert_eq!(last.len(), 100_000);
        assert!(comparisons.get() < 400_000, "{} comparisons", comparisons.get());
    }

    #[test]
    fn the_last_value_of_a_key_counts_in_the_place_of_the_first() {
        let last = last_values([("a", 1), ("b", 2), ("a", 3)]);
        assert_eq!(last.into_iter().collect::<Vec<_>>(), [("a", 3), ("b", 2)]);
    }
}
