//! `tch-mnist summary`: the layers as a table, and what a recipe makes of the settings.

use super::{Outcome, say};
use crate::config::Recipe;
use crate::model::{Kernels, Net};
use crate::summary::table;
use anyhow::Result;
use tch::Device;

/// The flags of `summary`.
#[derive(clap::Args)]
pub struct Args {
    /// Also list the settings that this recipe makes, beside the original's
    #[arg(long, value_enum, value_name = "NAME")]
    recipe: Option<Recipe>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<Outcome> {
    say(table(&Net::new(Device::Cpu, 0.05, Kernels::Torch), Device::Cpu))?;
    if let Some(recipe) = args.recipe {
        say(format!("\n{}", settings(recipe)))?;
    }
    Ok(Outcome::Done)
}

/// A row a setting of the recipe, under the name of its flag.
fn settings(recipe: Recipe) -> String {
    let original = Recipe::Original.settings();
    let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let row = |name: &str, value: &str, original: &str| format!("{name:<20} {value:>12} {original:>12}");
    let mut lines = vec![row("setting", recipe.name(), Recipe::Original.name())];
    for (key, value) in recipe.settings() {
        lines.push(row(&key.replace('_', "-"), &text(&value), &text(&original[&key])));
    }
    lines.join("\n")
}
