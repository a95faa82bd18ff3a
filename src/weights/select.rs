//! Finds the net's weights among the tensors of a file: under any name, at any depth, with other things beside them.

use super::dtype;
use super::format::{Contents, Dict, Entry};
use crate::model::StateDict;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Display};
use tch::{Kind, Tensor};

/// The counts of BatchNorm that old versions of PyTorch, and other programs, do not save. PyTorch itself takes them as
/// 0.
const OPTIONAL: &str = "num_batches_tracked";

/// At most this many names are listed in a sentence.
const LISTED: usize = 5;

/// What a file holds are the weights of another net. Its text is one sentence.
#[derive(Debug)]
pub(crate) struct Misfit(String);

impl Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Misfit {}

/// A dict that holds weights, each key after this prefix.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    dict: &'a Dict,
    prefix: &'a str,
}

/// The weights that `contents` holds for a net with the keys, shapes and types of `expected`, and notices on what was
/// different.
///
/// `key` names one of several sets of weights. A prefix that all keys of the net share is removed. Without one, the
/// dict must hold exactly the net's keys, as `load_state_dict(strict=True)` demands.
///
/// # Errors
///
/// One sentence that names the first difference and what the file seems to hold.
pub(super) fn select(contents: &Contents, expected: &StateDict, key: Option<&str>) -> Result<(StateDict, Vec<String>)> {
    let all = candidates(contents, expected);
    let chosen = match key {
        Some(key) => vec![named(&all, key)?],
        None => different(&all, expected),
    };
    match chosen[..] {
        [one] => one.weights(expected),
        [] => Err(nothing(contents, expected)),
        _ => bail!("it holds several sets of weights: {}; choose one by --key NAME", labels(&chosen)),
    }
}

/// Every dict and prefix under which all of the net's keys are.
fn candidates<'a>(contents: &'a Contents, expected: &StateDict) -> Vec<Candidate<'a>> {
    let is_complete = |candidate: &Candidate| {
        let keys = candidate.by_key();
        expected.0.iter().all(|(key, _)| keys.contains_key(key.as_str()) || key.ends_with(OPTIONAL))
    };
    places(contents, expected).into_iter().filter(is_complete).collect()
}

/// Every dict and prefix under which the net's first key is.
fn places<'a>(contents: &'a Contents, expected: &StateDict) -> Vec<Candidate<'a>> {
    // A net without parameters has no key.
    let Some((first, _)) = expected.0.first() else { return Vec::new() };
    let prefixes = contents.dicts.iter().flat_map(|dict| {
        let prefixes = dict.entries.iter().filter_map(|(key, _)| key.strip_suffix(first.as_str()));
        prefixes.map(move |prefix| Candidate { dict, prefix })
    });
    prefixes.collect()
}

impl<'a> Candidate<'a> {
    /// The entries after the prefix.
    fn by_key(self) -> HashMap<&'a str, &'a Entry> {
        let entries = self.dict.entries.iter();
        entries.filter_map(|(key, entry)| Some((key.strip_prefix(self.prefix)?, entry))).collect()
    }

    /// The name by which `--key` chooses it.
    fn label(self) -> String {
        let parts = [self.dict.path.as_str(), self.prefix.trim_end_matches('.')];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }

    fn tensors(self, expected: &StateDict) -> Vec<Option<&'a Tensor>> {
        let keys = self.by_key();
        let tensor = |(key, _): &(String, Tensor)| match keys.get(key.as_str()) {
            Some(Entry::Tensor(tensor)) => Some(tensor),
            _ => None,
        };
        expected.0.iter().map(tensor).collect()
    }

    /// The weights in the order, the shapes and the types of `expected`.
    fn weights(self, expected: &StateDict) -> Result<(StateDict, Vec<String>)> {
        let mut keys = self.by_key();
        let (mut weights, mut notices) = (Vec::new(), Vec::new());
        let (mut converted, mut uncounted) = (None, 0);
        for (key, like) in &expected.0 {
            let tensor = match keys.remove(key.as_str()) {
                Some(Entry::Tensor(tensor)) => fitting(key, tensor, like, &mut converted)?,
                Some(Entry::Unreadable(reason)) => bail!("{key} cannot be read: {reason}"),
                None if key.ends_with(OPTIONAL) => {
                    uncounted += 1;
                    like.f_zeros_like()?
                }
                None => bail!(Misfit(format!("{key} is missing ({})", self.dict.describe()))),
            };
            weights.push((key.clone(), tensor));
        }
        // The smallest, so that the same file always gives the same sentence.
        if let Some(key) = keys.keys().min() {
            bail!(Misfit(format!("{} is not a tensor of the net", key.escape_debug())));
        }
        notices.extend(self.prefix_notice());
        notices.extend(converted.map(|kind| format!("its {} weights are converted to float32", dtype(kind))));
        if uncounted > 0 {
            notices.push(format!("it holds no {OPTIONAL}: the count starts at 0, which changes no result"));
        }
        Ok((StateDict(weights), notices))
    }

    /// What was removed from the keys, and what was left out for it.
    fn prefix_notice(self) -> Option<String> {
        if self.prefix.is_empty() {
            return None;
        }
        let rest = self.dict.entries.iter().map(|(key, _)| key).filter(|key| !key.starts_with(self.prefix));
        let rest: Vec<String> = rest.map(|key| key.escape_debug().to_string()).collect();
        let left_out = if rest.is_empty() { String::new() } else { format!("; left out: {}", listed(&rest)) };
        Some(format!("the prefix {} is removed from its keys{left_out}", self.prefix.escape_debug()))
    }
}

