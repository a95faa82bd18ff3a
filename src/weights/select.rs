//! Finds the net's weights among the tensors of a file: under any name, at any depth, with other things beside them.

use super::tensors::{dtype, kind, tensor};
use crate::model::StateDict;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::HashSet;
use std::error::Error;
use std::fmt::{self, Display};
use tch::{Kind, Tensor};
use torch_weights::{Array, Contents, Dict, Dtype, Entry, Set, distinct};

/// The counts of BatchNorm that old versions of PyTorch, and other programs, do not save. PyTorch itself takes them as
/// 0.
const OPTIONAL: &str = "num_batches_tracked";

/// The variances of BatchNorm, of whose sums with eps it takes the roots.
const VARIANCE: &str = "running_var";

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
    let keys: Vec<&str> = expected.0.iter().map(|(key, _)| key.as_str()).collect();
    let needed: Vec<&str> = keys.iter().copied().filter(|key| !key.ends_with(OPTIONAL)).collect();
    let all = contents.sets(&needed);
    let chosen = match key {
        Some(key) => vec![named(&all, key)?],
        None => distinct(all, &keys),
    };
    match chosen[..] {
        [set] => weights(contents, set, expected),
        [] => Err(nothing(contents, expected, &keys)),
        _ => bail!("it holds several sets of weights: {}; choose one by --key NAME", labels(&chosen)),
    }
}

/// The weights of `set` in the order, the shapes and the types of `expected`.
fn weights(contents: &Contents, set: Set, expected: &StateDict) -> Result<(StateDict, Vec<String>)> {
    let (mut weights, mut notices) = (Vec::new(), Vec::new());
    let (mut converted, mut uncounted) = (None, 0);
    for (key, like) in &expected.0 {
        let tensor = match set.get(key) {
            Some(Entry::Array(array)) => fitting(key, array, like, &mut converted)?,
            Some(Entry::Unreadable(reason)) => bail!("{key} cannot be read: {reason}"),
            None if key.ends_with(OPTIONAL) => {
                uncounted += 1;
                like.f_zeros_like()?
            }
            None => bail!(missing(contents, key, set.dict())),
        };
        weights.push((key.clone(), tensor));
    }
    let own: HashSet<&str> = expected.0.iter().map(|(key, _)| key.as_str()).collect();
    // The smallest, so that the same file always gives the same sentence.
    if let Some(key) = set.names().filter(|name| !own.contains(name)).min() {
        bail!(Misfit(format!("{} is not a tensor of the net", key.escape_debug())));
    }
    notices.extend(prefix_notice(set));
    notices.extend(converted.map(|dtype: Dtype| format!("its {dtype} weights are converted to float32")));
    // A format that has no room for them lacks nothing.
    if uncounted > 0 && contents.format.is_none_or(|format| format.batch_counts) {
        notices.push(format!("it holds no {OPTIONAL}: the count starts at 0, which changes no result"));
    }
    Ok((StateDict(weights), notices))
}

/// What was removed from the keys, and what was left out for it.
fn prefix_notice(set: Set) -> Option<String> {
    if set.prefix().is_empty() {
        return None;
    }
    let rest: Vec<String> = set.outside().map(|key| key.escape_debug().to_string()).collect();
    let left_out = if rest.is_empty() { String::new() } else { format!("; left out: {}", listed(&rest)) };
    Some(format!("the prefix {} is removed from its keys{left_out}", set.prefix().escape_debug()))
}

/// A key of the net is not in the dict where most of them are.
fn missing(contents: &Contents, key: &str, dict: &Dict) -> Misfit {
    let hint = contents.hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"));
    Misfit(format!("{key} is missing ({}{hint})", describe(dict)))
}

/// `the file holds 38 tensors, the first fc.weight`
fn describe(dict: &Dict) -> String {
    let keys: Vec<String> = dict.arrays().map(|(key, _)| key.escape_debug().to_string()).collect();
    match &keys[..] {
        [] => "the file holds no tensors".into(),
        [one] => format!("the file holds 1 tensor, the first {one}"),
        [first, ..] => format!("the file holds {} tensors, the first {first}", keys.len()),
    }
}

/// The first entry that cannot be read, if there is no tensor beside it.
fn unreadable(dict: &Dict) -> Option<(&str, &str)> {
    match dict.entries().next() {
        Some((key, Entry::Unreadable(reason))) if dict.arrays().next().is_none() => Some((key, reason)),
        _ => None,
    }
}

