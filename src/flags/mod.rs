//! How flags are declared and read: ranges of values, lists, kinds with settings of their own.

mod kinds;
mod ranges;
mod reading;

pub(crate) use kinds::{Choice, Chosen, Entry, List, Named, Together, explained, foreign, keys, named, read};
pub(crate) use ranges::{above, any, within};
pub(crate) use reading::{list, polished, unread};

use clap::Arg;
use serde::Serialize;
use toml::Table;

/// Settings under their keys in `config.toml`.
pub(crate) fn table_of(settings: &impl Serialize) -> Table {
    Table::try_from(settings).expect("every setting has a TOML form")
}

/// The default of a flag, as text; empty if it has none.
pub(crate) fn default_of(arg: &Arg) -> String {
    let values: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    values.join(",")
}
