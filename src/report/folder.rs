//! The files that a run keeps in its folder while it goes on: `metrics.jsonl` and `losses.csv`.

use crate::files::write_atomically;
use crate::train::{EpochRecord, Event, Observer, StepRecord};
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

/// Writes `metrics.jsonl` (a line an epoch) and `losses.csv` (a line a step) anew after each epoch, so that a resumed
/// run has no gap in them and no line twice.
pub struct Folder(pub PathBuf);

impl Folder {
    /// Writes `metrics.jsonl`: the epochs, then `last`, when the run has ended.
    ///
    /// # Errors
    ///
    /// When the folder is gone or read-only, or the disk is full.
    pub fn write_metrics(&self, epochs: &[EpochRecord], last: Option<&str>) -> Result<()> {
        let mut text = String::new();
        for epoch in epochs {
            text += &line("epoch", epoch)?;
            text.push('\n');
        }
        if let Some(last) = last {
            text += last;
            text.push('\n');
        }
        write_atomically(&self.0.join("metrics.jsonl"), |path| Ok(std::fs::write(path, text)?))
    }

    /// Writes both files.
    ///
    /// # Errors
    ///
    /// As [`Folder::write_metrics`].
    pub fn write(&self, epochs: &[EpochRecord], steps: &[StepRecord]) -> Result<()> {
        self.write_losses(steps)?;
        self.write_metrics(epochs, None)
    }

    fn write_losses(&self, steps: &[StepRecord]) -> Result<()> {
        write_atomically(&self.0.join("losses.csv"), |path| {
            let mut writer = csv::Writer::from_path(path)?;
            for step in steps {
                writer.serialize(step)?;
            }
            Ok(writer.flush()?)
        })
    }
}

impl Observer for Folder {
    fn event(&mut self, event: &Event) -> Result<()> {
        if let Event::EpochEnded { epochs, steps, .. } = event {
            self.write(epochs, steps)?;
        }
        Ok(())
    }
}

/// One JSON object on one line, its `event` first.
///
/// # Errors
///
/// When `fields` is no object.
pub fn line(event: &str, fields: &impl Serialize) -> Result<String> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        event: &'a str,
        #[serde(flatten)]
        fields: &'a T,
    }
    Ok(serde_json::to_string(&Line { event, fields })?)
}
