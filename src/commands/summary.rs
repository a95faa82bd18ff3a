//! `tch-mnist summary`: the layers as a table, the receptive fields, and what a recipe makes of the settings.

use super::Outcome;
use crate::model::{receptive_fields, table};
use crate::observe::say;
use crate::settings::{NetSettings, Recipe};
use anyhow::Result;
use clap::ValueEnum;

/// The flags of `summary`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    net: NetSettings,
    /// Print the net as a net file instead, its placeholders filled
    #[arg(long, conflicts_with = "recipe")]
    print: bool,
    /// Also list the settings that this recipe makes, beside the original's
    #[arg(long, value_enum, value_name = "NAME")]
    recipe: Option<Recipe>,
}

/// Runs the command.
pub(super) fn run(args: Args) -> Result<Outcome> {
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

/// A row per setting of the recipe, under the name of its flag.
fn settings(recipe: Recipe) -> String {
    let row = |name: &str, value: &str, original: &str| format!("{name:<20} {value:>12} {original:>12}");
    let name = |recipe: Recipe| recipe.to_possible_value().expect("no recipe is hidden").get_name().to_string();
    let mut lines = vec![row("setting", &name(recipe), &name(Recipe::Original))];
    let original = Recipe::Original.settings();
    for (key, value) in recipe.settings().pairs() {
        lines.push(row(&key.replace('_', "-"), value, original.get(key).unwrap_or("-")));
    }
    lines.join("\n")
}
