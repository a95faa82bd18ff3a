//! Curves: loss, accuracy and learning rate over epochs and steps, of one run or of several.

use crate::canvas::style::{Area, COLOURS, GREY, GRID, INK, colour, drawing, text};
use crate::canvas::{FONT, svg};
use crate::run_folder::RunFiles;
use crate::train::{EpochRecord, StepRecord};
use anyhow::Result;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// A chart, in pixels.
const SIZE: (u32, u32) = (1600, 1000);

/// The share of a run's steps that a smoothed loss is an average over, and how many they are at least.
const SMOOTHED_OVER: (f64, f64) = (0.01, 5.0);

/// How many columns of points a curve over steps is drawn with at most.
const COLUMNS: usize = 700;

/// One line of a chart.
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
    colour: RGBColor,
    /// The width of the line, in pixels; 1 for a curve that is only the background of another.
    width: u32,
}

/// What is drawn.
struct Chart<'a> {
    title: &'a str,
    x: &'a str,
    logarithmic: bool,
    curves: Vec<Curve>,
}

/// The pictures of one run by the names of their files.
pub(super) fn of_run(run: &RunFiles) -> Result<Vec<(&'static str, String)>> {
    let measured = run.part().to_string();
    let curve = |name: &str, colour: RGBColor, value: &dyn Fn(&EpochRecord) -> f64| Curve {
        name: name.to_string(),
        points: by_epoch(run, value),
        colour,
        width: 7,
    };
    let loss = vec![
        curve("train", COLOURS[1], &|epoch| epoch.train_loss),
        curve(&measured, COLOURS[0], &|epoch| epoch.measured.loss),
    ];
    let accuracy = vec![
        curve("train", COLOURS[1], &|epoch| epoch.train_accuracy),
        curve(&measured, COLOURS[0], &|epoch| epoch.measured.accuracy),
    ];
    let points = columns(run.steps.iter().map(|step| (step.step as f64, step.lr)));
    let lr = vec![Curve { name: String::new(), points, colour: COLOURS[2], width: 7 }];
    [
        ("loss", Chart { title: "Loss", x: "epoch", logarithmic: true, curves: loss }),
        ("accuracy", Chart { title: "Accuracy, %", x: "epoch", logarithmic: false, curves: accuracy }),
        ("loss_by_step", Chart { title: "Training loss", x: "step", logarithmic: true, curves: by_step(&run.steps) }),
        ("lr", Chart { title: "Learning rate", x: "step", logarithmic: false, curves: lr }),
    ]
    .into_iter()
    .map(|(name, chart)| Ok((name, chart.draw()?)))
    .collect()
}

/// The pictures that compare several runs.
pub(super) fn of_runs(runs: &[RunFiles]) -> Result<Vec<String>> {
    let over_epochs = |title: &str, logarithmic: bool, value: &dyn Fn(&EpochRecord) -> f64| {
        // Without names: the colours are in the page's table of runs.
        let curve = |(k, run): (usize, &RunFiles)| Curve {
            name: String::new(),
            points: by_epoch(run, value),
            colour: colour(k, runs.len()),
            width: 6,
        };
        let curves = runs.iter().enumerate().map(curve).collect();
        Chart { title, x: "epoch", logarithmic, curves }.draw()
    };
    // Runs that were measured on different parts are compared all the same.
    let part = runs[0].part();
    let part = if runs.iter().all(|run| run.part() == part) { part.to_string() } else { "test or validation".into() };
    let title = |what: &str| format!("{}{} {what}", part[..1].to_uppercase(), &part[1..]);
    Ok(vec![
        over_epochs(&title("accuracy, %"), false, &|epoch| epoch.measured.accuracy)?,
        over_epochs(&title("loss"), true, &|epoch| epoch.measured.loss)?,
        over_epochs("Training loss", true, &|epoch| epoch.train_loss)?,
        over_epochs("Learning rate", false, &|epoch| epoch.lr)?,
    ])
}

/// The epochs, from 0, with their values.
fn by_epoch(run: &RunFiles, value: &dyn Fn(&EpochRecord) -> f64) -> Vec<(f64, f64)> {
    run.epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch))).collect()
}

/// The loss of every step, pale, and smoothed as TensorBoard does: an exponential average without the bias of its
/// start.
fn by_step(steps: &[StepRecord]) -> Vec<Curve> {
    let points: Vec<(f64, f64)> = steps.iter().map(|step| (step.step as f64, f64::from(step.loss))).collect();
    let (mut average, mut weight) = (0.0, 0.0);
    let new = 1.0 / (SMOOTHED_OVER.0 * steps.len() as f64).max(SMOOTHED_OVER.1);
    let smooth = |&(step, loss): &(f64, f64)| {
        average += new * (loss - average);
        weight += new * (1.0 - weight);
        (step, average / weight)
    };
    let smoothed: Vec<_> = points.iter().map(smooth).collect();
    let pale = RGBColor(249, 208, 180);
    vec![
        Curve { name: "each step".into(), points: columns(points.into_iter()), colour: pale, width: 2 },
        Curve { name: "smoothed".into(), points: columns(smoothed.into_iter()), colour: COLOURS[1], width: 6 },
    ]
}

/// Not more points than a picture can show: of each column the first, the lowest, the highest and the last.
fn columns(points: impl ExactSizeIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let width = points.len().div_ceil(COLUMNS);
    let points: Vec<_> = points.collect();
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
    fn draw(&self) -> Result<String> {
        let (x, y) = self.ranges();
        svg(SIZE, |area| {
            area.fill(&WHITE)?;
            text(area, self.title, 56, INK, HPos::Left, (40, 62))?;
            self.legend(area)?;
            let plot = area.margin(120, 20, 20, 40);
            let mut builder = ChartBuilder::on(&plot);
            builder.x_label_area_size(120).y_label_area_size(170);
            if self.logarithmic {
                let chart = builder.build_cartesian_2d(x.0..x.1, (y.0..y.1).log_scale().with_key_points(log_ticks(y)));
                self.fill(chart.map_err(drawing)?)
            } else {
                let chart = builder.build_cartesian_2d(x.0..x.1, y.0..y.1);
                self.fill(chart.map_err(drawing)?)
            }
        })
    }

    /// The ends of both axes, with room above and below the curves.
    fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        // A logarithm has no 0; a loss that is exactly 0 is drawn at the bottom.
        let values = || points().map(|point| point.1).filter(|&y| !self.logarithmic || y > 0.0);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let (low, high) = if low <= high { (low, high) } else { (1.0, 1.0) };
        let y = match (self.logarithmic, self.title.contains('%')) {
            (true, _) => (low / 1.2, high * 1.2),
            (false, true) => (low - 0.05 * (100.0 - low).max(0.1), 100.0),
            (false, false) => (0.0, if high > 0.0 { 1.08 * high } else { 1.0 }),
        };
        let last = points().map(|point| point.0).fold(1.0, f64::max);
        ((0.0, last), y)
    }

    fn legend(&self, area: &Area) -> Result<()> {
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

    fn fill<'a, Y>(&self, mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, Y>>) -> Result<()>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(2))
            .light_line_style(TRANSPARENT)
            .axis_style(GREY.stroke_width(2))
            .x_desc(self.x)
            .x_labels(8)
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
            let dots = if curve.points.len() <= 30 && self.x == "epoch" { 10 } else { 0 };
            let style = curve.colour.filled().stroke_width(curve.width);
            let line = LineSeries::new(curve.points.iter().copied(), style).point_size(dots);
            chart.draw_series(line).map_err(drawing)?;
        }
        Ok(())
    }
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
