//! Curves: loss, accuracy and learning rate over epochs and steps, of one run or of several.

use super::chart::{Across, Chart, Curve, Up, columns, raw_and_smoothed};
use super::smooth::Smoothing;
use crate::run_folder::RunFiles;
use crate::train::{EpochRecord, StepRecord};
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
    let points = columns(run.steps.iter().map(|step| (step.step as f64, step.lr)).collect());
    let lr = vec![Curve { name: String::new(), points, colour: COLOURS[2], width: 7 }];
    [
        ("loss", Chart { title: "Loss", across: Across::Epochs, up: Up::Logarithmic, curves: loss }),
        ("accuracy", Chart { title: "Accuracy, %", across: Across::Epochs, up: Up::Percent, curves: accuracy }),
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

/// The pictures that compare several runs.
pub(super) fn of_runs(runs: &[RunFiles]) -> Result<Vec<String>> {
    let over_epochs = |title: &str, up: Up, value: &dyn Fn(&EpochRecord) -> f64| {
        // Without names: the colours are in the page's table of runs.
        let curve = |(k, run): (usize, &RunFiles)| Curve {
            name: String::new(),
            points: by_epoch(run, value),
            colour: colour(k, runs.len()),
            width: 6,
        };
        let curves = runs.iter().enumerate().map(curve).collect();
        Chart { title, across: Across::Epochs, up, curves }.draw()
    };
    // Runs that were measured on different parts are compared all the same.
    let part = runs[0].part();
    let part = if runs.iter().all(|run| run.part() == part) { part.to_string() } else { "test or validation".into() };
    let title = |what: &str| format!("{}{} {what}", part[..1].to_uppercase(), &part[1..]);
    Ok(vec![
        over_epochs(&title("accuracy, %"), Up::Percent, &|epoch| epoch.measured.accuracy)?,
        over_epochs(&title("loss"), Up::Logarithmic, &|epoch| epoch.measured.loss)?,
        over_epochs("Training loss", Up::Logarithmic, &|epoch| epoch.train_loss)?,
        over_epochs("Learning rate", Up::Linear, &|epoch| epoch.lr)?,
    ])
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