impl Dict {
    /// `the file holds 38 tensors, the first fc.weight`
    fn describe(&self) -> String {
        let tensors = self.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Tensor(_)));
        let keys: Vec<String> = tensors.map(|(key, _)| key.escape_debug().to_string()).collect();
        match &keys[..] {
            [] => "the file holds no tensors".into(),
            [one] => format!("the file holds 1 tensor, the first {one}"),
            [first, ..] => format!("the file holds {} tensors, the first {first}", keys.len()),
        }
    }

    /// The first entry that cannot be read, if there is no tensor beside it.
    fn unreadable(&self) -> Option<(&str, &str)> {
        let is_tensor = |(_, entry): &(String, Entry)| matches!(entry, Entry::Tensor(_));
        let first = self.entries.first().filter(|_| !self.entries.iter().any(is_tensor))?;
        match first {
            (key, Entry::Unreadable(reason)) => Some((key, reason)),
            (_, Entry::Tensor(_)) => None,
        }
    }
}

/// `tensor` with the shape and type of `like`, if it differs only in precision, or as [1] from a scalar.
fn fitting(key: &str, tensor: &Tensor, like: &Tensor, converted: &mut Option<Kind>) -> Result<Tensor> {
    let scalar = like.size().is_empty() && tensor.size() == [1];
    let tensor = if scalar { tensor.f_view_as(like)? } else { tensor.shallow_clone() };
    if tensor.size() != like.size() {
        bail!(Misfit(format!("{key} has the shape {:?}, not {:?}", tensor.size(), like.size())));
    }
    let (have, want) = (tensor.kind(), like.kind());
    let tensor = match have {
        _ if have == want => tensor,
        Kind::Double | Kind::Half | Kind::BFloat16 if want == Kind::Float => {
            *converted = Some(have);
            tensor.f_to_kind(want)?
        }
        // `net.half().state_dict()` keeps the counts as int64, but a loop that converts all tensors does not.
        Kind::Int | Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16
            if want == Kind::Int64
                && bool::try_from(tensor.f_to_kind(Kind::Double)?.f_frac()?.f_eq(0.0)?.f_all()?)? =>
        {
            tensor.f_to_kind(want)?
        }
        _ => bail!("{key} has the type {}, not {}", dtype(have), dtype(want)),
    };
    let finite = bool::try_from(tensor.f_isfinite()?.f_all()?)?;
    ensure!(finite, "{key} holds a number that is nan or infinite");
    Ok(tensor)
}

/// The candidate with this label.
fn named<'a>(candidates: &[Candidate<'a>], key: &str) -> Result<Candidate<'a>> {
    let found = candidates.iter().copied().find(|candidate| candidate.label() == key);
    found.with_context(|| match candidates {
        [] => format!("it holds no weights of the net, under {key} or any other key"),
        [one] if one.label().is_empty() => {
            format!("it holds one set of weights, which has no key: leave out --key {key}")
        }
        all => format!("it holds no weights of the net under the key {key}, but under: {}", labels(all)),
    })
}

/// The candidates whose numbers differ: of equal ones, the first.
fn different<'a>(candidates: &[Candidate<'a>], expected: &StateDict) -> Vec<Candidate<'a>> {
    let mut different: Vec<Candidate> = Vec::new();
    for &candidate in candidates {
        let same = |one: Option<&Tensor>, other: Option<&Tensor>| match (one, other) {
            (Some(one), Some(other)) => one.kind() == other.kind() && one.size() == other.size() && one.equal(other),
            (None, None) => true,
            _ => false,
        };
        let tensors = candidate.tensors(expected);
        let is_known =
            |known: &Candidate| known.tensors(expected).into_iter().zip(&tensors).all(|(one, other)| same(one, *other));
        if !different.iter().any(is_known) {
            different.push(candidate);
        }
    }
    different
}

fn labels(candidates: &[Candidate]) -> String {
    let label = |candidate: &Candidate| match candidate.label() {
        label if label.is_empty() => "(the outermost dict)".to_string(),
        label => label.escape_debug().to_string(),
    };
    listed(&candidates.iter().map(label).collect::<Vec<_>>())
}

