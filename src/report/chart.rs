//! A chart: one or more curves over epochs, steps or learning rates.

use anyhow::Result;
use canvas::style::{Area, COLOURS, GREY, GRID, INK, drawing, text, width};
use canvas::{Error, FONT, svg};
use plotters::coord::ranged1d::{AsRangedCoord, DefaultFormatting, KeyPointHint, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// A chart, in pixels.
const SIZE: (u32, u32) = (1280, 860);

/// The sizes of its title and of its other text, which stay readable when a telephone shows it 350 pixels wide.
const TITLE: i32 = 52;
const FONT_SIZE: i32 = 45;

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
    pub(crate) line: Line,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Line {
    Solid,
    /// In dashes, over another curve that is as long: the `place`-th of so many (`of`) that run in the same place shows in
    /// its share of every dash's length.
    Dashed {
        place: usize,
        of: usize,
    },
}

impl Line {
    /// The length of a dash and of the gap after it, in pixels.
    pub(crate) fn dash(self) -> Option<(i32, i32)> {
        match self {
            Line::Solid => None,
            Line::Dashed { place, of } => {
                let length = DASH * (of - place) as i32;
                Some((length, DASH * of as i32 - length))
            }
        }
    }
}

/// The part of a dashed line that one curve shows in, in pixels.
const DASH: i32 = 22;

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
}

/// The axis that goes across.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Across {
    /// Whole numbers from 0, and dots where they are few.
    Epochs,
    /// Epochs that are done, and parts of them.
    Time,
    /// Whole numbers from 0.
    Steps,
    /// Logarithmic.
    Rates,
}

impl Across {
    fn name(self) -> &'static str {
        match self {
            Across::Epochs => "epoch",
            Across::Time => "epochs done",
            Across::Steps => "step",
            Across::Rates => "learning rate",
        }
    }
}

