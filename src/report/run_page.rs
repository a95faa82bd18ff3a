//! `report.html`: a run as one page that opens without a network.

use super::chart::number;
use super::grid::{self, Grid};
use super::page::{UNKNOWN, flag, loss, percent, render};
use crate::data::{Classes, Data, Split};
use crate::evaluate::{ClassScore, Findings, shown_classes};
use crate::model::{Architecture, rows, thousands};
use crate::observe::duration;
use crate::run_folder::{RunFiles, Status, best};
use crate::train::EpochRecord;
use anyhow::Result;
use minijinja::context;
use serde_json::{Map, Value};

/// The most misclassified images that are listed.
const LISTED: usize = 1000;

/// The page of a run; `pictures` are SVGs, and `grids` digits, under the names of their files.
pub(super) fn of(
    run: &RunFiles,
    net: &Architecture,
    findings: &Findings,
    data: &Data,
    pictures: &[(&str, String)],
    grids: &[(&str, Grid)],
) -> Result<String> {
    let svg = |name| pictures.iter().find(|picture| picture.0 == name).map_or(String::new(), |it| it.1.clone());
    let grid = |name| grids.iter().find(|grid| grid.0 == name).map(|it| it.1.for_page());
    let names = epoch_columns(run)?;
    let row = |epoch: &EpochRecord| -> Result<Vec<String>> {
        let fields = fields(epoch)?;
        Ok(names.iter().map(|name| cell(name, &fields)).collect())
    };
    let measured = data.measured();
    let (changed, others): (Vec<_>, Vec<_>) =
        run.settings.in_force(run.is_on_gpu()).into_iter().partition(|setting| setting.is_changed);
    let [changed, others] = [changed, others]
        .map(|settings| settings.into_iter().map(|it| (flag(&it.key), it.value)).collect::<Vec<(String, String)>>());
    let values = context! {
        title => format!("{}, run {}", data.name, run.folder.name()),
        subtitle => subtitle(run),
        figures => figures(run, net, findings),
        curves => ["loss", "error", "loss_by_step", "lr"].map(svg).to_vec(),
        confusion => svg("confusion"),
        is_named => !measured.classes.are_digits(),
        classes => classes(findings, &measured.classes),
        worst => grid("misclassified"),
        mistakes => mistakes(findings, measured),
        unlisted => findings.mistakes.len().saturating_sub(LISTED),
        wrong => findings.mistakes.len(),
        numbered => grid::numbered(measured),
        unfamiliar => grid("unfamiliar"),
        training => ["training_images", "augmented_images"].map(grid).into_iter().flatten().collect::<Vec<_>>(),
        layers => layers(net),
        sums => [thousands(net.parameters()), thousands(rows(net).iter().map(|row| row.multiply_adds).sum())],
        epoch_columns => names.iter().map(|name| name.replace('_', " ")).collect::<Vec<_>>(),
        epochs => run.epochs.iter().map(row).collect::<Result<Vec<_>>>()?,
        changed => changed,
        others => others,
        environment => environment(run)?,
        folder => run.folder.path().to_string_lossy(),
    };
    render("report.html", pictures.iter().map(|picture| picture.1.as_str()), values)
}

fn subtitle(run: &RunFiles) -> String {
    match run.done.as_ref().map(|done| done.status) {
        Some(Status::TargetReached) => "The run stopped at its target accuracy.".to_string(),
        Some(Status::StoppedEarly) => {
            format!("The run stopped early: {} epochs without a better one.", run.settings.run.patience)
        }
        Some(Status::Done) => "Trained on libtorch from Rust.".to_string(),
        _ => format!("Not finished: {} of {} epochs so far.", run.epochs.len(), run.settings.training.epochs),
    }
}

/// The figures at the top, and what each is.
fn figures(run: &RunFiles, net: &Architecture, findings: &Findings) -> Vec<(String, String)> {
    let part = run.part();
    let mut figures = vec![(format!("{part} accuracy"), percent(run.kept().measured.accuracy))];
    figures.extend(best(&run.epochs).map(|(best, epoch)| (format!("best, at epoch {epoch}"), percent(best))));
    let tta = run.done.as_ref().and_then(|done| done.tta);
    figures.extend(tta.map(|(_, accuracy)| (format!("{part} accuracy with TTA"), percent(accuracy))));
    let tested: i64 = findings.confusion.iter().flatten().sum();
    figures.push((format!("of {tested} {part} images wrong"), findings.mistakes.len().to_string()));
    figures.push(("parameters".into(), thousands(net.parameters())));
    figures.push(("images per second in training".into(), thousands(images_per_second(run).round() as i64)));
    figures.push(("epochs".into(), run.epochs.len().to_string()));
    figures.push(("training and tests".into(), duration(run.seconds())));
    figures
}

