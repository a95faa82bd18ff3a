//! A chart: one or more curves over epochs, steps or learning rates.

use anyhow::Result;
use canvas::style::{Area, COLOURS, GREY, GRID, INK, drawing, text};
use canvas::{Error, FONT, svg};
use plotters::coord::ranged1d::{AsRangedCoord, DefaultFormatting, KeyPointHint, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// A chart, in pixels.
const SIZE: (u32, u32) = (1600, 1000);

/// How many columns of points a curve over steps is drawn with at most.
const COLUMNS: usize = 700;

/// The most labels of an axis of epochs or steps.
const MOST_LABELS: f64 = 8.0;

/// One line of a chart.
pub(crate) struct Curve {
    /// What the legend calls it; empty: it is not in the legend.
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) colour: RGBColor,
    /// The width of the line, in pixels; 1 for a curve that is only the background of another.
    pub(crate) width: u32,
}

/// What is drawn.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) across: Across,
    pub(crate) up: Up,
    pub(crate) curves: Vec<Curve>,
}

/// The axis that goes up.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Up {
    Logarithmic,
    /// From 0.
    Linear,
    /// To 100 %.
    Percent,
}

/// The axis that goes across.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Across {
    /// Whole numbers from 0, and dots where they are few.
    Epochs,
    /// Whole numbers from 0.
    Steps,
    /// Logarithmic.
    Rates,
}

impl Across {
    fn name(self) -> &'static str {
        match self {
            Across::Epochs => "epoch",
            Across::Steps => "step",
            Across::Rates => "learning rate",
        }
    }
}

/// The curve of every single value, pale, and over it the curve of the smoothed ones.
pub(crate) fn raw_and_smoothed(raw: Vec<(f64, f64)>, smoothed: Vec<(f64, f64)>) -> [Curve; 2] {
    let pale = RGBColor(249, 208, 180);
    [
        Curve { name: "each step".into(), points: columns(raw), colour: pale, width: 2 },
        Curve { name: "smoothed".into(), points: columns(smoothed), colour: COLOURS[1], width: 6 },
    ]
}

/// Not more points than a picture can show: of each column the first, the lowest, the highest and the last.
pub(super) fn columns(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let width = points.len().div_ceil(COLUMNS);
    if width <= 4 {
        return points;
    }
    let column = |points: &[(f64, f64)]| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = [points.first(), points.iter().min_by(by_value), points.iter().max_by(by_value), points.last()];
        let mut kept: Vec<(f64, f64)> = ends.into_iter().flatten().copied().collect();
        kept.sort_by(|a, b| a.0.total_cmp(&b.0));
        kept.dedup();
        kept
    };
    points.chunks(width).flat_map(column).collect()
}

