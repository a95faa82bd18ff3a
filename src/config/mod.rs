//! The settings of a run: defaults, then a TOML file (`--config`), then flags; in each of the two a recipe comes first.

mod check;
mod choices;
mod recipe;

pub use choices::{CudaGraph, DeviceChoice, KernelsChoice, Precision, ScheduleKind};
pub use recipe::Recipe;

use crate::data::Dataset;
use crate::model::Kernels;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Every setting of a run, under the name that it has as a flag and as a key of `config.toml`.
///
/// The defaults are the original's: `ERA_S6.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The preset that the other settings began from.
    pub recipe: Recipe,
    /// Which dataset.
    pub dataset: Dataset,
    /// The folder with the four IDX files, or with one folder a dataset.
    pub data: PathBuf,
    /// Passes over the training images.
    pub epochs: i64,
    /// Images a step, in training and in the test.
    pub batch_size: i64,
    /// The learning rate; of `one-cycle`, the highest.
    pub lr: f64,
    /// SGD's momentum; 0 for none.
    pub momentum: f64,
    /// SGD's L2 penalty.
    pub weight_decay: f64,
    /// Whether the L2 penalty is on BatchNorm's weights and biases too, as `torch.optim.SGD` has it.
    pub weight_decay_norm: bool,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// How the learning rate changes.
    pub schedule: ScheduleKind,
    /// `step`: epochs between two cuts of the learning rate.
    pub step_size: i64,
    /// `step`: the factor of a cut.
    pub gamma: f64,
    /// `one-cycle`: the share of the steps over which the rate rises.
    pub pct_start: f64,
    /// The share of the target's probability that is spread over all classes; 0 for none.
    pub label_smoothing: f64,
    /// How much of the weights' exponential moving average a step keeps; 0 for no average.
    pub ema_decay: f64,
    /// Training images are turned by up to so many degrees.
    pub rotate: f64,
    /// Training images are moved by up to so many pixels, across and down.
    pub translate: f64,
    /// Training images are scaled by 1 minus to 1 plus this.
    pub scale: f64,
    /// Training images are sheared by up to so many degrees.
    pub shear: f64,
    /// The share of activations that the dropout layers zero.
    pub dropout: f64,
    /// The seed of every random number.
    pub seed: i64,
    /// Where to compute.
    pub device: DeviceChoice,
    /// CPU threads; 0 for libtorch's choice, one a core.
    pub threads: i32,
    /// Whose kernels compute on a CPU.
    pub kernels: KernelsChoice,
    /// How precisely convolutions multiply.
    pub precision: Precision,
    /// Whether a step on CUDA is launched as one graph.
    pub cuda_graph: CudaGraph,
    /// The first N training images only; 0 for all.
    pub limit_train: i64,
    /// The first N test images only; 0 for all.
    pub limit_test: i64,
    /// Training images to hold out and to measure each epoch on, instead of the test images; 0 for none.
    pub validation: i64,
    /// After the last epoch, measure also the average over small translations of each image.
    pub tta: bool,
    /// Stop after the epoch that reaches this accuracy (of the test, or of the images held out), in percent; 0 for never.
    pub target_accuracy: f64,
    /// Steps between two checkpoints within an epoch; 0 for one an epoch.
    pub checkpoint_every: i64,
    /// Make `report.html` and the plots at the end.
    pub report: bool,
    /// Write TensorBoard's event file.
    pub tensorboard: bool,
    /// Start from these weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
}

/// The most epochs, and images a batch: no run needs more, and no product of them overflows.
const MOST: i64 = 1_000_000;

impl Default for Config {
    fn default() -> Config {
        Config {
            recipe: Recipe::Original,
            dataset: Dataset::Mnist,
            data: PathBuf::from("data"),
            epochs: 15,
            batch_size: 128,
            lr: 0.01,
            momentum: 0.9,
            weight_decay: 0.0,
            weight_decay_norm: true,
            nesterov: false,
            schedule: ScheduleKind::Step,
            step_size: 6,
            gamma: 0.1,
            pct_start: 0.3,
            label_smoothing: 0.0,
            ema_decay: 0.0,
            rotate: 0.0,
            translate: 0.0,
            scale: 0.0,
            shear: 0.0,
            dropout: 0.05,
            seed: 1,
            device: DeviceChoice::Auto,
            threads: 0,
            kernels: KernelsChoice::Auto,
            precision: Precision::Float32,
            cuda_graph: CudaGraph::Auto,
            limit_train: 0,
            limit_test: 0,
            validation: 0,
            tta: false,
            target_accuracy: 0.0,
            checkpoint_every: 0,
            report: true,
            tensorboard: true,
            init: None,
        }
    }
}

