//! The bar of training steps, as tqdm draws it, on a terminal of any width.

use super::log;
use super::output::owns_process;
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// The cells of the bar, as in tqdm.
const CELLS: usize = 10;

/// A cell that is filled by 1 to 8 eighths.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// Whether stderr is a terminal on which a line can be drawn again and again: no pipe, no file, no notebook, no log of
/// a CI service, and nothing that was given in its place.
pub(crate) fn can_redraw() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    owns_process() && Term::stderr().is_term() && !console::is_dumb() && !is_set("CI") && !is_set("JPY_PARENT_PID")
}

/// A bar on stderr, if that is a terminal. Lines of the log go above it.
pub(crate) struct Bar {
    bar: ProgressBar,
    drawn: Arc<Mutex<Drawn>>,
}

/// What the bar shows, and on what.
struct Drawn {
    /// What stands to the left of the bar.
    text: String,
    /// The columns of the terminal; indicatif fills all of them, with spaces behind the bar.
    columns: usize,
}

impl Bar {
    /// A bar over `steps` steps, the first `done` of them made already; invisible unless `show`, which takes a terminal:
    /// [`can_redraw`].
    pub(crate) fn start(steps: i64, done: i64, show: bool) -> Bar {
        let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target).with_position(done as u64);
        let drawn = Arc::new(Mutex::new(Drawn { text: String::new(), columns: columns() }));
        bar.set_style(style(Arc::clone(&drawn)));
        log::set_bar(Some(bar.clone()));
        Bar { bar, drawn }
    }

    /// Sets what stands to the left of the bar.
    pub(crate) fn set_message(&self, message: String) {
        locked(&self.drawn).text = message;
    }

    /// Goes one step on.
    pub(crate) fn step(&self) {
        self.go_to(self.bar.position() as i64 + 1);
    }

    /// Shows that `done` steps are made; after the last one, the bar is finished.
    pub(crate) fn go_to(&self, done: i64) {
        self.clear_what_was_wrapped();
        self.bar.set_position(done as u64);
        if self.bar.length() == Some(self.bar.position()) {
            self.bar.finish();
            log::set_bar(None);
        }
    }

    /// A terminal that became narrower has wrapped the bar into several lines: clears those above the last one.
    fn clear_what_was_wrapped(&self) {
        if self.bar.is_hidden() {
            return;
        }
        let columns = columns();
        let before = std::mem::replace(&mut locked(&self.drawn).columns, columns);
        let above = before.div_ceil(columns.max(1)).saturating_sub(1);
        if above > 0 {
            // If it fails, the lines stay.
            let _ = self.bar.suspend(|| Term::stderr().clear_last_lines(above));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // A finished bar would be printed a second time.
        if !self.bar.is_finished() {
            self.bar.abandon();
        }
        log::set_bar(None);
    }
}

fn locked(drawn: &Mutex<Drawn>) -> std::sync::MutexGuard<'_, Drawn> {
    drawn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The columns of the terminal.
fn columns() -> usize {
    usize::from(Term::stderr().size().1)
}

fn style(drawn: Arc<Mutex<Drawn>>) -> ProgressStyle {
    let clock = |seconds: u64| format!("{:02}:{:02}", seconds / 60, seconds % 60);
    let draw = move |state: &ProgressState, out: &mut dyn Write| {
        let [elapsed, left] = [state.elapsed(), state.eta()].map(|time| clock(time.as_secs()));
        let times = format!("[{elapsed}<{left}, {:.2}it/s]", state.per_sec());
        let steps = (state.pos(), state.len().unwrap_or(1).max(1));
        let _ = out.write_str(&line(columns(), &locked(&drawn).text, steps, &times));
    };
    ProgressStyle::with_template("{line}").expect("a valid template").with_key("line", draw)
}

/// `loss=0.0779 batch_id=468: 100%|██████████| 469/469 [00:22<00:00, 21.28it/s]` for a terminal of so many columns: on a
/// narrow one the bar becomes shorter, then what stands behind it goes, then what stands before it.
fn line(columns: usize, text: &str, (done, steps): (u64, u64), times: &str) -> String {
    let percent = format!("{:>3}%", 100 * done / steps);
    let before = if text.is_empty() { String::new() } else { format!("{text}: ") };
    let count = format!(" {done}/{steps}");
    for (before, behind) in [(&*before, format!("{count} {times}")), (&before, count.clone()), ("", count.clone())] {
        let others = before.chars().count() + percent.len() + 2 + behind.len();
        // A line that fills the last column may be wrapped.
        if let Some(room @ 1..) = columns.checked_sub(others + 1) {
            return format!("{before}{percent}|{}|{behind}", cells(room.min(CELLS), done, steps));
        }
    }
    percent
}

fn cells(count: usize, done: u64, steps: u64) -> String {
    let eighths = (8 * count as u64 * done / steps) as usize;
    let cell = |cell: usize| match eighths.saturating_sub(8 * cell).min(8) {
        0 => ' ',
        filled => EIGHTHS[filled - 1],
    };
    (0..count).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_that_of_tqdm_and_fits_into_every_terminal() {
        let at = |columns| line(columns, "loss=0.0779 batch_id=281", (282, 469), "[00:13<00:09, 21.28it/s]");
        let whole = "loss=0.0779 batch_id=281:  60%|██████    | 282/469 [00:13<00:09, 21.28it/s]";
        assert_eq!((at(80), at(300)), (whole.into(), whole.into()));
        assert_eq!(at(72), "loss=0.0779 batch_id=281:  60%|███▌  | 282/469 [00:13<00:09, 21.28it/s]");
        assert_eq!(at(60), "loss=0.0779 batch_id=281:  60%|██████    | 282/469");
        assert_eq!(at(30), " 60%|██████    | 282/469");
        assert_eq!(at(5), " 60%");
        assert!((5..200).all(|columns| at(columns).chars().count() < columns));
        assert_eq!(line(80, "", (469, 469), ""), "100%|██████████| 469/469 ");
    }
}
