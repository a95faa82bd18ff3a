//! What a run prints on stdout: the original's lines or JSON.

use super::output::{OutputFormat, say};
use crate::run_folder::{EPOCH, line};
use crate::train::{Event, Observer};
use anyhow::Result;

/// Prints `EPOCH: n` and `Test set: ...` as the original does, or a JSON object per epoch.
pub(crate) struct Console(pub(crate) OutputFormat);

impl Observer for Console {
    fn event(&mut self, event: &Event) -> Result<()> {
        match (event, self.0) {
            (Event::EpochStarted { epoch, .. }, OutputFormat::Text) => text(&format!("EPOCH: {epoch}")),
            (Event::EpochSaved { test, .. }, OutputFormat::Text) => text(&format!("\n{}\n", test.line())),
            (Event::EpochSaved { history, .. }, OutputFormat::Json) => say(line(EPOCH, history.last())?),
            (Event::EpochStarted { .. }, OutputFormat::Json) | (Event::Steps { .. } | Event::EpochEnded, _) => Ok(()),
        }
    }
}

/// Prints a line of the original's, and notes it in the log.
fn text(line: &str) -> Result<()> {
    tracing::debug!("{}", line.trim());
    say(line)
}
