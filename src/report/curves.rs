//! Curves: loss, error and learning rate over epochs and steps, of one run or of several.

use super::chart::{Across, Chart, Curve, Line, Up, columns, raw_and_smoothed};
use super::smooth::Smoothing;
use crate::run_folder::RunFiles;
use crate::train::{EpochRecord, Measured, StepRecord};
use anyhow::Result;
use canvas::style::{COLOURS, colour};
use plotters::style::RGBColor;

/// The share of a run's steps that a smoothed loss is an average over, and how many they are at least.
const SMOOTHED_OVER: (f64, f64) = (0.01, 5.0);

/// The pictures of one run by the names of their files.
pub(super) fn of_run(run: &RunFiles) -> Result<Vec<(&'static str, String)>> {
    let measured = run.part().to_string();
    let curve = |name: &str, colour: RGBColor, value: &dyn Fn(&EpochRecord) -> f64| Curve {
        name: name.to_string(),
        points: by_epoch(run, value),
        colour,
        width: 6,
        line: Line::Solid,
    };
    let loss = vec![
        curve("train", COLOURS[1], &|epoch| epoch.train_loss),
        curve(&measured, COLOURS[0], &|epoch| epoch.measured.loss),
    ];
    let error = vec![
        curve("train", COLOURS[1], &|epoch| 100.0 - epoch.train_accuracy),
        curve(&measured, COLOURS[0], &|epoch| 100.0 - epoch.measured.accuracy),
    ];
    let points = columns(staircase(run.steps.iter().map(|step| (step.step as f64, step.lr)).collect()));
    let lr = vec![Curve { name: String::new(), points, colour: COLOURS[2], width: 6, line: Line::Solid }];
    [
        ("loss", Chart { title: "Loss", across: Across::Epochs, up: Up::Logarithmic, curves: loss }),
        ("error", Chart { title: "Error, %", across: Across::Epochs, up: Up::Logarithmic, curves: error }),
        (
            "loss_by_step",
            Chart { title: "Training loss", across: Across::Steps, up: Up::Logarithmic, curves: by_step(&run.steps) },
        ),
        ("lr", Chart { title: "Learning rate", across: Across::Steps, up: Up::Linear, curves: lr }),
    ]
    .into_iter()
    .map(|(name, chart)| Ok((name, chart.draw()?)))
    .collect()
}

/// The pictures that compare several runs, each run in its [`Style`].
pub(super) fn of_runs(runs: &[RunFiles], styles: &[Style]) -> Result<Vec<String>> {
    let draw = |title: &str, across: Across, up: Up, points: &dyn Fn(&RunFiles) -> Vec<(f64, f64)>| {
        // Without names: the lines are in the page's table of runs.
        let curve = |(run, style): (&RunFiles, &Style)| Curve {
            name: String::new(),
            points: points(run),
            colour: style.colour,
            width: 6,
            line: style.line,
        };
        let curves = runs.iter().zip(styles).map(curve).collect();
        Chart { title, across, up, curves }.draw()
    };
    let over_epochs = |title: &str, value: &dyn Fn(&EpochRecord) -> f64| {
        draw(title, Across::Epochs, Up::Logarithmic, &|run| by_epoch(run, value))
    };
    let parts = parts(runs);
    Ok(vec![
        over_epochs(&format!("Error, % ({parts})"), &|epoch| 100.0 - epoch.measured.accuracy)?,
        over_epochs(&format!("Loss ({parts})"), &|epoch| epoch.measured.loss)?,
        over_epochs("Training loss", &|epoch| epoch.train_loss)?,
        draw("Learning rate", Across::Time, Up::Linear, &|run| columns(rates(&run.steps)))?,
    ])
}

/// What the runs were measured on, for the title of a chart. They are compared all the same if that differs.
fn parts(runs: &[RunFiles]) -> String {
    let part = runs[0].part();
    if runs.iter().all(|run| run.part() == part) { part.to_string() } else { "test or validation".into() }
}

/// How a run is drawn on a page that compares several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Style {
    pub(super) colour: RGBColor,
    pub(super) line: Line,
    /// The first run of the same curves, if that is another one.
    pub(super) same_as: Option<usize>,
}

