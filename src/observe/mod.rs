//! Who watches a run: stdout, the progress on stderr, the files of its folder, TensorBoard; and the log.

mod bar;
mod console;
mod files;
pub(crate) mod log;
mod output;
mod progress;
mod tensorboard;

pub(crate) use bar::{Bar, can_redraw};
pub(crate) use console::Console;
pub(crate) use output::{Output, OutputArgs, OutputFormat, StdoutClosed, complain, owns_process, printing_to, say};
pub(crate) use progress::{Progress, duration};
pub(crate) use tensorboard::TensorBoard;
