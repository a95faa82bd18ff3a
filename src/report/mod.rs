//! Who listens to a run: the console, the JSON lines, the files of its folder, the log; and pictures.

pub mod console;
pub mod folder;
pub mod log;
pub mod picture;
