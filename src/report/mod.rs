//! What there is to look at when a run is over: pictures, a page, a page that compares runs.

mod confusion;
mod curves;
mod grid;
mod html;
mod write;

pub(crate) use grid::{SHEET_COLUMNS, sheet};
pub(crate) use html::duration;
pub(crate) use write::{comparison, pictures_of, write_plots, write_run};
