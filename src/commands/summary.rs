//! `tch-mnist summary`: the layers as a table, the receptive fields, and what a recipe makes of the settings.

use super::Outcome;
use crate::model::{receptive_fields, table};
use crate::observe::say;
use crate::settings::{Layer, NetSettings, Recipe, name_of};
use anyhow::Result;

/// The flags of `summary`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    net: NetSettings,
    /// Print the net as a net file instead, its placeholders filled
    #[arg(long, conflicts_with = "recipe")]
    print: bool,
    /// Also list the settings that this recipe makes, on a CPU and on a GPU, beside the original's
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

/// A row per setting under the name of its flag; `-` where it has no effect.
fn settings(recipe: Recipe) -> String {
    let row = |cells: [&str; 4]| format!("{:<22} {:>12} {:>12} {:>12}", cells[0], cells[1], cells[2], cells[3]);
    let mut lines = vec![row(["setting", &name_of(&recipe), "on a GPU", &name_of(&Recipe::Original)])];
    let forms = [recipe.settings(false), recipe.settings(true), Recipe::Original.settings(false)];
    let forms = forms.map(Layer::effective);
    for (key, _) in recipe.settings(false).pairs().filter(|(key, _)| forms.iter().any(|form| form.get(key).is_some())) {
        let [here, on_gpu, original] = forms.each_ref().map(|form| form.get(key).unwrap_or("-"));
        lines.push(row([&key.replace('_', "-"), here, on_gpu, original]));
    }
    lines.join("\n")
}
