//! Who watches a run: the console, the files of its folder, TensorBoard; and the log.

mod bar;
mod console;
mod files;
pub(crate) mod log;
mod stdout;
mod tensorboard;

pub(crate) use bar::Bar;
pub(crate) use console::Console;
pub(crate) use files::Files;
pub(crate) use stdout::{LogFormat, StdoutClosed, complain, say};
pub(crate) use tensorboard::TensorBoard;