/// The median over the epochs.
fn images_per_second(run: &RunFiles) -> f64 {
    let mut rates: Vec<f64> = run.epochs.iter().map(|epoch| epoch.images_per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A row per class, and the means of the classes that have images: name, images, precision, recall, F1.
fn classes(findings: &Findings, classes: &Classes) -> Vec<[String; 5]> {
    let shown = shown_classes(&findings.confusion, classes.count());
    let scores = &ClassScore::of(&findings.confusion)[..shown];
    let share = |share: Option<f64>| share.map_or(UNKNOWN.into(), |share| percent(100.0 * share));
    let name = |class: usize| match classes.name(class) {
        name if name == class.to_string() => name,
        name => format!("{class} {name}"),
    };
    let row = |(class, score): (usize, &ClassScore)| {
        let ClassScore { images, precision, recall, f1 } = *score;
        [name(class), images.to_string(), share(precision), share(recall), share(f1)]
    };
    let mean = |of: fn(&ClassScore) -> Option<f64>| {
        let known: Vec<f64> = scores.iter().filter(|score| score.images > 0).filter_map(of).collect();
        share((!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64))
    };
    let images: i64 = scores.iter().map(|score| score.images).sum();
    let means = [mean(|score| score.precision), mean(|score| score.recall), mean(|score| score.f1)];
    let [precision, recall, f1] = means;
    let last = ["mean".into(), images.to_string(), precision, recall, f1];
    scores.iter().enumerate().map(row).chain([last]).collect()
}

/// A row per misclassified image, the most confident mistakes first: its number in the file, label, prediction, confidence.
fn mistakes(findings: &Findings, split: &Split) -> Vec<[String; 4]> {
    let name = |class: i64| split.classes.name(class as usize);
    let row = |mistake: &crate::evaluate::Mistake| {
        let place = split.index_in_file(mistake.index).to_string();
        [place, name(mistake.label), name(mistake.predicted), format!("{:.1} %", 100.0 * mistake.confidence)]
    };
    findings.mistakes.iter().take(LISTED).map(row).collect()
}

/// A row per layer: its path and class, output, parameters, receptive field, multiply-adds.
fn layers(net: &Architecture) -> Vec<[String; 5]> {
    let row = |row: crate::model::Row| {
        let (field, products) = (row.field(), thousands(row.multiply_adds));
        [format!("{} {}", row.path, row.class), row.output, thousands(row.parameters), field, products]
    };
    rows(net).into_iter().map(row).collect()
}

/// The columns of the table of epochs, in the order of `metrics.jsonl`: every number of a record that is not left out
/// here. The last epoch has all that the first one has; a run may be resumed by a newer version, which measures more.
fn epoch_columns(run: &RunFiles) -> Result<Vec<String>> {
    let numbers = fields(&run.epochs[run.epochs.len() - 1])?.into_iter().filter(|(_, value)| value.is_number());
    Ok(numbers.map(|(key, _)| key).filter(|key| key != "correct").collect())
}

/// The record as `metrics.jsonl` has it.
fn fields(epoch: &EpochRecord) -> Result<Map<String, Value>> {
    Ok(serde_json::from_value(serde_json::to_value(epoch)?)?)
}

fn cell(name: &str, epoch: &Map<String, Value>) -> String {
    let Some(value) = epoch.get(name).and_then(Value::as_f64) else { return UNKNOWN.into() };
    match name {
        "epoch" => value.to_string(),
        "seconds" => format!("{value:.1}"),
        "images_per_second" => thousands(value.round() as i64),
        _ if name.ends_with("loss") => loss(value),
        _ if name.ends_with("accuracy") => percent(value),
        _ => number(value),
    }
}

/// What the run was made with.
fn environment(run: &RunFiles) -> Result<Vec<(String, String)>> {
    let Some(environment) = &run.environment else {
        return Ok(vec![("environment.json".into(), "is missing".into())]);
    };
    let mut rows = Vec::new();
    if let Value::Object(fields) = serde_json::to_value(environment)? {
        for (key, value) in fields {
            match value {
                Value::Object(files) => rows.extend(
                    files
                        .into_iter()
                        .map(|(file, sum)| (file, format!("SHA-256 {}", sum.as_str().unwrap_or_default()))),
                ),
                Value::String(text) => rows.push((key.replace('_', " "), text)),
                other => rows.push((key.replace('_', " "), other.to_string())),
            }
        }
    }
    Ok(rows)
}
