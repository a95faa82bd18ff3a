//! Who watches a run: stdout, the progress on stderr, the files of its folder, TensorBoard; and the log.

mod bar;
mod console;
mod files;
pub(crate) mod log;
mod progress;
mod stdout;
mod tensorboard;

pub(crate) use bar::Bar;
pub(crate) use console::Console;
pub(crate) use progress::{Progress, duration};
pub(crate) use stdout::{LogFormat, StdoutClosed, complain, say};
pub(crate) use tensorboard::TensorBoard;
