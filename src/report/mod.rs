//! Who listens to a run: the console, the JSON lines, the files of its folder, the log; and what there is to look at
//! when it is over: pictures and a page.

pub mod confusion;
pub mod console;
pub mod curves;
pub mod environment;
pub mod folder;
pub mod grid;
pub mod html;
pub mod log;
pub mod picture;
pub mod run;
pub mod style;
pub mod tensorboard;
pub mod write;
