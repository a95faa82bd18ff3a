//! E_total over the steps as text: one small chart per learning rate, all on the same axes.

use super::Run;
use super::number::number;
use textplots::{Chart, LabelBuilder, LabelFormat, Plot, Shape};

/// A chart is this large in braille dots, two to a column and four to a row.
const DOTS: (u32, u32) = (56, 24);
/// The columns of one chart with the space to its right; three stand side by side.
const COLUMNS: usize = 32;
const SIDE_BY_SIDE: usize = 3;

/// What the charts of `runs` show, and their axes.
pub fn title(runs: &[Run]) -> String {
    let last = runs.iter().map(|run| run.last().step).max().unwrap_or(0);
    format!("E_total from its first to its last value: across, steps 0 to {last}; up, 0 to {}", number(highest(runs)))
}

fn highest(runs: &[Run]) -> f64 {
    runs.iter().flat_map(|run| &run.rows).map(|row| row.e_total).fold(0.0, f64::max)
}

/// The charts of `runs`, three to a row, each under its learning rate and its first and last E_total.
pub fn charts(runs: &[Run]) -> Vec<String> {
    let highest = highest(runs);
    let mut lines = Vec::new();
    for row in runs.chunks(SIDE_BY_SIDE) {
        let charts: Vec<Vec<String>> = row.iter().map(|run| chart(run, highest)).collect();
        for k in 0..charts[0].len() {
            let line: String = charts.iter().map(|chart| format!("{:<COLUMNS$}", chart[k])).collect();
            lines.push(line.trim_end().to_string());
        }
        lines.push(String::new());
    }
    lines
}

/// A title and the braille rows of one chart.
fn chart(run: &Run, highest: f64) -> Vec<String> {
    let points: Vec<(f32, f32)> = run.rows.iter().map(|row| (row.step as f32, row.e_total as f32)).collect();
    let shape = Shape::Lines(&points);
    // The scale needs a range that is not empty.
    let (right, top) = ((run.rows.len() - 1).max(1) as f32, (highest as f32).max(f32::MIN_POSITIVE));
    let mut chart = Chart::new_with_y_range(DOTS.0, DOTS.1, 0.0, right, 0.0, top);
    let chart = chart.lineplot(&shape).x_label_format(LabelFormat::None).y_label_format(LabelFormat::None);
    chart.axis();
    chart.figures();
    let title = format!("lr {}", number(run.lr));
    let values = format!("{} to {}", number(run.first().e_total), number(run.last().e_total));
    let braille = chart.to_string();
    let rows = braille.lines().map(|line| line.trim_end().to_string()).filter(|line| !line.is_empty());
    [title, values].into_iter().chain(rows).collect()
}
