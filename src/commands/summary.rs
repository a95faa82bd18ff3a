//! `tch-mnist summary`: the layers as a table, their receptive fields and multiply-adds, and what a recipe makes of the settings.

use super::Outcome;
use super::session::{Backend, Weights};
use crate::model::{Architecture, layers_in_numbers, table};
use crate::observe::say;
use crate::settings::{Form, Given, NetSettings, Recipe, name_of};
use anyhow::Result;
use std::path::PathBuf;

/// Print the layers, their output shapes, parameters, receptive fields and multiply-adds
#[derive(clap::Parser)]
#[command(name = "summary")]
pub(super) struct Args {
    #[command(flatten)]
    net: NetSettings,
    /// The net of these weights instead: a file of this program's or of Python's, or a run's folder
    #[arg(long, value_name = "FILE", conflicts_with_all = ["net", "net_values", "dropout"])]
    weights: Option<PathBuf>,
    /// Which weights, if the file holds several sets
    #[arg(long, value_name = "NAME", requires = "weights")]
    key: Option<String>,
    /// Print the net as a net file instead, its placeholders filled
    #[arg(long, conflicts_with = "recipe")]
    print: bool,
    /// Also list the settings that this recipe makes, with teachers and on a GPU too, beside the original's
    #[arg(long, value_enum, value_name = "NAME")]
    recipe: Option<Recipe>,
}

/// Runs the command.
pub(super) fn run(args: Args, _: super::Verbosity) -> Result<Outcome> {
    let architecture = architecture(&args)?;
    if args.print {
        say(architecture.to_string().trim_end())?;
        return Ok(Outcome::Done);
    }
    say(table(&architecture))?;
    say(format!("\n{}", layers_in_numbers(&architecture)))?;
    if let Some(recipe) = args.recipe {
        say(format!("\n{}", settings(recipe)))?;
    }
    Ok(Outcome::Done)
}

/// The net that is asked for.
fn architecture(args: &Args) -> Result<Architecture> {
    let Some(path) = &args.weights else { return args.net.architecture() };
    let (net, _) = Weights::of(path, args.key.as_deref()).load(&Backend::PLAIN, NetSettings::DROPOUT)?;
    Ok(net.architecture().clone())
}

/// A row per setting under the name of its flag; `-` where it has no effect.
fn settings(recipe: Recipe) -> String {
    let row = |name: &str, cells: [&str; 4]| {
        format!("{name:<22} {:>13} {:>13} {:>13} {:>13}", cells[0], cells[1], cells[2], cells[3])
    };
    let original = Recipe::Original.settings(Form::Cpu);
    let [cpu, taught, gpu] = Form::ALL.map(|form| recipe.settings(form));
    let columns = [cpu, taught, gpu, original.clone()].map(Given::effective);
    let heads = [&name_of(&recipe), "with teachers", "on a GPU", &name_of(&Recipe::Original)];
    let mut lines = vec![row("setting", heads)];
    for (key, _) in original.pairs().filter(|(key, _)| columns.iter().any(|column| column.get(key).is_some())) {
        let values = columns.each_ref().map(|column| column.get(key).unwrap_or("-"));
        lines.push(row(&key.replace('_', "-"), values));
    }
    lines.join("\n")
}
