//! From a call of a constructor of `torch.nn` to a [`Layer`], and from a `Layer` to the call that makes it. Both follow the
//! arguments that the layer's kind shows.

use super::parser::Call;
use super::value::Value;
use crate::model::layers::{Argument, Arguments, Layer};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// The layer that `call` makes, for an input of this shape.
///
/// # Errors
///
/// One sentence about the class, or about an argument.
pub(super) fn read(call: &Call, input: &[i64]) -> Result<Layer> {
    // Training takes the logarithm of a net's last layer, which rounds less in one step.
    let class = if call.class == "Softmax" { "LogSoftmax" } else { call.class };
    let Some(mut layer) = Layer::blanks().into_iter().find(|layer| layer.class() == class) else {
        let classes: Vec<&str> = Layer::blanks().iter().map(|layer| layer.class()).collect();
        bail!("it is not a known layer{}", suggestion(call.class, &classes))
    };
    let given = bound(call, &Signature::of(layer))?;
    layer.arguments(input, &mut Reader { given })?;
    Ok(layer)
}

/// The layer as a call of Python, such as `Conv2d(1, 16, 3, bias=False)`: without what is the default.
impl Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = Writer::default();
        { *self }.arguments(&[], &mut writer).map_err(|_| fmt::Error)?;
        write!(f, "{}({})", self.class(), writer.written.join(", "))
    }
}

/// The names of a constructor's arguments.
#[derive(Default)]
struct Signature {
    all: Vec<&'static str>,
    required: Vec<&'static str>,
    /// Whether it takes any arguments and ignores them.
    is_open: bool,
}

impl Signature {
    fn of(mut layer: Layer) -> Signature {
        let mut signature = Signature::default();
        layer.arguments(&[], &mut signature).expect("a signature reads nothing");
        signature
    }
}

impl Arguments for Signature {
    fn anything(&mut self) -> Result<()> {
        self.is_open = true;
        Ok(())
    }

    fn required<T: Argument>(&mut self, name: &'static str, _: &mut T) -> Result<()> {
        self.required.push(name);
        self.all.push(name);
        Ok(())
    }

    fn optional<T: Argument>(&mut self, name: &'static str, _: T, _: &mut T) -> Result<()> {
        self.all.push(name);
        Ok(())
    }

    fn only(&mut self, name: &'static str, _: Value) -> Result<()> {
        self.all.push(name);
        Ok(())
    }
}

/// The values of `call` by name, as Python binds them.
fn bound<'a>(call: &'a Call, signature: &Signature) -> Result<BTreeMap<&'a str, &'a Value>> {
    if signature.is_open {
        return Ok(BTreeMap::new());
    }
    let (most, count) = (signature.all.len(), call.positional.len());
    ensure!(count <= most, "it gets {count} arguments and takes at most {most}");
    let mut given: BTreeMap<&str, &Value> = signature.all.iter().copied().zip(&call.positional).collect();
    for (name, value) in &call.keywords {
        ensure!(signature.all.contains(name), "{name} is not an argument{}", suggestion(name, &signature.all));
        ensure!(given.insert(name, value).is_none(), "{name} is given twice");
    }
    for name in &signature.required {
        let required = signature.required.join(", ");
        ensure!(given.contains_key(name), "{name} is missing: write {}({required})", call.class);
    }
    Ok(given)
}

/// The end of a sentence: what `word` may be meant as, the nearest of `known` or any of them.
fn suggestion(word: &str, known: &[&str]) -> String {
    let distance = |other: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &other.to_lowercase());
    // Conv1d is not a slip of the pen for Conv2d.
    let letters = |word: &str| word.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    let is_other = |other: &str| letters(other) == letters(word);
    match known.iter().min_by_key(|other| distance(other)) {
        Some(nearest) if 3 * distance(nearest) <= nearest.len() && !is_other(nearest) => {
            format!(": did you mean {nearest}?")
        }
        _ => format!("; there are {}", known.join(", ")),
    }
}

/// Sets fields to the values of a call.
struct Reader<'a> {
    given: BTreeMap<&'a str, &'a Value>,
}

impl Reader<'_> {
    fn field<T: Argument>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.given.get(name) else { return Ok(None) };
        T::read(value).map(Some).with_context(|| format!("{name} is {value}: it must be {}", T::expected()))
    }
}

impl Arguments for Reader<'_> {
    fn required<T: Argument>(&mut self, name: &'static str, field: &mut T) -> Result<()> {
        *field = self.field(name)?.with_context(|| format!("{name} is missing"))?;
        Ok(())
    }

    fn optional<T: Argument>(&mut self, name: &'static str, default: T, field: &mut T) -> Result<()> {
        *field = self.field(name)?.unwrap_or(default);
        Ok(())
    }

    fn only(&mut self, name: &'static str, default: Value) -> Result<()> {
        match self.given.get(name) {
            Some(value) if **value != default => bail!("{name}={value} is not supported: leave it out"),
            _ => Ok(()),
        }
    }
}

/// Writes the call that makes a layer.
#[derive(Default)]
struct Writer {
    written: Vec<String>,
}

impl Arguments for Writer {
    fn required<T: Argument>(&mut self, _: &'static str, field: &mut T) -> Result<()> {
        self.written.push(field.value().to_string());
        Ok(())
    }

    fn optional<T: Argument>(&mut self, name: &'static str, default: T, field: &mut T) -> Result<()> {
        if *field != default {
            self.written.push(format!("{name}={}", field.value()));
        }
        Ok(())
    }

    fn only(&mut self, _: &'static str, _: Value) -> Result<()> {
        Ok(())
    }
}
