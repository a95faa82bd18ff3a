//! How a command line is read: what holds for every flag, whoever typed or generated it.

use crate::error::Expected;
use clap::builder::{OsStringValueParser, PossibleValue, TypedValueParser, ValueParser};
use clap::{Arg, Command};
use std::any::TypeId;
use std::ffi::{OsStr, OsString};

/// A flag as every command has it: `--lr -1` is a wrong value, not an unknown flag `-1`; `--nesterov` is
/// `--nesterov=true`; and launchers may write `--batch_size=64` and `--nesterov=True`.
pub(crate) fn polished(arg: Arg) -> Arg {
    let underscored = arg.get_long().map(|long| long.replace('-', "_")).filter(|alias| alias.contains('_'));
    let arg = match underscored.filter(|alias| !arg.get_all_aliases().is_some_and(|all| all.contains(&alias.as_str())))
    {
        Some(alias) => arg.alias(alias),
        None => arg,
    };
    if arg.is_positional() || !arg.get_action().takes_values() {
        return arg;
    }
    match arg.get_value_parser().type_id() == TypeId::of::<bool>() {
        true => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true)
            .value_parser(Truth),
        false => arg.allow_negative_numbers(true),
    }
}

/// The flag with any value in UTF-8; what it takes otherwise is only shown in its help.
pub(crate) fn unread(arg: Arg) -> Arg {
    let shown = arg.get_possible_values();
    let text = |value: OsString| value.into_string().map_err(|_| Expected("text in UTF-8".into()));
    arg.value_parser(ValueParser::new(Shown(shown).try_map(text)))
}

/// The values of a list: `6,12`, or `[6, 12]` as in Python and TOML.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    inner.split(',').map(str::trim)
}

/// `true` or `false`, in capitals too.
#[derive(Clone)]
struct Truth;

impl TypedValueParser for Truth {
    type Value = bool;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<bool, clap::Error> {
        clap::builder::BoolValueParser::new().parse_ref(command, arg, &value.to_ascii_lowercase())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(["true", "false"].map(PossibleValue::new).into_iter()))
    }
}

/// Any value; these are shown as the possible ones.
#[derive(Clone)]
struct Shown(Vec<PossibleValue>);

impl TypedValueParser for Shown {
    type Value = OsString;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<OsString, clap::Error> {
        OsStringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().cloned()))
    }
}
