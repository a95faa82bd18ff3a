//! Presets of settings: `--recipe`.

use super::Config;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A preset of ordinary settings; `docs/recipe.md` says where their values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// The original's settings
    Original,
    /// The most accurate net after 15 epochs
    Best,
    /// 99.4 % in the fewest seconds
    Speed,
}

/// The settings of [`Recipe::Best`].
const BEST: &str = "
epochs = 15
batch_size = 32
lr = 0.15
momentum = 0.9
weight_decay = 0.0001
weight_decay_norm = false
nesterov = true
schedule = 'one-cycle'
pct_start = 0.2
dropout = 0.0
label_smoothing = 0.0
ema_decay = 0.998
rotate = 10.0
translate = 1.0
scale = 0.1
shear = 5.0
";

/// What [`Recipe::Speed`] does otherwise.
const SPEED: &str = "
epochs = 6
ema_decay = 0.99
";

impl Recipe {
    /// Its name, as `--recipe` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::Original => "original",
            Recipe::Best => "best",
            Recipe::Speed => "speed",
        }
    }

    /// The settings that the recipe makes, under their keys in `config.toml`; every recipe makes the same ones.
    pub fn settings(self) -> toml::Table {
        let parsed = |text: &str| text.parse::<toml::Table>().expect("the recipes are TOML");
        match self {
            Recipe::Best => parsed(BEST),
            Recipe::Speed => parsed(BEST).into_iter().chain(parsed(SPEED)).collect(),
            Recipe::Original => {
                let defaults = toml::Table::try_from(Config::default()).expect("a Config is a table");
                let keys = parsed(BEST);
                defaults.into_iter().filter(|(key, _)| keys.contains_key(key)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_makes_the_same_settings() {
        let keys = |recipe: Recipe| recipe.settings().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let mut original = keys(Recipe::Original);
        original.sort();
        for recipe in [Recipe::Best, Recipe::Speed] {
            let mut own = keys(recipe);
            own.sort();
            assert_eq!(own, original);
        }
    }
}