/// `a, b, c` or `a, b, c, d, e and 7 more`
fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(LISTED)].join(", ");
    if names.len() > LISTED { format!("{shown} and {} more", names.len() - LISTED) } else { shown }
}

/// The error on a file without the net's weights: the first difference where most keys are, else what there is.
fn nothing(contents: &Contents, expected: &StateDict) -> anyhow::Error {
    let count = |place: &Candidate| {
        let keys = place.by_key();
        expected.0.iter().filter(|(key, _)| keys.contains_key(key.as_str())).count()
    };
    if let Some(nearest) = places(contents, expected).into_iter().rev().max_by_key(count) {
        return nearest.weights(expected).err().unwrap_or_else(|| anyhow!("it holds several sets of weights"));
    }
    if let Some(hint) = &contents.hint {
        return anyhow!(hint.clone());
    }
    let unreadable = contents.dicts.iter().map(Dict::unreadable).collect::<Option<Vec<_>>>().unwrap_or_default();
    if let Some((key, reason)) = unreadable.first() {
        let key = key.escape_debug();
        return anyhow!("it holds no tensors, only {key}: {reason}; save the net's state_dict() instead");
    }
    match contents.dicts.iter().max_by_key(|dict| dict.entries.len()) {
        Some(dict) => Misfit(format!("{} is missing ({})", expected.0[0].0, dict.describe())).into(),
        None => anyhow!("it holds no named tensors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn expected() -> StateDict {
        let scalar = Tensor::zeros([0i64; 0], (Kind::Int64, Device::Cpu));
        StateDict(vec![
            ("a.weight".into(), Tensor::zeros([2], (Kind::Float, Device::Cpu))),
            ("b.num_batches_tracked".into(), scalar),
        ])
    }

    fn dict(path: &str, values: &[(&str, f32)]) -> Dict {
        let entry = |(key, value): &(&str, f32)| (key.to_string(), Entry::Tensor(Tensor::from_slice(&[*value, 1.0])));
        Dict { path: path.into(), entries: values.iter().map(entry).collect() }
    }

    fn first(dicts: Vec<Dict>, key: Option<&str>) -> Result<(f64, Vec<String>)> {
        let contents = Contents { dicts, ..Contents::default() };
        let (weights, notices) = select(&contents, &expected(), key)?;
        Ok((weights.0[0].1.double_value(&[0]), notices))
    }

    #[test]
    fn prefixes_are_removed_and_what_is_outside_is_named() {
        let one = dict("state_dict", &[("module.net.a.weight", 3.0), ("n_averaged", 0.0)]);
        let (value, notices) = first(vec![one], None).unwrap();
        assert_eq!(value, 3.0);
        assert_eq!(notices[0], "the prefix module.net. is removed from its keys; left out: n_averaged");
        assert!(notices[1].contains("num_batches_tracked"));
    }

    #[test]
    fn within_the_prefix_and_without_one_the_keys_are_exactly_the_nets() {
        let error = |dict: Dict| first(vec![dict], None).unwrap_err().to_string();
        assert_eq!(error(dict("", &[("a.weight", 3.0), ("c", 1.0)])), "c is not a tensor of the net");
        assert_eq!(error(dict("", &[("m.a.weight", 3.0), ("m.c", 1.0)])), "c is not a tensor of the net");
        assert_eq!(error(dict("", &[("c", 1.0)])), "a.weight is missing (the file holds 1 tensor, the first c)");
    }

    #[test]
    fn of_several_sets_a_key_chooses_and_equal_ones_are_one() {
        let two = || vec![dict("model", &[("a.weight", 3.0)]), dict("ema", &[("m.a.weight", 4.0)])];
        let error = first(two(), None).unwrap_err().to_string();
        assert_eq!(error, "it holds several sets of weights: model, ema.m; choose one by --key NAME");
        assert_eq!(first(two(), Some("ema.m")).unwrap().0, 4.0);
        let error = first(two(), Some("x")).unwrap_err().to_string();
        assert_eq!(error, "it holds no weights of the net under the key x, but under: model, ema.m");
        let equal = vec![dict("model", &[("a.weight", 3.0)]), dict("best", &[("a.weight", 3.0)])];
        assert_eq!(first(equal, None).unwrap().0, 3.0);
    }

    #[test]
    fn a_weight_that_cannot_be_read_is_named() {
        let mut one = dict("", &[]);
        one.entries.push(("a.weight".into(), Entry::Unreadable("it is a numpy.ndarray".into())));
        let error = first(vec![one], None).unwrap_err().to_string();
        assert_eq!(error, "a.weight cannot be read: it is a numpy.ndarray");
    }
}