/// A colour for each run, and dashes for those whose curves run in the same place.
pub(super) fn styles<T: PartialEq>(curves: &[T]) -> Vec<Style> {
    let first = |k: usize| curves.iter().position(|other| *other == curves[k]).unwrap_or(k);
    let style = |k: usize| {
        let same: Vec<usize> = (0..curves.len()).filter(|&other| first(other) == first(k)).collect();
        let place = same.iter().position(|&other| other == k).unwrap_or(0);
        let line = if place == 0 { Line::Solid } else { Line::Dashed { place, of: same.len() } };
        Style { colour: colour(k, curves.len()), line, same_as: (place > 0).then(|| same[0]) }
    };
    (0..curves.len()).map(style).collect()
}

/// What a run's curves over epochs show.
pub(super) fn shown(run: &RunFiles) -> Vec<(Measured, f64)> {
    run.epochs.iter().map(|epoch| (epoch.measured.clone(), epoch.train_loss)).collect()
}

/// The learning rates over the epochs that are done, as a staircase.
fn rates(steps: &[StepRecord]) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    for epoch in steps.chunk_by(|a, b| a.epoch == b.epoch) {
        let time = |step: usize| epoch[0].epoch as f64 + step as f64 / epoch.len() as f64;
        points.extend(epoch.iter().enumerate().map(|(step, record)| (time(step), record.lr)));
        points.extend(epoch.last().map(|last| (time(epoch.len()), last.lr)));
    }
    staircase(points)
}

/// The corners of a line that keeps each value until the next point.
fn staircase(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for (k, &(x, y)) in points.iter().enumerate() {
        match corners.last() {
            Some(&(_, before)) if before == y && k + 1 < points.len() => {}
            Some(&(_, before)) => corners.extend([(x, before), (x, y)]),
            None => corners.push((x, y)),
        }
    }
    corners.dedup();
    corners
}

/// The epochs, from 0, with their values.
fn by_epoch(run: &RunFiles, value: &dyn Fn(&EpochRecord) -> f64) -> Vec<(f64, f64)> {
    run.epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch))).collect()
}

/// The loss of every step, pale, and smoothed.
fn by_step(steps: &[StepRecord]) -> Vec<Curve> {
    let points: Vec<(f64, f64)> = steps.iter().map(|step| (step.step as f64, f64::from(step.loss))).collect();
    let mut smoothing = Smoothing::over((SMOOTHED_OVER.0 * steps.len() as f64).max(SMOOTHED_OVER.1));
    let smooth = |&(step, loss): &(f64, f64)| (step, smoothing.next(loss));
    let smoothed: Vec<_> = points.iter().map(smooth).collect();
    raw_and_smoothed(points, smoothed).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_learning_rate_is_drawn_as_a_step() {
        let record = |step: i64, lr: f64| StepRecord { step, epoch: step / 4, lr, loss: 1.0 };
        let steps: Vec<StepRecord> = (0..12).map(|step| record(step, if step < 8 { 0.1 } else { 0.01 })).collect();
        assert_eq!(rates(&steps), [(0.0, 0.1), (2.0, 0.1), (2.0, 0.01), (3.0, 0.01)]);
        assert_eq!(staircase(vec![(0.0, 1.0)]), [(0.0, 1.0)]);
        assert_eq!(staircase(vec![(0.0, 1.0), (1.0, 2.0)]), [(0.0, 1.0), (1.0, 1.0), (1.0, 2.0)]);
    }

    #[test]
    fn runs_that_coincide_are_drawn_in_dashes_of_their_own() {
        let styles = styles(&["a", "b", "a", "c", "a"]);
        assert_eq!(styles.iter().map(|style| style.same_as).collect::<Vec<_>>(), [None, None, Some(0), None, Some(0)]);
        assert_eq!(styles[2].line, Line::Dashed { place: 1, of: 3 });
        assert_eq!(styles[4].line, Line::Dashed { place: 2, of: 3 });
        assert!([0, 1, 3].iter().all(|&k| styles[k].line == Line::Solid));
        let colours: std::collections::BTreeSet<_> =
            styles.iter().map(|it| (it.colour.0, it.colour.1, it.colour.2)).collect();
        assert_eq!(colours.len(), 5);
    }
}
