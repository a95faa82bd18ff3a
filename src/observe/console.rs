//! What a run shows: the original's lines or JSON on stdout, the bar on stderr.

use super::bar::Bar;
use super::stdout::{LogFormat, say};
use crate::run_folder::{EPOCH, line};
use crate::train::{Event, Observer};
use anyhow::Result;

/// The original's output: `EPOCH: n` and `Test set: ...` on stdout, tqdm's bar on stderr when that is a terminal.
pub(crate) struct Console {
    format: LogFormat,
    show_bar: bool,
    bar: Option<Bar>,
}

impl Console {
    /// A console that prints `format`, and the bar unless `quiet`.
    pub(crate) fn new(format: LogFormat, quiet: bool) -> Console {
        Console { format, show_bar: !quiet, bar: None }
    }
}

impl Observer for Console {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::EpochStarted { epoch, steps, done } => {
                if self.format == LogFormat::Text {
                    text(&format!("EPOCH: {epoch}"))?;
                }
                // The bar of the epoch before ends first: the log is told of one bar at a time.
                self.bar = None;
                self.bar = Some(Bar::start(*steps, *done, self.show_bar));
            }
            Event::Steps { done, loss } => {
                if let Some(bar) = &self.bar {
                    if let Some(loss) = loss {
                        bar.set_message(format!("loss={loss} batch_id={}", done - 1));
                    }
                    bar.go_to(*done);
                }
            }
            Event::EpochEnded { .. } => {}
            Event::EpochSaved { record, test } => match self.format {
                LogFormat::Text => text(&format!("\n{}\n", test.line()))?,
                LogFormat::Json => say(line(EPOCH, record)?)?,
            },
        }
        Ok(())
    }
}

/// Prints a line of the original's, and notes it in the log.
fn text(line: &str) -> Result<()> {
    tracing::debug!("{}", line.trim());
    say(line)
}
