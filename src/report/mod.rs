//! Who listens to a run: the console, the JSON lines, the files of its folder, the log.

pub mod console;
pub mod folder;
pub mod log;
