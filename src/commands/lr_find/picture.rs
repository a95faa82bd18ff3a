//! The curve of a range test as a picture.

use super::curve::LossCurve;
use crate::canvas::style::COLOURS;
use crate::report::{Across, Chart, Curve, raw_and_smoothed};
use anyhow::Result;

/// The room above the highest smoothed loss: a loss of a single step that is higher still is drawn at the top.
const ROOM: f64 = 1.1;

/// The losses over the rates as SVG, and the rate that is suggested.
pub(super) fn draw(curve: &LossCurve, suggestion: Option<f64>) -> Result<String> {
    let finite = curve.smoothed.iter().filter(|loss| loss.is_finite());
    let top = ROOM * finite.copied().fold(0.0, f64::max);
    let raw = curve.losses.iter().map(|&loss| f64::from(loss).min(top));
    let mut curves: Vec<Curve> =
        raw_and_smoothed(over_rates(curve, raw), over_rates(curve, curve.smoothed.iter().copied())).into();
    curves.extend(suggestion.map(|rate| Curve {
        name: format!("suggested: {rate}"),
        points: vec![(rate, 0.0), (rate, top)],
        colour: COLOURS[0],
        width: 5,
    }));
    Chart { title: "Training loss", across: Across::Rates, logarithmic: false, curves }.draw()
}

fn over_rates(curve: &LossCurve, losses: impl Iterator<Item = f64>) -> Vec<(f64, f64)> {
    curve.rates.iter().copied().zip(losses).filter(|(_, loss)| loss.is_finite()).collect()
}
