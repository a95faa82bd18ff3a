//! What there is to look at when a run is over: pictures, a page, a page that compares runs.

mod chart;
mod comparison;
mod confusion;
mod curves;
mod dark;
mod grid;
mod page;
mod run_page;
mod smooth;
mod write;

pub(crate) use chart::{Across, Chart, Curve, Line, Up, raw_and_smoothed};
pub(crate) use grid::{SHEET_COLUMNS, sheet};
pub(crate) use smooth::Smoothing;
pub(crate) use write::{comparison, pictures_of, write_plots, write_run};
