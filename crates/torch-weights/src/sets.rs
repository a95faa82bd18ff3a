//! Sets of weights: arrays under known keys, in any dict of a file and after any prefix.

use crate::Array;
use crate::contents::{Contents, Dict, Entry};
use std::collections::HashSet;

/// At most this many places are compared for [`Contents::nearest`].
const MAX_PLACES: usize = 1000;

/// A place in a file where arrays under known keys are: a dict, and a prefix that all keys share there, such as the
/// `module.` of DistributedDataParallel.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    dict: &'a Dict,
    prefix: &'a str,
}

impl Contents {
    /// Every place where all of `keys` are, in the file's order.
    pub fn sets<'a>(&'a self, keys: &[&str]) -> Vec<Set<'a>> {
        let of_dict = |dict: &'a Dict| {
            let names = dict.entries().map(|(name, _)| name);
            let prefixes = complete(names, keys, |name| dict.get(name).is_some());
            prefixes.into_iter().map(move |prefix| Set { dict, prefix })
        };
        self.dicts.iter().flat_map(of_dict).collect()
    }

    /// The place with the first of `keys` where most of them are; the last one of several.
    pub fn nearest<'a>(&'a self, keys: &[&str]) -> Option<Set<'a>> {
        let first = *keys.first()?;
        let places = self.dicts.iter().flat_map(|dict| {
            dict.entries().filter_map(move |(name, _)| Some(Set { dict, prefix: name.strip_suffix(first)? }))
        });
        places.take(MAX_PLACES).max_by_key(|set| keys.iter().filter(|key| set.get(key).is_some()).count())
    }
}

/// The prefixes behind which all of `keys` are among `names`; `has` says whether a name is one of them.
fn complete<'a>(
    names: impl Iterator<Item = &'a str>,
    keys: &[&str],
    mut has: impl FnMut(&str) -> bool,
) -> Vec<&'a str> {
    let Some((first, others)) = keys.split_first() else { return Vec::new() };
    let prefixes = names.filter_map(|name| name.strip_suffix(first));
    // The first key that is missing ends the search, so that many prefixes with few keys cost little.
    prefixes.filter(|prefix| others.iter().all(|key| has(&format!("{prefix}{key}")))).collect()
}

impl<'a> Set<'a> {
    /// The dict that it is in.
    pub fn dict(self) -> &'a Dict {
        self.dict
    }

    /// What stands before each key.
    pub fn prefix(self) -> &'a str {
        self.prefix
    }

    /// The entry under `key`.
    pub fn get(self, key: &str) -> Option<&'a Entry> {
        match self.prefix {
            "" => self.dict.get(key),
            prefix => self.dict.get(&format!("{prefix}{key}")),
        }
    }

    /// The names after the prefix, in the file's order.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        self.dict.entries().filter_map(move |(name, _)| name.strip_prefix(self.prefix))
    }

    /// The names in its dict that do not begin with the prefix.
    pub fn outside(self) -> impl Iterator<Item = &'a str> {
        self.dict.entries().map(|(name, _)| name).filter(move |name| !name.starts_with(self.prefix))
    }

    /// The keys that lead to it, joined by dots: those to its dict, and its prefix.
    pub fn label(self) -> String {
        let parts = [self.dict.path(), self.prefix.trim_end_matches('.')];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }
}

/// Those of `sets` that differ under `keys`: of equal ones, the first.
pub fn distinct<'a>(sets: Vec<Set<'a>>, keys: &[&str]) -> Vec<Set<'a>> {
    let array = |set: Set<'a>, key: &&str| match set.get(key) {
        Some(Entry::Array(array)) => Some(array),
        _ => None,
    };
    let mut known: HashSet<Vec<Option<&Array>>> = HashSet::new();
    sets.into_iter().filter(|set| known.insert(keys.iter().map(|key| array(*set, key)).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    fn contents(dicts: &[(&str, &[(&str, u8)])]) -> Contents {
        let array = |value: u8| Entry::Array(Array::new(Dtype::U8, vec![1], vec![value]).unwrap());
        let dict = |(path, entries): &(&str, &[(&str, u8)])| {
            Dict::new(path.to_string(), entries.iter().map(|(name, value)| (name.to_string(), array(*value))))
        };
        Contents { dicts: dicts.iter().map(dict).collect(), ..Contents::default() }
    }

    #[test]
    fn a_set_is_found_in_any_dict_and_after_any_prefix() {
        let file = contents(&[
            ("", &[("epoch", 3)]),
            ("model", &[("net.a", 1), ("net.b", 2), ("extra", 9)]),
            ("ema", &[("a", 1), ("b", 2)]),
            ("other", &[("a", 5)]),
        ]);
        let sets = file.sets(&["a", "b"]);
        assert_eq!(sets.iter().map(|set| set.label()).collect::<Vec<_>>(), ["model.net", "ema"]);
        assert_eq!(sets[0].names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(sets[0].outside().collect::<Vec<_>>(), ["extra"]);
        assert_eq!(distinct(sets, &["a", "b"]).len(), 1);
        assert_eq!(file.nearest(&["a", "b", "c"]).unwrap().label(), "ema");
        assert!(file.sets(&[]).is_empty() && file.sets(&["c"]).is_empty());
    }

    #[test]
    fn many_prefixes_with_one_key_each_take_one_look_for_each() {
        let names: Vec<String> = (0..100_000).map(|number| format!("{number}.a")).collect();
        let mut looks = 0;
        let found = complete(names.iter().map(String::as_str), &["a", "b", "c", "d"], |_| {
            looks += 1;
            false
        });
        assert!(found.is_empty() && looks == 100_000, "{looks} looks");
    }
}
