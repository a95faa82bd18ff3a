//! `tch-mnist lists`: everything of which the program has several kinds, as JSON.
//!
//! Tests go through all kinds by it, and `scripts/tables.py` writes the tables of the pages from it.

use super::{Outcome, Verbosity, serve};
use crate::data::{Dataset, sources};
use crate::flags::{Choice, Entry, List, default_of};
use crate::model::{Architecture, Layer};
use crate::observe::say;
use crate::settings::{Recipe, Settings};
use crate::train::METRICS;
use crate::train::augmentations::Augmentation;
use crate::train::optimizers::Algorithm;
use crate::train::schedules::Scheduler;
use anyhow::Result;
use clap::{Arg, ValueEnum};
use serde_json::{Value, json};

/// Print every list of the program as JSON
#[derive(clap::Parser)]
#[command(name = "lists", hide = true)]
pub(super) struct Args {}

/// Runs the command.
pub(super) fn run(_: Args, _: Verbosity) -> Result<Outcome> {
    say(serde_json::to_string_pretty(&lists())?)?;
    Ok(Outcome::Done)
}

/// Every list, one line each.
fn lists() -> Value {
    json!({
        "commands": commands(),
        "settings": Settings::listed(),
        "optimizers": kinds::<dyn Algorithm>(<dyn Algorithm>::SHARED),
        "schedules": kinds::<dyn Scheduler>(&[]),
        "augmentations": kinds::<dyn Augmentation>(&[]),
        "recipes": values::<Recipe>(),
        "datasets": values::<Dataset>(),
        "forms": named("about", sources::forms()),
        "nets": Architecture::own_names().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "layers": named("example", Layer::examples()),
        "formats": torch_weights::FORMATS,
        "metrics": named("about", METRICS.iter().copied()),
        "endpoints": named("about", serve::endpoints()),
    })
}

fn commands() -> Vec<Value> {
    let commands = super::all().into_iter().map(|entry| entry.command).filter(|command| !command.is_hide_set());
    commands
        .map(|command| {
            let mut command = command.clone().bin_name(format!("tch-mnist {}", command.get_name()));
            let about = command.get_about().map(ToString::to_string);
            let usage = command.render_usage().to_string();
            let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_string();
            json!({ "name": command.get_name(), "about": about, "usage": usage })
        })
        .collect()
}

/// The kinds of a list, each with its settings and their defaults. All have the settings `shared` too.
fn kinds<T: List + ?Sized>(shared: &[&str]) -> Vec<Value> {
    let shared: Vec<Arg> =
        Settings::flags().into_iter().filter(|arg| shared.contains(&arg.get_id().as_str())).collect();
    let kind = |entry: &Entry<T>| {
        let setting = |arg: &Arg| {
            let (key, help) = (arg.get_id().to_string(), arg.get_help().map(ToString::to_string));
            json!({ "key": key, "default": entry.default(&key, &default_of(arg)), "help": help })
        };
        let settings: Vec<Value> = shared.iter().chain(&entry.flags()).map(setting).collect();
        let examples: Vec<_> = entry.examples().collect();
        let (name, about, torch) = (entry.name, entry.about(), entry.torch);
        json!({ "name": name, "about": about, "torch": torch, "settings": settings, "examples": examples })
    };
    T::all().iter().map(kind).collect()
}

/// Names, each with a text that is called `what`.
fn named(what: &str, texts: impl IntoIterator<Item = (&'static str, &'static str)>) -> Vec<Value> {
    texts.into_iter().map(|(name, text)| json!({ "name": name, what: text })).collect()
}

/// The values of a setting that takes one of several.
fn values<T: ValueEnum>() -> Vec<Value> {
    let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    values
        .map(|value| json!({ "name": value.get_name(), "about": value.get_help().map(ToString::to_string) }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_names_each_of_its_entries_once() {
        for (list, entries) in lists().as_object().unwrap() {
            let key = match list.as_str() {
                "settings" => "key",
                "formats" => "title",
                _ => "name",
            };
            let mut names: Vec<&str> = entries.as_array().unwrap().iter().map(|it| it[key].as_str().unwrap()).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert!(count > 0 && names.len() == count, "{list}: {names:?}");
        }
    }

    #[test]
    fn every_setting_of_a_kind_acts_in_one_of_its_examples() {
        let listed = lists();
        for list in ["optimizers", "schedules", "augmentations"] {
            let shared = if list == "optimizers" { <dyn Algorithm>::SHARED } else { &[] };
            for kind in listed[list].as_array().unwrap() {
                let texts = |key: &str| kind[key].as_array().unwrap().clone();
                let examples: Vec<Vec<String>> =
                    texts("examples").into_iter().map(|flags| serde_json::from_value(flags).unwrap()).collect();
                assert!(!examples.is_empty(), "{kind}");
                for setting in texts("settings").iter().map(|it| it["key"].as_str().unwrap()) {
                    let flag = format!("--{}=", setting.replace('_', "-"));
                    let given = examples.iter().flatten().any(|example| example.starts_with(&flag));
                    assert!(given || shared.contains(&setting), "{} has no example with {flag}", kind["name"]);
                }
            }
        }
    }

    #[test]
    fn an_optimizer_is_listed_with_the_defaults_that_it_has() {
        let listed = lists();
        for optimizer in listed["optimizers"].as_array().unwrap() {
            let name = optimizer["name"].as_str().unwrap();
            let table = Settings::from_flags([format!("--optimizer={name}")]).unwrap().table();
            for setting in optimizer["settings"].as_array().unwrap() {
                let (key, default) = (setting["key"].as_str().unwrap(), setting["default"].as_str().unwrap());
                let is = crate::settings::text_of(&table[key]);
                let same = is == default || is.parse::<f64>().is_ok_and(|is| default.parse() == Ok(is));
                assert!(same, "{name}: {key} is {is}, listed as {default}");
            }
        }
    }
}
