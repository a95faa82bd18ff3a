//! What is written and said at the end of a run.

use crate::cli::{LogFormat, say, sentence};
use crate::config::Config;
use crate::data::{Data, Part};
use crate::evaluate::{Evaluation, Findings};
use crate::libtorch::without_panic;
use crate::model::Net;
use crate::report::html::duration;
use crate::report::tensorboard::TensorBoard;
use crate::report::{folder, write};
use crate::train::{EpochRecord, Measured, Run};
use crate::weights;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// The epoch with the most correct images, of equals the first.
fn best(epochs: &[EpochRecord]) -> Option<&EpochRecord> {
    epochs.iter().rev().max_by_key(|record| record.measured.correct)
}

/// What is written and said at the end of a run.
pub struct Finish<'a> {
    pub config: &'a Config,
    /// The run's folder.
    pub out: &'a Path,
    /// What each epoch was measured on.
    pub part: Part,
    /// What stdout gets.
    pub format: LogFormat,
    /// How long the training took.
    pub seconds: f64,
    /// The last test by test-time augmentation, where it was asked for.
    pub tta: Option<Evaluation>,
}

impl Finish<'_> {
    /// The last line of `metrics.jsonl` and of `--log-format json`: how the run ended, and why if it failed.
    pub fn line(&self, status: &str, epochs: &[EpochRecord], error: Option<String>) -> Result<String> {
        let last = epochs.last().map(|record| &record.measured);
        let best = best(epochs);
        let part = self.part;
        let mut done = json!({
            "status": status,
            "epochs": epochs.len(),
            (format!("{part}_loss")): last.map(|measured| measured.loss),
            (format!("{part}_accuracy")): last.map(|measured| measured.accuracy),
            "correct": last.map(|measured| measured.correct),
            (format!("best_{part}_accuracy")): best.map(|record| record.measured.accuracy),
            "best_epoch": best.map(|record| record.epoch),
            "seconds": self.seconds,
            "out": self.out,
        });
        if let Some(tta) = &self.tta {
            done[format!("tta_{part}_loss")] = tta.loss.into();
            done[format!("tta_{part}_accuracy")] = tta.accuracy().into();
        }
        if let Some(error) = error {
            done["error"] = error.into();
        }
        folder::line("done", &done)
    }

    pub fn say(&self, line: &str) -> Result<()> {
        match self.format {
            LogFormat::Json => say(line),
            LogFormat::Text => Ok(()),
        }
    }

    /// What a person wants to know when a run is over: how good it is, where it is, what to do with it.
    pub fn summary(&self, epochs: &[EpochRecord]) {
        let (out, part, time) = (self.out.display(), self.part, duration(self.seconds));
        if let (Some(last), Some(best)) = (epochs.last(), best(epochs)) {
            let (last, epoch, best) = (last.measured.accuracy, best.epoch, best.measured.accuracy);
            tracing::info!("{part} accuracy: {last:.2}% at the end, {best:.2}% at best (epoch {epoch}), after {time}");
        }
        if let Some(tta) = &self.tta {
            tracing::info!("{}", tta.tta_line());
        }
        tracing::info!("weights: {out}/model.pt, {out}/model.pth, {out}/model.safetensors");
        if self.out.join("report.html").exists() && self.config.report {
            tracing::info!("report: {out}/report.html");
        }
        tracing::info!("next: tch-mnist predict --weights {out}/model.pt IMAGE");
    }

    /// The last test once more, by test-time augmentation. The run is done by then: what goes wrong here is a warning.
    pub fn test_tta(&self, run: &Run) -> Option<Evaluation> {
        let tested = without_panic(|| run.test_tta());
        tested.inspect_err(|error| tracing::warn!("--tta was not measured: {}", sentence(error))).ok()
    }

    /// The plots, the page and TensorBoard's pictures. The run is done by then: what goes wrong here is a warning.
    pub fn look(&self, net: &Net, data: &Data, tensorboard: Option<&mut TensorBoard>) {
        let began = Instant::now();
        let look = || -> Result<()> {
            if !self.config.report && tensorboard.is_none() {
                return Ok(());
            }
            let findings = Findings::of(net, data.measured())?;
            if let Some(tensorboard) = tensorboard {
                tensorboard.finish(&write::of_findings(&findings, data.measured())?, true)?;
            }
            if self.config.report {
                write::run(self.out, &findings, data)?;
            }
            Ok(())
        };
        match without_panic(look) {
            Ok(()) => tracing::debug!("report: {:.2} s", began.elapsed().as_secs_f64()),
            Err(error) => tracing::warn!(
                "the report could not be made: {}; make it by: tch-mnist report {}",
                sentence(&error),
                self.out.display()
            ),
        }
    }

    /// `model.pt`, `model.pth` and `model.safetensors`: the same tensors in three formats.
    pub fn write_weights(&self, run: &Run) -> Result<()> {
        let mut metadata =
            BTreeMap::from([("format".into(), "pt".into()), ("config".to_string(), self.config.to_toml())]);
        if let Some(last) = run.history().last() {
            metadata.insert("epochs".into(), run.history().len().to_string());
            let Measured { part, loss, accuracy, correct } = last.measured;
            metadata.insert(format!("{part}_loss"), loss.to_string());
            metadata.insert(format!("{part}_accuracy"), accuracy.to_string());
            metadata.insert("correct".into(), correct.to_string());
        }
        for name in ["model.pt", "model.pth", "model.safetensors"] {
            weights::write(&self.out.join(name), &run.trained().state_dict(), self.config.dropout, &metadata)?;
        }
        Ok(())
    }
}