/// The curve of every single value, pale, and over it the curve of the smoothed ones.
pub(crate) fn raw_and_smoothed(raw: Vec<(f64, f64)>, smoothed: Vec<(f64, f64)>) -> [Curve; 2] {
    let pale = RGBColor(249, 208, 180);
    [
        Curve { name: "each step".into(), points: columns(raw), colour: pale, width: 2, line: Line::Solid },
        Curve { name: "smoothed".into(), points: columns(smoothed), colour: COLOURS[1], width: 5, line: Line::Solid },
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
            text(area, self.title, TITLE, INK, HPos::Left, (30, 48))?;
            self.legend(area)?;
            let plot = area.margin(96, 14, 14, 34);
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
        let values = || points().map(|point| point.1).filter(|&y| self.up != Up::Logarithmic || y > 0.0);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let (low, high) = if low <= high { (low, high) } else { (1.0, 1.0) };
        let y = match self.up {
            Up::Logarithmic => (low / 1.2, high * 1.2),
            Up::Linear => (0.0, if high > 0.0 { 1.08 * high } else { 1.0 }),
        };
        let first = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let last = points().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max);
        let x = match self.across {
            // A curve of a single point has a width all the same.
            Across::Rates => (first, last.max(2.0 * first)),
            // A single epoch is in the middle.
            Across::Epochs | Across::Time | Across::Steps if last <= 0.0 => (-0.5, 0.5),
            Across::Epochs | Across::Time | Across::Steps => (0.0, last),
        };
        (x, y)
    }

    fn legend(&self, area: &Area) -> Result<(), Error> {
        let named = self.curves.iter().filter(|curve| !curve.name.is_empty());
        let mut right = SIZE.0 as i32 - 30;
        for curve in named.collect::<Vec<_>>().into_iter().rev() {
            let left = right - width(&curve.name, FONT_SIZE);
            text(area, &curve.name, FONT_SIZE, INK, HPos::Left, (left, 48))?;
            let line = [(left - 72, 48), (left - 14, 48)];
            area.draw(&PathElement::new(line, curve.colour.stroke_width(curve.width.max(6)))).map_err(drawing)?;
            right = left - 104;
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
        builder.x_label_area_size(116).y_label_area_size(160);
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
            .axis_desc_style(TextStyle::from((FONT, FONT_SIZE)).color(&INK))
            .label_style(TextStyle::from((FONT, FONT_SIZE)).color(&INK))
            .set_all_tick_mark_size(10)
            .draw()
            .map_err(drawing)?;
        // A logarithm has no 0: such a value is drawn at the bottom.
        let floor = if self.up == Up::Logarithmic { self.ranges().1.0 } else { f64::NEG_INFINITY };
        for curve in &self.curves {
            // Dots where so few points make no curve.
            let dots = if curve.points.len() <= 30 && self.across == Across::Epochs { 10 } else { 0 };
            let style = curve.colour.filled().stroke_width(curve.width);
            let points = curve.points.iter().map(|&(x, y)| (x, y.max(floor)));
            match curve.line.dash() {
                None => chart.draw_series(LineSeries::new(points, style).point_size(dots)),
                Some((dash, gap)) => chart.draw_series(DashedLineSeries::new(points, dash, gap, style)),
            }
            .map_err(drawing)?;
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

/// Where a logarithmic axis has its labels: at the powers of ten if it spans many, else at 1, 2 and 5 times these, and on a
/// short axis at round numbers.
fn log_ticks((low, high): (f64, f64)) -> Vec<f64> {
    let steps: &[f64] = if high / low > 200.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let ticks = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    let ticks: Vec<f64> = ticks.filter(|tick| (low..=high).contains(tick)).collect();
    if ticks.len() > 2 || high / low > 10.0 {
        return ticks;
    }
    let power = 10f64.powi((high - low).log10().floor() as i32);
    let step = [0.2, 0.5, 1.0, 2.0].map(|step| step * power).into_iter().find(|step| (high - low) / step < 6.5);
    let step = step.unwrap_or(2.0 * power);
    let first = (low / step).ceil() as i64;
    (first..).map(|k| k as f64 * step).take_while(|&tick| tick <= high).collect()
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

    #[test]
    fn a_logarithmic_axis_has_a_few_labels_however_long_it_is() {
        for (range, ticks) in [
            ((0.9, 60.0), vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0]),
            ((0.001, 2.0), vec![0.001, 0.01, 0.1, 1.0]),
            ((2.6, 4.1), vec![3.0, 3.5, 4.0]),
            ((0.75, 1.3), vec![0.8, 0.9, 1.0, 1.1, 1.2, 1.3]),
        ] {
            let found = log_ticks(range);
            let near = found.iter().zip(&ticks).all(|(a, b): (&f64, &f64)| (a - b).abs() < 1e-9);
            assert!(near && found.len() == ticks.len(), "{range:?}: {found:?}");
        }
        for low in (1..400).map(|k| f64::from(k) / 7.0) {
            for times in [1.44, 2.0, 5.0, 30.0, 250.0] {
                let count = log_ticks((low, times * low)).len();
                assert!((2..=9).contains(&count), "{low} to {}: {count} labels", times * low);
            }
        }
    }

    #[test]
    fn curves_in_one_place_share_its_dashes() {
        let chart = |line: Line| {
            let curve = |colour, line| Curve {
                name: String::new(),
                points: vec![(0.0, 2.0), (1.0, 1.0), (2.0, 0.5)],
                colour,
                width: 6,
                line,
            };
            let curves = vec![curve(COLOURS[0], Line::Solid), curve(COLOURS[1], line)];
            Chart { title: "Error", across: Across::Epochs, up: Up::Logarithmic, curves }.draw().unwrap()
        };
        let pieces = |svg: &str| svg.matches("stroke=\"#D55E00\"").count();
        assert!(pieces(&chart(Line::Dashed { place: 1, of: 2 })) > pieces(&chart(Line::Solid)) + 5);
        // Of three in one place each one shows a third.
        let dashes = [1, 2].map(|place| Line::Dashed { place, of: 3 }.dash());
        assert_eq!(dashes, [Some((2 * DASH, DASH)), Some((DASH, 2 * DASH))]);
    }

    #[test]
    fn an_error_of_0_is_drawn_at_the_bottom() {
        let curve = Curve {
            name: String::new(),
            points: vec![(0.0, 4.0), (1.0, 0.0)],
            colour: COLOURS[0],
            width: 6,
            line: Line::Solid,
        };
        let chart = Chart { title: "Error", across: Across::Epochs, up: Up::Logarithmic, curves: vec![curve] };
        let svg = chart.draw().unwrap();
        let line = svg.split("<polyline").find(|part| part.contains("#0072B2") && part.contains("stroke-width=\"6\""));
        let points = line.unwrap().split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let bottoms: Vec<i32> =
            points.split_whitespace().map(|at| at.split(',').nth(1).unwrap().parse().unwrap()).collect();
        assert!(bottoms.iter().all(|y| (0..SIZE.1 as i32).contains(y)), "{points}");
    }
}
