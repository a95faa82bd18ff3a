//! Choices that bring settings of their own: an optimizer its `--momentum`, a schedule its `--step-size`.

use super::table_of;
use crate::error::{UsageError, either};
use clap::builder::ArgExt;
use clap::{Arg, Args, Command, FromArgMatches, ValueEnum};
use serde::Serialize;
use std::fmt::{Debug, Display};
use toml::Table;

/// One of several, chosen by a setting, such as `--optimizer`.
pub(super) trait Choice: ValueEnum + Debug + Display + Copy + PartialEq + Send + Sync + 'static {
    /// The settings of all of them, and of the choice itself.
    type Group: Args + Serialize;
    /// The key of the setting that chooses.
    const KEY: &'static str;
    /// The keys of the settings that stay as they are when another one is chosen.
    const SHARED: &'static [&'static str];
    /// What is chosen if nobody chooses.
    const DEFAULT: Self;

    /// In TOML, where its defaults differ from those of `DEFAULT`.
    fn own_defaults(self) -> &'static str {
        ""
    }

    /// Its settings and their defaults.
    fn defaults(self) -> Table {
        let matches = command::<Self>().get_matches_from([Self::KEY]);
        let mut table = table_of(&Self::Group::from_arg_matches(&matches).expect("every setting has a default"));
        table.retain(|key, _| key != Self::KEY && !Self::SHARED.contains(&key));
        table.extend(self.own_defaults().parse::<Table>().expect("it is TOML"));
        table
    }

    /// The keys of the settings that others have and it has not, and which have them.
    fn foreign(self) -> Vec<(String, Of<Self>)> {
        let of = |arg: &Arg| arg.get::<Of<Self>>().copied().filter(|of| !of.0.contains(&self));
        command::<Self>().get_arguments().filter_map(|arg| Some((arg.get_id().to_string(), of(arg)?))).collect()
    }

    /// Refuses those of `settings` that it does not have.
    fn check(self, settings: &Self::Group) -> Result<(), UsageError> {
        let (settings, defaults) = (table_of(settings), self.defaults());
        if let Some((key, of)) = self.foreign().into_iter().find(|(key, _)| settings[key] != defaults[key]) {
            let (flag, verb) = (super::flag(&key), if of.0.len() == 1 { "has" } else { "have" });
            return Err(UsageError(format!(
                "{self} has no --{flag}: leave it out; {} {verb} it",
                either(&of.names(), "and")
            )));
        }
        Ok(())
    }
}

/// The choices that have a setting. With the others it keeps its default.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<C: 'static>(pub(super) &'static [C]);

impl<C: Choice> ArgExt for Of<C> {}

impl<C: Choice> Of<C> {
    fn names(self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Puts the choices that have a setting before its help.
    pub(super) fn before_help(arg: Arg) -> Arg {
        match (arg.get::<Of<C>>().copied(), arg.get_help().cloned()) {
            (Some(of), Some(help)) => arg.help(format!("{}: {help}", of.names().join(", "))),
            _ => arg,
        }
    }
}

fn command<C: Choice>() -> Command {
    C::Group::augment_args(Command::new(C::KEY))
}
