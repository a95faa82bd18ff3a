//! Presets of settings: `--recipe`.

use super::{DeviceChoice, Given, Settings};
use crate::flags::table_of;
use clap::ValueEnum;
use serde::Serialize;
use toml::Table;

/// A preset of ordinary settings; `docs/recipe.md` says where their values come from. Some of them depend on the
/// [`Form`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
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
optimizer = 'sgd'
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

/// SOAP instead of its SGD.
const SOAP: &str = "
optimizer = 'soap'
momentum = 0.0
nesterov = false
betas = '0.9,0.95'
";

/// Where it differs with teachers, beside [`SOAP`].
const BEST_TAUGHT: &str = "
batch_size = 64
lr = 0.015
weight_decay = 0.05
ema_decay = 0.999
";

/// Where it differs on a GPU.
const BEST_ON_GPU: &str = "
batch_size = 512
lr = 0.4
ema_decay = 0.97
";

/// Where [`Recipe::Speed`] differs from [`Recipe::Best`], beside [`SOAP`].
const SPEED: &str = "
epochs = 2
batch_size = 96
lr = 0.0125
weight_decay = 0.1
ema_decay = 0.97
";

/// Where it differs from [`Recipe::Best`] on a GPU: SOAP's decompositions were not measured there.
const SPEED_ON_GPU: &str = "
epochs = 6
weight_decay = 0.0005
ema_decay = 0.9
";

/// For what a recipe has settings of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A run on a CPU without teachers.
    Cpu,
    /// A run on a CPU with teachers.
    Taught,
    /// A run on a GPU: small batches would leave most of it idle.
    Gpu,
}

impl Form {
    pub(crate) const ALL: [Form; 3] = [Form::Cpu, Form::Taught, Form::Gpu];

    /// The form for a run with the settings of all `sources`.
    pub(super) fn of(sources: &[&Given]) -> Form {
        // What is not the name of a device is refused with all other wrong values, after the recipe has its form.
        let device = sources.iter().rev().find_map(|source| DeviceChoice::read(source.get("device")?).ok());
        if device.unwrap_or(DeviceChoice::Auto).device().is_cuda() {
            Form::Gpu
        } else if sources.iter().any(|source| source.get("teacher").is_some()) {
            Form::Taught
        } else {
            Form::Cpu
        }
    }
}

impl Recipe {
    /// Its settings in a `form`. Every recipe sets everything that shapes the training, except the net, the
    /// seed and the teachers: what it does not mention is the original's.
    pub(crate) fn settings(self, form: Form) -> Given {
        let Settings { training, optimizer, schedule, augmentation, .. } = Settings::default();
        let mut table = table_of(&training);
        for key in ["seed", "net", "net_values"] {
            table.remove(key);
        }
        table.extend(table_of(&optimizer).into_iter().chain(table_of(&schedule)).chain(table_of(&augmentation)));
        for text in match (self, form) {
            (Recipe::Original, _) => &[][..],
            (Recipe::Best, Form::Cpu) => &[BEST],
            (Recipe::Best, Form::Taught) => &[BEST, SOAP, BEST_TAUGHT],
            (Recipe::Best, Form::Gpu) => &[BEST, BEST_ON_GPU],
            (Recipe::Speed, Form::Cpu | Form::Taught) => &[BEST, SOAP, SPEED],
            (Recipe::Speed, Form::Gpu) => &[BEST, BEST_ON_GPU, SPEED_ON_GPU],
        } {
            table.extend(text.parse::<Table>().expect("the recipes are TOML"));
        }
        Given::from(&table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_makes_the_same_settings() {
        let keys = |recipe: Recipe, form| {
            let settings = recipe.settings(form);
            let mut keys: Vec<String> = settings.pairs().map(|(key, _)| key.to_string()).collect();
            keys.sort();
            keys
        };
        for recipe in [Recipe::Original, Recipe::Best, Recipe::Speed] {
            for form in Form::ALL {
                assert_eq!(keys(recipe, form), keys(Recipe::Original, Form::Cpu));
            }
        }
    }
}
