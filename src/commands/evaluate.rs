//! `tch-mnist evaluate`: a weights file on the test set.

use super::session::{Inference, OnlyFile, other_classes};
use super::{Outcome, Verbosity};
use crate::data::{Classes, Data};
use crate::error::without_panic;
use crate::evaluate::{Evaluation, Findings, evaluate, evaluate_tta, log_probabilities, shown_classes};
use crate::files::write_atomically;
use crate::memory;
use crate::model::StateDict;
use crate::observe::{OutputArgs, OutputFormat, say};
use crate::predict::NOT_FINITE;
use crate::report;
use crate::run_folder;
use crate::settings::{Batches, Inversion, Source, TestImages};
use crate::weights;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Measure a weights file on the test set
#[derive(clap::Parser)]
#[command(name = "evaluate", override_usage = "tch-mnist evaluate [OPTIONS] <WEIGHTS>")]
pub(super) struct Args {
    #[command(flatten)]
    file: OnlyFile,
    #[command(flatten)]
    inference: Inference,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    inversion: Inversion,
    #[command(flatten)]
    batches: Batches,
    #[command(flatten)]
    test: TestImages,
    /// Also measure the average over nine translations of each image, by at most one pixel
    #[arg(long)]
    tta: bool,
    /// Also write every image's log-probabilities [N, 10] and label [N] to this safetensors file
    #[arg(long, value_name = "FILE")]
    log_probabilities: Option<PathBuf>,
    /// Also draw the confusion matrix and the worst misclassified images into this folder, as SVG and PNG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub(super) fn run(mut args: Args, _: Verbosity) -> Result<Outcome> {
    args.inference.file.take(args.file);
    let (backend, net, file) = args.inference.net()?;
    let test = Data::load_test(&args.inversion.of(&args.source), backend.device, args.test.limit_test)?;
    if let Some(difference) = other_classes(&file, &test)? {
        tracing::warn!("{difference}: name theirs by --data");
    }
    let batch_size = args.batches.batch_size;
    let batches = test.batches(batch_size)?;
    let measure = || {
        let result = evaluate(&net, &test, &batches, || true)?.expect("nothing stops it");
        let tta = args.tta.then(|| evaluate_tta(&net, &test, &batches)).transpose()?;
        let outputs = args.log_probabilities.as_ref().map(|_| log_probabilities(&net, &test, &batches)).transpose()?;
        Ok((result, tta, outputs))
    };
    let measured = without_panic(measure).map_err(|error| memory::of_batch_size(error, batch_size));
    let (result, tta, outputs) = measured?;
    ensure!(result.loss.is_finite(), "{}: {NOT_FINITE}", file.path().display());
    if let (Some(path), Some(outputs)) = (&args.log_probabilities, outputs) {
        let tensors = [("log_probabilities".into(), outputs), ("labels".into(), test.labels.shallow_clone())];
        let tensors = StateDict(tensors.into());
        write_atomically(path, |path| weights::safetensors::write(path, &tensors, &BTreeMap::new()))?;
    }
    if let Some(folder) = &args.plots {
        report::write_plots(folder, &report::pictures_of(&Findings::of(&net, &test)?, &test)?)?;
    }
    match args.output.format {
        OutputFormat::Text => say(text(&result, tta.as_ref(), &test.classes))?,
        OutputFormat::Json => say(json(file.path(), &result, tta.as_ref(), &test.classes)?)?,
    }
    Ok(Outcome::Done)
}

/// The original's line, the one with test-time augmentation, the accuracy of each class, the confusion matrix.
fn text(result: &Evaluation, tta: Option<&Evaluation>, classes: &Classes) -> String {
    let mut lines = vec![result.line()];
    lines.extend(tta.map(Evaluation::tta_line));
    // `3`, or `3 Dress`
    let named = |class: usize| match classes.are_digits() {
        true => class.to_string(),
        false => format!("{class} {}", classes.name(class)),
    };
    let shown = shown_classes(&result.confusion, classes.count());
    let width = (0..shown).map(|class| named(class).chars().count()).max().unwrap_or(0).max(5);
    lines.extend([String::new(), format!("{:>width$}  accuracy", "class")]);
    for (class, accuracy) in result.class_accuracy().into_iter().enumerate().take(shown) {
        let images: i64 = result.confusion[class].iter().sum();
        let accuracy = accuracy.map_or("      -".into(), |accuracy| format!("{accuracy:>6.2}%"));
        lines.push(format!("{:>width$}  {accuracy}  {}/{images}", named(class), result.confusion[class][class]));
    }
    lines.extend([String::new(), "label \\ predicted".into()]);
    let row = |cells: &mut dyn Iterator<Item = String>| cells.map(|cell| format!("{cell:>5}")).collect::<String>();
    lines.push(format!("{:width$}{}", "", row(&mut (0..shown).map(|class| class.to_string()))));
    for (class, cells) in result.confusion.iter().enumerate().take(shown) {
        lines.push(format!("{:>width$}{}", named(class), row(&mut cells[..shown].iter().map(ToString::to_string))));
    }
    lines.join("\n")
}

fn json(weights: &Path, result: &Evaluation, tta: Option<&Evaluation>, classes: &Classes) -> Result<String> {
    #[derive(Serialize)]
    struct Line<'a> {
        weights: &'a Path,
        test_loss: f64,
        test_accuracy: f64,
        correct: i64,
        total: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        tta_test_loss: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tta_test_accuracy: Option<f64>,
        /// What the classes are called, unless they are the digits.
        #[serde(skip_serializing_if = "Option::is_none")]
        classes: Option<&'a [String]>,
        class_accuracy: Vec<Option<f64>>,
        confusion: &'a [Vec<i64>],
    }
    let Evaluation { loss, correct, total, confusion, .. } = result;
    let line = Line {
        weights,
        test_loss: *loss,
        test_accuracy: result.accuracy(),
        correct: *correct,
        total: *total,
        tta_test_loss: tta.map(|tta| tta.loss),
        tta_test_accuracy: tta.map(Evaluation::accuracy),
        classes: classes.names(),
        class_accuracy: result.class_accuracy(),
        confusion,
    };
    run_folder::line("evaluation", &line)
}
