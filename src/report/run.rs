//! A run's folder, read back: its settings, epochs, steps and environment.

use super::environment::Environment;
use crate::config::Config;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What the files of a run's folder say.
pub struct RunFiles {
    /// The folder.
    pub folder: PathBuf,
    /// `config.toml`
    pub config: Config,
    /// `environment.json`; runs of the first versions have none.
    pub environment: Option<Environment>,
    /// The epochs of `metrics.jsonl`.
    pub epochs: Vec<Map<String, Value>>,
    /// The last line of `metrics.jsonl` when the run has ended.
    pub done: Option<Map<String, Value>>,
    /// `losses.csv`
    pub steps: Vec<Step>,
}

/// A line of `losses.csv`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Step {
    /// Of the run, from 0.
    pub step: f64,
    /// The learning rate.
    pub lr: f64,
    /// The mean loss over the batch, in nats.
    pub loss: f64,
}

impl RunFiles {
    /// Reads the folder of a run that has finished an epoch.
    ///
    /// # Errors
    ///
    /// One sentence that names the file that is missing or damaged.
    pub fn read(folder: &Path) -> Result<RunFiles> {
        ensure!(folder.is_dir(), "{} is no folder of a run: there is no such folder", folder.display());
        let metrics = folder.join("metrics.jsonl");
        ensure!(
            metrics.exists(),
            "{} is no folder of a run that has finished an epoch: it holds no metrics.jsonl",
            folder.display()
        );
        let text =
            std::fs::read_to_string(&metrics).with_context(|| format!("{} cannot be read", metrics.display()))?;
        let (mut epochs, mut done) = (Vec::new(), None);
        for line in text.lines() {
            let damaged = || format!("{} is damaged", metrics.display());
            let fields: Map<String, Value> = serde_json::from_str(line).with_context(damaged)?;
            match fields.get("event").and_then(Value::as_str) {
                Some("epoch") => epochs.push(fields),
                Some("done") => done = Some(fields),
                _ => bail!("{}: a line is of no event that a run has", damaged()),
            }
        }
        ensure!(!epochs.is_empty(), "{} holds no epoch: there is nothing to show yet", metrics.display());

        let config = Config::resolve(Some(&folder.join("config.toml")), toml::Table::new())
            .with_context(|| format!("{} is no folder of a run", folder.display()))?;
        let losses = folder.join("losses.csv");
        let steps = csv::Reader::from_path(&losses)
            .and_then(|mut reader| reader.deserialize().collect())
            .with_context(|| format!("{} cannot be read", losses.display()))?;
        let environment = Environment::read(folder)?;
        Ok(RunFiles { folder: folder.to_path_buf(), config, environment, epochs, done, steps })
    }

    /// Whether it came to its end, and `model.*` are its weights.
    pub fn is_done(&self) -> bool {
        let status = self.done.as_ref().and_then(|done| done.get("status")?.as_str());
        matches!(status, Some("done" | "target_reached"))
    }

    /// The folder's own name.
    pub fn name(&self) -> String {
        let path = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What the epochs were measured on besides the training images: `test`, or `validation` when that is what
    /// `metrics.jsonl` holds.
    pub fn measured_on(&self) -> &'static str {
        let holds = |key: &str| self.epochs.iter().any(|epoch| epoch.get(key).is_some_and(Value::is_number));
        if holds("validation_accuracy") && !holds("test_accuracy") { "validation" } else { "test" }
    }

    /// The epochs, from 0, with their values under `key`, where they have one.
    pub fn series(&self, key: &str) -> Vec<(f64, f64)> {
        let value = |epoch: &Map<String, Value>| Some((epoch.get("epoch")?.as_f64()?, epoch.get(key)?.as_f64()?));
        self.epochs.iter().filter_map(value).collect()
    }

    /// The accuracy of the last epoch, and the best with its epoch, from 0; in percent.
    pub fn accuracies(&self) -> Option<(f64, (f64, usize))> {
        let series = self.series(&format!("{}_accuracy", self.measured_on()));
        let (_, last) = *series.last()?;
        // The first of equals, as a reader looks for the epoch after which nothing was gained.
        let best = series.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((last, (best.1, best.0 as usize)))
    }

    /// How long its epochs took, in seconds.
    pub fn seconds(&self) -> f64 {
        self.series("seconds").iter().map(|(_, seconds)| seconds).sum()
    }
}
