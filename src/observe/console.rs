//! What a run shows: the original's lines or JSON on stdout, the bar on stderr.

use super::log;
use super::stdout::{LogFormat, say};
use crate::run_folder::{EPOCH, line};
use crate::train::{Event, Observer};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;

/// The original's output: `EPOCH: n` and `Test set: ...` on stdout, tqdm's bar on stderr when that is a terminal.
pub(crate) struct Console {
    format: LogFormat,
    show_bar: bool,
    bar: ProgressBar,
}

impl Console {
    /// A console that prints `format`, and the bar unless `quiet`.
    pub(crate) fn new(format: LogFormat, quiet: bool) -> Console {
        Console { format, show_bar: !quiet, bar: ProgressBar::hidden() }
    }

    fn start_bar(&mut self, steps: i64, done: i64) {
        let target = if self.show_bar { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        self.bar = ProgressBar::with_draw_target(Some(steps as u64), target).with_position(done as u64);
        self.bar.set_style(tqdm_style());
        log::set_bar(Some(self.bar.clone()));
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // A finished bar would be printed a second time.
        if !self.bar.is_finished() {
            self.bar.abandon();
        }
        log::set_bar(None);
    }
}

impl Observer for Console {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::EpochStarted { epoch, steps, done } => {
                if self.format == LogFormat::Text {
                    text(&format!("EPOCH: {epoch}"))?;
                }
                self.start_bar(*steps, *done);
            }
            Event::Step { step, loss } => {
                if let Some(loss) = loss {
                    self.bar.set_message(format!("loss={loss} batch_id={}", step - 1));
                }
                self.bar.inc(1);
                if self.bar.length() == Some(*step as u64) {
                    self.bar.finish();
                    log::set_bar(None);
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

/// `loss=0.0779 batch_id=468: 100%|##########| 469/469 [00:22<00:00, 21.28it/s]`
fn tqdm_style() -> ProgressStyle {
    let clock = |seconds: u64| format!("{:02}:{:02}", seconds / 60, seconds % 60);
    ProgressStyle::with_template("{msg}: {percent:>3}%|{bar:10}| {pos}/{len} [{clock}<{left}, {rate}]")
        .expect("a valid template")
        .progress_chars("█▉▊▋▌▍▎▏ ")
        .with_key("clock", move |state: &ProgressState, out: &mut dyn Write| {
            let _ = out.write_str(&clock(state.elapsed().as_secs()));
        })
        .with_key("left", move |state: &ProgressState, out: &mut dyn Write| {
            let _ = out.write_str(&clock(state.eta().as_secs()));
        })
        .with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{:.2}it/s", state.per_sec());
        })
}
