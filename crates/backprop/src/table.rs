//! The table of one learning rate: all of it as CSV, its first and last rows as text.

use super::number::fitting;
use super::{Error, Row, Run};

/// How many rows are shown at each end of the table.
const ENDS: usize = 3;

/// `run` as a CSV file: the columns of the original spreadsheet, every digit that a float64 needs to be read back.
pub fn csv(run: &Run) -> Result<Vec<u8>, Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in &run.rows {
        writer.serialize(row)?;
    }
    writer.into_inner().map_err(|error| Error::Csv(error.into_error().into()))
}

/// The first and the last rows: the weights, the outputs and the error.
pub fn ends(run: &Run) -> Vec<String> {
    let names = ["w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "a_o1", "a_o2", "E_total"];
    let mut lines = vec![format!("{:>6}", "step") + &names.map(|name| format!("{name:>8}")).concat()];
    let rows = &run.rows;
    if rows.len() <= 2 * ENDS {
        lines.extend(rows.iter().map(line));
    } else {
        lines.extend(rows[..ENDS].iter().map(line));
        lines.push(format!("{:>6}", "..."));
        lines.extend(rows[rows.len() - ENDS..].iter().map(line));
    }
    lines
}

fn line(row: &Row) -> String {
    let mut text = format!("{:>6}", row.step);
    for value in row.weights().into_iter().chain([row.a_o1, row.a_o2, row.e_total]) {
        text.push_str(&format!("{:>8}", cell(value)));
    }
    text
}

/// Four decimals, or as many digits as fit in a column of eight if four decimals show too few or too many.
fn cell(value: f64) -> String {
    let text = format!("{value:.4}");
    if text.len() < 8 && (value == 0.0 || value.abs() >= 0.001) { text } else { fitting(value, 7) }
}
