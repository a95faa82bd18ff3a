//! The settings of a run: defaults, then a TOML file (`--config`), then flags.

use crate::cli::UsageError;
use crate::data::Dataset;
use crate::model::Kernels;
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Every setting of a run, under the name that it has as a flag and as a key of `config.toml`.
///
/// The defaults are the original's: `ERA_S6.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
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
    /// Nesterov momentum.
    pub nesterov: bool,
    /// How the learning rate changes.
    pub schedule: ScheduleKind,
    /// `step`: epochs between two cuts of the learning rate.
    pub step_size: i64,
    /// `step`: the factor of a cut.
    pub gamma: f64,
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
            dataset: Dataset::Mnist,
            data: PathBuf::from("data"),
            epochs: 15,
            batch_size: 128,
            lr: 0.01,
            momentum: 0.9,
            weight_decay: 0.0,
            nesterov: false,
            schedule: ScheduleKind::Step,
            step_size: 6,
            gamma: 0.1,
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
            target_accuracy: 0.0,
            checkpoint_every: 0,
            report: true,
            tensorboard: true,
            init: None,
        }
    }
}

/// The schedules of `torch.optim.lr_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// StepLR: multiplied by --gamma after every --step-size epochs
    Step,
    /// CosineAnnealingLR: down to 0 over all epochs, once an epoch
    Cosine,
    /// OneCycleLR: up to --lr over the first 30 % of the steps, then down, once a step
    OneCycle,
    /// The same rate throughout
    Constant,
}

/// Whose kernels are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelsChoice {
    /// fused on a CPU, torch on CUDA
    Auto,
    /// libtorch's, one operation a layer: the same bits as PyTorch
    Torch,
    /// This program's for the CPU, one operation a block: several times faster
    Fused,
}

/// How precisely convolutions multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// float32 throughout
    Float32,
    /// CUDA only: float32 rounded to TF32 before it is multiplied, PyTorch's default
    Tf32,
    /// CUDA only: training steps under autocast to bfloat16; the test in float32
    Bf16,
}

/// Whether a step on CUDA is launched as one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CudaGraph {
    /// Where it is possible
    Auto,
    /// Never: one kernel at a time
    Off,
}

/// Where to compute: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU when there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this index.
    Cuda(usize),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceChoice, String> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => match text.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
                Some(index) => Ok(DeviceChoice::Cuda(index)),
                None => Err(format!("expected auto, cpu, cuda or cuda:N, not {text}")),
            },
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<DeviceChoice, String> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(device: DeviceChoice) -> String {
        match device {
            DeviceChoice::Auto => "auto".into(),
            DeviceChoice::Cpu => "cpu".into(),
            DeviceChoice::Cuda(index) => format!("cuda:{index}"),
        }
    }
}

impl Config {
    /// Merges the defaults, then the file at `path`, then `flags` (the settings that were given as flags).
    ///
    /// # Errors
    ///
    /// One sentence that names the file and the key when the file cannot be read, has a key that does not exist or a
    /// value of the wrong type; a [`UsageError`] when a value is out of its range.
    pub fn resolve(path: Option<&Path>, flags: toml::Table) -> Result<Config> {
        let mut table = toml::Table::new();
        if let Some(path) = path {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("--config {} cannot be read", path.display()))?;
            // Parsed on its own first, so that a message speaks of the file and not of a flag.
            toml::from_str::<Config>(&text).map_err(|error| anyhow::anyhow!(file_sentence(path, &text, &error)))?;
            table = toml::from_str(&text)?;
        }
        table.extend(flags);
        let config: Config = table.try_into()?;
        config.check()?;
        Ok(config)
    }

    /// Refuses values that no run can have.
    fn check(&self) -> Result<(), UsageError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let at_least_0 = |x: f64| x.is_finite() && x >= 0.0;
        let checks: [(bool, &str, &str, String); 16] = [
            ((1..=MOST).contains(&self.epochs), "epochs", "a whole number from 1 to 1000000", self.epochs.to_string()),
            (
                (1..=MOST).contains(&self.batch_size),
                "batch-size",
                "a whole number from 1 to 1000000",
                self.batch_size.to_string(),
            ),
            (positive(self.lr), "lr", "a number above 0", self.lr.to_string()),
            (
                at_least_0(self.momentum) && self.momentum < 1.0,
                "momentum",
                "a number from 0 to below 1",
                self.momentum.to_string(),
            ),
            (at_least_0(self.weight_decay), "weight-decay", "a number from 0 up", self.weight_decay.to_string()),
            (!self.nesterov || self.momentum > 0.0, "nesterov", "a --momentum above 0 with it", "0".into()),
            (self.step_size >= 1, "step-size", "a whole number of epochs from 1 up", self.step_size.to_string()),
            (positive(self.gamma), "gamma", "a number above 0", self.gamma.to_string()),
            (
                at_least_0(self.dropout) && self.dropout < 1.0,
                "dropout",
                "a share from 0 to below 1",
                self.dropout.to_string(),
            ),
            (self.seed >= 0, "seed", "a whole number from 0 up", self.seed.to_string()),
            (self.threads >= 0, "threads", "a whole number from 0 up", self.threads.to_string()),
            (self.limit_train >= 0, "limit-train", "a whole number from 0 up", self.limit_train.to_string()),
            (self.limit_test >= 0, "limit-test", "a whole number from 0 up", self.limit_test.to_string()),
            (self.validation >= 0, "validation", "a whole number of images from 0 up", self.validation.to_string()),
            (
                at_least_0(self.target_accuracy) && self.target_accuracy <= 100.0,
                "target-accuracy",
                "a percentage from 0 to 100",
                self.target_accuracy.to_string(),
            ),
            (
                self.checkpoint_every >= 0,
                "checkpoint-every",
                "a whole number of steps from 0 up",
                self.checkpoint_every.to_string(),
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, flag, expected, value)) => Err(UsageError(format!("--{flag} takes {expected}, not {value}"))),
            None => Ok(()),
        }
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
