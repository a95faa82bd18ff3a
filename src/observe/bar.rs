//! The bar of training steps, as tqdm draws it.

use super::log;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;

/// A bar on stderr, if that is a terminal. Lines of the log go above it.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar over `steps` steps, the first `done` of them made already; invisible unless `show`.
    pub(crate) fn start(steps: i64, done: i64, show: bool) -> Bar {
        let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target).with_position(done as u64);
        bar.set_style(tqdm_style());
        log::set_bar(Some(bar.clone()));
        Bar(bar)
    }

    /// Sets what stands to the left of the bar.
    pub(crate) fn set_message(&self, message: String) {
        self.0.set_message(message);
    }

    /// Goes one step on.
    pub(crate) fn step(&self) {
        self.go_to(self.0.position() as i64 + 1);
    }

    /// Shows that `done` steps are made; after the last one, the bar is finished.
    pub(crate) fn go_to(&self, done: i64) {
        self.0.set_position(done as u64);
        if self.0.length() == Some(self.0.position()) {
            self.0.finish();
            log::set_bar(None);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // A finished bar would be printed a second time.
        if !self.0.is_finished() {
            self.0.abandon();
        }
        log::set_bar(None);
    }
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
