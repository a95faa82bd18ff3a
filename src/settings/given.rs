//! Settings as they were given: by a command line, a TOML file, a recipe.

use super::{Form, Recipe, Settings, flag};
use crate::flags::{self, Choice, Entry, default_of, polished, unread};
use crate::train::optimizers::Algorithm;
use crate::train::schedules::Scheduler;
use anyhow::{Result, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use toml::{Table, Value};

/// Keys and the text of their values, in their order; of several values of one key the last one counts.
///
/// As the arguments of a command it takes every setting of a run and reads no value: [`Settings`] does, when all
/// sources are one list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Given(Vec<(String, String)>);

impl Given {
    /// Everything that `sources` give, the strongest last: each expands to its recipe, the defaults of the optimizer and
    /// the schedule that it newly chooses, and its own values.
    pub(super) fn expanded(sources: &[&Given]) -> Given {
        let form = Form::of(sources);
        let mut all = Given::default();
        all.begin::<dyn Algorithm>();
        all.begin::<dyn Scheduler>();
        for source in sources {
            // A name that is not one of a recipe or a choice is refused when it is read, as every wrong value is.
            if let Some(recipe) = source.choice::<Recipe>("recipe") {
                all.extend(&recipe.settings(form));
            }
            all.choose::<dyn Algorithm>(source);
            all.choose::<dyn Scheduler>(source);
            all.extend(source);
        }
        all
    }

    /// A flag for each, such as `--batch-size=64`.
    pub(super) fn arguments(&self) -> impl Iterator<Item = String> {
        self.pairs().map(|(key, value)| format!("--{}={value}", flag(key)))
    }

    /// Keys and values, in their order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The last value that was given for `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(given, _)| given == key).map(|(_, value)| value.as_str())
    }

    /// The last value that was given for `key`, one of several names.
    pub(super) fn choice<T: ValueEnum>(&self, key: &str) -> Option<T> {
        self.get(key).and_then(|name| T::from_str(name, false).ok())
    }

    pub(super) fn drop(&mut self, key: &str) {
        self.0.retain(|(given, _)| given != key);
    }

    /// Without the settings that its optimizer and its schedule do not have.
    pub(crate) fn effective(mut self) -> Given {
        self.drop_foreign::<dyn Algorithm>();
        self.drop_foreign::<dyn Scheduler>();
        self
    }

    /// Keeps the keys that `is_kept` holds for.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|(key, _)| is_kept(key));
    }

    pub(super) fn push(&mut self, key: &str, value: String) {
        self.0.push((key.to_string(), value));
    }

    fn extend(&mut self, other: &Given) {
        self.0.extend(other.0.iter().cloned());
    }

    /// The kind that is chosen.
    fn kind<C: Choice + ?Sized>(&self) -> &'static Entry<C> {
        self.get(C::KEY).and_then(flags::named).unwrap_or(&C::all()[0])
    }

    fn drop_foreign<C: Choice + ?Sized>(&mut self) {
        let foreign = flags::foreign(self.kind::<C>());
        self.0.retain(|(given, _)| !foreign.contains(given));
    }

    /// Adds the defaults of the kind that is chosen if nobody chooses, where they are its own.
    fn begin<C: Choice + ?Sized>(&mut self) {
        let own = C::all()[0].defaults.iter();
        self.0.extend(own.map(|(key, value)| (key.to_string(), value.to_string())));
    }

    /// Adds the defaults of the kind that `source` chooses, if another one is chosen here.
    fn choose<C: Choice + ?Sized>(&mut self, source: &Given) {
        let Some(chosen) = source.get(C::KEY).and_then(flags::named::<C>) else { return };
        if chosen.name == self.kind::<C>().name {
            return;
        }
        for arg in super::command().get_arguments() {
            let key = arg.get_id().as_str();
            if flags::keys::<C>().iter().any(|own| own == key) {
                self.push(key, chosen.default(key, &default_of(arg)).to_string());
            }
        }
    }
}

impl From<&Table> for Given {
    fn from(table: &Table) -> Given {
        Given(table.iter().map(|(key, value)| (key.clone(), text_of(value))).collect())
    }
}

/// The flags of a command that takes every setting of a run.
impl Args for Given {
    fn augment_args(command: Command) -> Command {
        let settings = Settings::keys();
        let is_setting = |id: &str| settings.iter().any(|key| key == id);
        Settings::augment_args(command).mut_args(|arg| match is_setting(arg.get_id().as_str()) {
            true => unread(polished(super::with_owners(arg))),
            false => arg,
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Given::augment_args(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Given, clap::Error> {
        let mut given = Given::default();
        for key in Settings::keys() {
            if matches.value_source(&key) == Some(ValueSource::CommandLine) {
                let value = matches.get_one::<String>(&key).expect("every setting takes a value");
                given.push(&key, value.clone());
            }
        }
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Given::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A TOML value as a flag takes it: a string without its quotes, an array as values with commas between them.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text_of).collect::<Vec<_>>().join(","),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Table(_) => {
            value.to_string()
        }
    }
}

/// Refuses what no flag takes: a table, and in a list what would be two values.
pub(super) fn check_form(key: &str, value: &Value) -> Result<()> {
    match value {
        Value::Table(_) => bail!("settings stand at the top level, not in a table: leave out [{key}]"),
        Value::Array(values) => {
            for value in values {
                check_form(key, value)?;
                if text_of(value).contains(',') {
                    bail!("a value in a list cannot contain a comma: {value}");
                }
            }
            Ok(())
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => Ok(()),
    }
}
