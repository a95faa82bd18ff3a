//! The curve of a range test as text.

use super::curve::LossCurve;
use textplots::{Chart, LabelBuilder, LabelFormat, Plot, Shape};

/// The chart is this large in braille dots, two to a column and four to a row.
const DOTS: (u32, u32) = (144, 60);
/// A column without a dot.
const BLANK: char = '\u{2800}';
const COLUMNS: f64 = DOTS.0 as f64 / 2.0;

/// The losses over the logarithm of the rates, each step's as a dot and the smoothed ones as a line; below it the
/// powers of ten, and the rate that is suggested.
pub(super) fn lines(curve: &LossCurve, suggestion: Option<f64>) -> Vec<String> {
    // From 0 to 1 across.
    let (first, last) = (curve.rates[0].ln(), curve.rates[curve.rates.len() - 1].ln());
    let across = |rate: f64| (rate.ln() - first) / (last - first).max(f64::MIN_POSITIVE);
    let top = curve.highest() as f32;
    let over_rates = |losses: &mut dyn Iterator<Item = f64>| -> Vec<(f32, f32)> {
        let points = curve.rates.iter().zip(losses).map(|(&rate, loss)| (across(rate) as f32, loss as f32));
        points.filter(|point| point.1 <= top).collect()
    };
    let raw = over_rates(&mut curve.losses.iter().map(|&loss| loss.into()));
    let smoothed = over_rates(&mut curve.smoothed.iter().copied());

    let (dots, line) = (Shape::Points(&raw), Shape::Lines(&smoothed));
    let mut chart = Chart::new_with_y_range(DOTS.0, DOTS.1, 0.0, 1.0, 0.0, top);
    let chart = chart.lineplot(&dots).lineplot(&line).x_label_format(LabelFormat::None);
    let chart = chart.y_label_format(LabelFormat::Custom(Box::new(|loss| format!("{loss:.2}"))));
    chart.axis();
    chart.figures();
    let braille = chart.to_string();
    let mut lines: Vec<String> = braille.lines().map(|line| line.trim_end_matches([' ', BLANK]).to_string()).collect();
    lines.retain(|line| !line.is_empty());

    let column = |rate: f64| (COLUMNS * across(rate)).round() as usize;
    let powers = (first / std::f64::consts::LN_10).ceil() as i32..=(last / std::f64::consts::LN_10).floor() as i32;
    let powers = powers.map(|power| (column(10f64.powi(power)), format!("1e{power}")));
    lines.push(placed(powers));
    lines.extend(suggestion.map(|rate| placed([(column(rate), format!("^ {rate}"))])));
    lines
}

/// One line with each text from its column on; a text that has no room is left out.
fn placed(texts: impl IntoIterator<Item = (usize, String)>) -> String {
    let mut line = String::new();
    for (column, text) in texts {
        if line.is_empty() || line.len() < column {
            line = format!("{line:<column$}{text}");
        }
    }
    line
}