impl Chart<'_> {
    /// The chart as SVG.
    pub(crate) fn draw(&self) -> Result<String> {
        let (x, y) = self.ranges();
        Ok(svg(SIZE, |area| {
            area.fill(&WHITE)?;
            text(area, self.title, 56, INK, HPos::Left, (40, 62))?;
            self.legend(area)?;
            let plot = area.margin(120, 20, 20, 40);
            let whole = || Whole::between(x.0, x.1);
            let rates = || (x.0..x.1).log_scale().with_key_points(log_ticks(x));
            let up = || (y.0..y.1).log_scale().with_key_points(log_ticks(y));
            match (self.across, self.up == Up::Logarithmic) {
                (Across::Rates, true) => self.fill(&plot, rates(), up()),
                (Across::Rates, false) => self.fill(&plot, rates(), y.0..y.1),
                (_, true) => self.fill(&plot, whole(), up()),
                (_, false) => self.fill(&plot, whole(), y.0..y.1),
            }
        })?)
    }

    /// The ends of both axes, with room above and below the curves.
    fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        // A logarithm has no 0; a loss that is exactly 0 is drawn at the bottom.
        let values = || points().map(|point| point.1).filter(|&y| self.up != Up::Logarithmic || y > 0.0);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let (low, high) = if low <= high { (low, high) } else { (1.0, 1.0) };
        let y = match self.up {
            Up::Logarithmic => (low / 1.2, high * 1.2),
            Up::Percent => (low - 0.05 * (100.0 - low).max(0.1), 100.0),
            Up::Linear => (0.0, if high > 0.0 { 1.08 * high } else { 1.0 }),
        };
        let first = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let last = points().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max);
        let x = match self.across {
            // A curve of a single point has a width all the same.
            Across::Rates => (first, last.max(2.0 * first)),
            // A single epoch is in the middle.
            Across::Epochs | Across::Steps if last <= 0.0 => (-0.5, 0.5),
            Across::Epochs | Across::Steps => (0.0, last),
        };
        (x, y)
    }

    fn legend(&self, area: &Area) -> Result<(), Error> {
        let named = self.curves.iter().filter(|curve| !curve.name.is_empty());
        let mut right = SIZE.0 as i32 - 50;
        for curve in named.collect::<Vec<_>>().into_iter().rev() {
            // Ubuntu's letters are half as wide as they are high.
            let width = 24 * curve.name.chars().count() as i32;
            text(area, &curve.name, 46, INK, HPos::Left, (right - width, 62))?;
            let line = [(right - width - 90, 62), (right - width - 20, 62)];
            area.draw(&PathElement::new(line, curve.colour.stroke_width(curve.width.max(6)))).map_err(drawing)?;
            right -= width + 150;
        }
        Ok(())
    }

    /// Draws the axes `x` and `y` and the curves between them.
    fn fill<X, Y>(&self, plot: &Area, x: X, y: Y) -> Result<(), Error>
    where
        X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
        Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    {
        let mut builder = ChartBuilder::on(plot);
        builder.x_label_area_size(120).y_label_area_size(170);
        let mut chart = builder.build_cartesian_2d(x, y).map_err(drawing)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(2))
            .light_line_style(TRANSPARENT)
            .axis_style(GREY.stroke_width(2))
            .x_desc(self.across.name())
            .y_labels(6)
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
            .axis_desc_style(TextStyle::from((FONT, 44)).color(&INK))
            .label_style(TextStyle::from((FONT, 42)).color(&INK))
            .set_all_tick_mark_size(10)
            .draw()
            .map_err(drawing)?;
        for curve in &self.curves {
            // Dots where so few points make no curve.
            let dots = if curve.points.len() <= 30 && self.across == Across::Epochs { 10 } else { 0 };
            let style = curve.colour.filled().stroke_width(curve.width);
            let line = LineSeries::new(curve.points.iter().copied(), style).point_size(dots);
            chart.draw_series(line).map_err(drawing)?;
        }
        Ok(())
    }
}

/// An axis with labels at whole numbers only.
struct Whole {
    axis: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Whole {
    fn between(first: f64, last: f64) -> Whole {
        Whole { axis: (first..last).into(), ticks: whole_ticks(last) }
    }
}

impl Ranged for Whole {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.axis.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.axis.range()
    }
}

/// Where an axis of whole numbers from 0 to `last` has its labels: at multiples of 1, 2 or 5 times a power of ten.
fn whole_ticks(last: f64) -> Vec<f64> {
    let steps = (0..).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)));
    let step = steps.into_iter().find(|step| last / step <= MOST_LABELS).unwrap_or(f64::MAX);
    (0..).map(|k| step * f64::from(k)).take_while(|&tick| tick <= last.max(0.0)).collect()
}

/// Where a logarithmic axis has its labels: at 1, 2 and 5 times the powers of ten, at these alone when they are many.
fn log_ticks((low, high): (f64, f64)) -> Vec<f64> {
    let steps: &[f64] = if high / low > 200.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let ticks = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    ticks.filter(|tick| (low..=high).contains(tick)).collect()
}

/// A number on an axis: as short as it can be, and without the last digits of a binary fraction.
pub(super) fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    rounded.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_and_steps_have_labels_at_whole_numbers_only() {
        for (last, ticks) in [
            (0.5, vec![0.0]),
            (1.0, vec![0.0, 1.0]),
            (2.0, vec![0.0, 1.0, 2.0]),
            (8.0, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
            (14.0, vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]),
            (29.0, vec![0.0, 5.0, 10.0, 15.0, 20.0, 25.0]),
            (7034.0, vec![0.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0]),
        ] {
            assert_eq!(whole_ticks(last), ticks, "{last}");
        }
    }
}
