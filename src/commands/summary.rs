//! `tch-mnist summary`: the layers as a table, the receptive fields, and what a recipe makes of the settings.

use super::Outcome;
use crate::model::{receptive_fields, table};
use crate::observe::say;
use crate::settings::{Form, Given, NetSettings, Recipe, name_of};
use anyhow::Result;

/// Print the layers, their output shapes, parameters and receptive fields
#[derive(clap::Parser)]
#[command(name = "summary")]
pub(super) struct Args {
    #[command(flatten)]
    net: NetSettings,
    /// Print the net as a net file instead, its placeholders filled
    #[arg(long, conflicts_with = "recipe")]
    print: bool,
    /// Also list the settings that this recipe makes, with teachers and on a GPU too, beside the original's
    #[arg(long, value_enum, value_name = "NAME")]
    recipe: Option<Recipe>,
}

/// Runs the command.
pub(super) fn run(args: Args, _: super::Verbosity) -> Result<Outcome> {
    let architecture = args.net.architecture()?;
    if args.print {
        say(architecture.to_string().trim_end())?;
        return Ok(Outcome::Done);
    }
    say(table(&architecture))?;
    say(format!("\n{}", receptive_fields(&architecture)))?;
    if let Some(recipe) = args.recipe {
        say(format!("\n{}", settings(recipe)))?;
    }
    Ok(Outcome::Done)
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