impl Config {
    /// Merges the defaults, then the file at `path`, then `flags` (the settings that were given as flags). Where the file
    /// or the flags name a recipe, its settings come right before their other ones.
    ///
    /// # Errors
    ///
    /// One sentence that names the file and the key when the file cannot be read, has a key that does not exist or a
    /// value of the wrong type; a [`UsageError`](crate::cli::UsageError) when a value is out of its range.
    pub fn resolve(path: Option<&Path>, flags: toml::Table) -> Result<Config> {
        let mut file = toml::Table::new();
        if let Some(path) = path {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("--config {} cannot be read", path.display()))?;
            // Parsed on its own first, so that a message speaks of the file and not of a flag.
            toml::from_str::<Config>(&text).map_err(|error| anyhow::anyhow!(file_sentence(path, &text, &error)))?;
            file = toml::from_str(&text)?;
        }
        Config::merge([file, flags])
    }

    /// The same of tables, the later one wins.
    ///
    /// # Errors
    ///
    /// When a key does not exist, or a value is of the wrong type or out of its range.
    pub fn merge(layers: impl IntoIterator<Item = toml::Table>) -> Result<Config> {
        let mut table = toml::Table::new();
        for layer in layers {
            if let Some(recipe) = layer.get("recipe") {
                table.extend(recipe.clone().try_into::<Recipe>()?.settings());
            }
            table.extend(layer);
        }
        let config: Config = table.try_into()?;
        config.check()?;
        Ok(config)
    }

    /// The text of `config.toml`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field of Config has a TOML form")
    }
}

/// What is wrong with a TOML file, on one line: file, line, reason.
fn file_sentence(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
    let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
    let reason = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    format!("--config {}{line}: {reason}", path.display())
}

/// What is computed where: the choices of a [`Config`] with `auto` resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compute {
    /// Where.
    pub device: tch::Device,
    /// By whose kernels.
    pub kernels: Kernels,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let mut flags = toml::Table::new();
        flags.insert("lr".into(), 0.5.into());
        Config::resolve(Some(&path), flags)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let config = resolve("lr = 0.2\nmomentum = 0.8\n").unwrap();
        assert_eq!((config.lr, config.momentum, config.gamma), (0.5, 0.8, 0.1));
    }

    #[test]
    fn a_recipe_comes_before_what_stands_beside_it_and_after_what_is_below() {
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        let merged = |file, flags| Config::merge([table(file), table(flags)]).unwrap();
        let best = merged("", "recipe = 'best'");
        assert_ne!(best, Config { recipe: Recipe::Best, ..Config::default() });
        assert_eq!(merged("epochs = 99", "recipe = 'best'"), best);
        assert_eq!(merged("epochs = 99\nrecipe = 'best'", ""), Config { epochs: 99, ..best.clone() });
        assert_eq!(merged("recipe = 'best'", "epochs = 99"), Config { epochs: 99, ..best.clone() });
        assert_eq!(merged("recipe = 'speed'", "recipe = 'best'"), best);
        assert_eq!(merged("recipe = 'best'", "recipe = 'original'"), Config::default());
        assert_eq!(merged(&best.to_toml(), ""), best);
    }

    #[test]
    fn a_config_survives_its_own_toml() {
        let config = Config { device: DeviceChoice::Cuda(3), init: Some("a.pt".into()), ..Config::default() };
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn mistakes_in_a_file_name_the_line() {
        for (text, reason) in [
            ("epochs = 2\nlearning_rate = 1.0", "line 2: unknown field `learning_rate`"),
            ("epochs = \"two\"", "line 1: invalid type"),
            ("schedule = \"linear\"", "line 1: unknown variant `linear`"),
            ("epochs = 1\n= 3", "line 2"),
        ] {
            let message = resolve(text).unwrap_err().to_string();
            assert!(message.contains(reason), "{message}");
        }
    }
}