/// `array` with the shape and type of `like`, if it differs only in precision, or as [1] from a scalar.
fn fitting(key: &str, array: &Array, like: &Tensor, converted: &mut Option<Dtype>) -> Result<Tensor> {
    let tensor = tensor(array)?;
    let scalar = like.size().is_empty() && tensor.size() == [1];
    let tensor = if scalar { tensor.f_view_as(like)? } else { tensor };
    if tensor.size() != like.size() {
        bail!(Misfit(format!("{key} has the shape {:?}, not {:?}", tensor.size(), like.size())));
    }
    let want = like.kind();
    let tensor = match array.dtype() {
        have if kind(have) == want => tensor,
        have @ (Dtype::F64 | Dtype::F16 | Dtype::BF16) if want == Kind::Float => {
            *converted = Some(have);
            tensor.f_to_kind(want)?
        }
        // `net.half().state_dict()` keeps the counts as int64, but a loop that converts all tensors does not.
        Dtype::I32 | Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
            if want == Kind::Int64
                && bool::try_from(tensor.f_to_kind(Kind::Double)?.f_frac()?.f_eq(0.0)?.f_all()?)? =>
        {
            tensor.f_to_kind(want)?
        }
        have => bail!("{key} has the type {have}, not {}", dtype(want)?),
    };
    let finite = bool::try_from(tensor.f_isfinite()?.f_all()?)?;
    ensure!(finite, "{key} holds a number that is nan or infinite");
    if key.ends_with(VARIANCE) {
        let negative = bool::try_from(tensor.f_lt(0.0)?.f_any()?)?;
        ensure!(!negative, "{key} holds a number below 0, which no variance is");
    }
    Ok(tensor)
}

/// The set with this label.
fn named<'a>(sets: &[Set<'a>], key: &str) -> Result<Set<'a>> {
    let found = sets.iter().copied().find(|set| set.label() == key);
    found.with_context(|| match sets {
        [] => format!("it holds no weights of the net, under {key} or any other key"),
        [one] if one.label().is_empty() => {
            format!("it holds one set of weights, which has no key: leave out --key {key}")
        }
        all => format!("it holds no weights of the net under the key {key}, but under: {}", labels(all)),
    })
}

fn labels(sets: &[Set]) -> String {
    let label = |set: &Set| match set.label() {
        label if label.is_empty() => "(the outermost dict)".to_string(),
        label => label.escape_debug().to_string(),
    };
    listed(&sets.iter().map(label).collect::<Vec<_>>())
}

/// `a, b, c` or `a, b, c, d, e and 7 more`
fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(LISTED)].join(", ");
    if names.len() > LISTED { format!("{shown} and {} more", names.len() - LISTED) } else { shown }
}

/// The error on a file without the net's weights: the first difference where most keys are, else what there is.
fn nothing(contents: &Contents, expected: &StateDict, keys: &[&str]) -> anyhow::Error {
    if let Some(nearest) = contents.nearest(keys) {
        let differs = weights(contents, nearest, expected).err();
        return differs.unwrap_or_else(|| anyhow!("it holds several sets of weights"));
    }
    let largest = contents.dicts.iter().max_by_key(|dict| dict.entries().count());
    let unreadable = contents.dicts.iter().map(unreadable).collect::<Option<Vec<_>>>().unwrap_or_default();
    let without_tensors = match (largest, unreadable.first(), keys.first()) {
        (Some(dict), None, Some(key)) => return missing(contents, key, dict).into(),
        (_, Some((key, reason)), _) => {
            format!("it holds no tensors, only {}: {reason}; save the net's state_dict() instead", key.escape_debug())
        }
        _ => "it holds no named tensors".to_string(),
    };
    anyhow!(contents.hint.clone().unwrap_or(without_tensors))
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
        let array = |value: f32| super::super::tensors::array(&Tensor::from_slice(&[value, 1.0])).unwrap();
        Dict::new(path.into(), values.iter().map(|(key, value)| (key.to_string(), Entry::Array(array(*value)))))
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
    fn a_variance_below_0_is_refused() {
        let select = |values: [f32; 2]| {
            let of = |values: &[f32]| Tensor::from_slice(values);
            let array = super::super::tensors::array(&of(&values)).unwrap();
            let dict = Dict::new("".into(), [("a.running_var".to_string(), Entry::Array(array))]);
            let contents = Contents { dicts: vec![dict], ..Contents::default() };
            select(&contents, &StateDict(vec![("a.running_var".into(), of(&[0.0, 0.0]))]), None).map(|_| ())
        };
        select([0.0, 1.0]).unwrap();
        let error = select([1.0, -1e-3]).unwrap_err().to_string();
        assert_eq!(error, "a.running_var holds a number below 0, which no variance is");
    }

    #[test]
    fn a_weight_that_cannot_be_read_is_named() {
        let one = Dict::new("".into(), [("a.weight".to_string(), Entry::Unreadable("it is a numpy.ndarray".into()))]);
        let error = first(vec![one], None).unwrap_err().to_string();
        assert_eq!(error, "a.weight cannot be read: it is a numpy.ndarray");
    }
}
