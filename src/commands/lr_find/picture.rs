//! The curve of a range test as a picture.

use super::curve::LossCurve;
use crate::report::{Across, Chart, Curve, Line, Up, raw_and_smoothed};
use anyhow::Result;
use canvas::style::COLOURS;

/// The room above the highest smoothed loss: what is higher still is drawn at the top.
const ROOM: f64 = 1.1;

/// The losses over the rates as SVG, and the rate that is suggested.
pub(super) fn draw(curve: &LossCurve, suggestion: Option<f64>) -> Result<String> {
    let top = ROOM * curve.highest();
    let over_rates = |losses: &mut dyn Iterator<Item = f64>| {
        let finite = curve.rates.iter().copied().zip(losses).filter(|(_, loss)| loss.is_finite());
        finite.map(|(rate, loss)| (rate, loss.min(top))).collect()
    };
    let raw = over_rates(&mut curve.losses.iter().map(|&loss| loss.into()));
    let smoothed = over_rates(&mut curve.smoothed.iter().copied());
    let mut curves: Vec<Curve> = raw_and_smoothed(raw, smoothed).into();
    curves.extend(suggestion.map(|rate| Curve {
        name: format!("suggested: {rate}"),
        points: vec![(rate, 0.0), (rate, top)],
        colour: COLOURS[0],
        width: 5,
        line: Line::Solid,
    }));
    Chart { title: "Training loss", across: Across::Rates, up: Up::Linear, curves }.draw()
}
