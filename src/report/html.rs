//! `report.html`: a run, or several side by side, as one page that opens without a network.

use super::chart::number;
use crate::evaluate::Findings;
use crate::observe::duration;
use crate::run_folder::{RunFiles, Status, best};
use crate::settings::text_of;
use crate::train::EpochRecord;
use anyhow::{Context, Result};
use canvas::style::colour;
use minijinja::{Environment, context};
use serde_json::{Map, Value};

/// The page of one run on `dataset`; `pictures` are SVGs under the names of their files.
pub(super) fn report(
    run: &RunFiles,
    findings: &Findings,
    dataset: &str,
    pictures: &[(&str, String)],
) -> Result<String> {
    let svg = |name| pictures.iter().find(|picture| picture.0 == name).map_or(String::new(), |it| it.1.clone());
    let names = epoch_columns(run)?;
    let row = |epoch: &EpochRecord| -> Result<Vec<String>> {
        let fields = fields(epoch)?;
        Ok(names.iter().map(|name| cell(name, &fields)).collect())
    };
    let subtitle = match run.done.as_ref().map(|done| done.status) {
        Some(Status::TargetReached) => "The run stopped at its target accuracy.".to_string(),
        Some(Status::StoppedEarly) => {
            format!("The run stopped early: {} epochs without a better one.", run.settings.run.patience)
        }
        Some(Status::Done) => "Trained on libtorch from Rust.".to_string(),
        _ => format!("Not finished: {} of {} epochs so far.", run.epochs.len(), run.settings.training.epochs),
    };
    render(
        "report.html",
        context! {
            title => format!("{}, run {}", dataset, run.folder.name()),
            subtitle,
            figures => figures(run, findings),
            curves => ["loss", "accuracy", "loss_by_step", "lr"].map(svg).to_vec(),
            confusion => svg("confusion"),
            worst => svg("misclassified"),
            unfamiliar => svg("unfamiliar"),
            training => ["training_images", "augmented_images"].map(svg).to_vec(),
            epoch_columns => names.iter().map(|name| name.replace('_', " ")).collect::<Vec<_>>(),
            epochs => run.epochs.iter().map(row).collect::<Result<Vec<_>>>()?,
            settings => settings(run),
            environment => environment(run)?,
            folder => run.folder.path().to_string_lossy(),
            program => env!("CARGO_PKG_VERSION"),
        },
    )
}

/// The figures at the top of a run's page, and what each is.
fn figures(run: &RunFiles, findings: &Findings) -> Vec<(String, String)> {
    let part = run.part();
    let percent = |accuracy: f64| format!("{accuracy:.2} %");
    let mut figures = vec![(format!("{part} accuracy"), percent(run.kept().measured.accuracy))];
    figures.extend(best(&run.epochs).map(|(best, epoch)| (format!("best, at epoch {epoch}"), percent(best))));
    let tta = run.done.as_ref().and_then(|done| done.tta);
    figures.extend(tta.map(|(_, accuracy)| (format!("{part} accuracy with TTA"), percent(accuracy))));
    let tested: i64 = findings.confusion.iter().flatten().sum();
    figures.push((format!("of {tested} {part} images wrong"), findings.mistakes.len().to_string()));
    figures.push(("epochs".into(), run.epochs.len().to_string()));
    figures.push(("training and tests".into(), duration(run.seconds())));
    figures
}

/// The page that compares runs, whose `curves` are drawn with [`colour`].
pub(super) fn comparison(runs: &[RunFiles], curves: &[String]) -> Result<String> {
    let rows = |cells: &dyn Fn(&RunFiles) -> Vec<String>| -> Vec<minijinja::Value> {
        let row = |(k, run): (usize, &RunFiles)| {
            let plotters::style::RGBColor(red, green, blue) = colour(k, runs.len());
            let colour = format!("#{red:02x}{green:02x}{blue:02x}");
            context! { colour, name => run.folder.name(), cells => cells(run) }
        };
        runs.iter().enumerate().map(row).collect()
    };
    let figures = |run: &RunFiles| {
        let best = best(&run.epochs);
        let accuracy = format!("{:.2} %", run.kept().measured.accuracy);
        let (best, epoch) =
            best.map_or(("-".into(), "-".into()), |(best, at)| (format!("{best:.2} %"), at.to_string()));
        vec![accuracy, best, epoch, run.part().to_string(), run.epochs.len().to_string(), duration(run.seconds())]
    };
    let differing = differing(runs);
    let value = |run: &RunFiles, key: &String| run.settings.table().get(key).map_or("-".into(), text_of);
    let differences = |run: &RunFiles| differing.iter().map(|key| value(run, key)).collect();
    render(
        "comparison.html",
        context! {
            title => format!("{} runs side by side", runs.len()),
            subtitle => "Accuracies are of the split that a run was measured on after each epoch.",
            columns => ["accuracy", "best", "at epoch", "measured on", "epochs", "time"],
            runs => rows(&figures),
            curves => curves.to_vec(),
            differing => differing.iter().map(|key| key.replace('_', "-")).collect::<Vec<_>>(),
            differences => if differing.is_empty() { Vec::new() } else { rows(&differences) },
            program => env!("CARGO_PKG_VERSION"),
        },
    )
}

/// The keys of the settings in which `runs` differ.
fn differing(runs: &[RunFiles]) -> Vec<String> {
    let tables: Vec<toml::Table> = runs.iter().map(|run| run.settings.table()).collect();
    let mut keys: Vec<String> = Vec::new();
    for key in tables.iter().flat_map(toml::Table::keys) {
        if !keys.contains(key) && tables.iter().any(|table| table.get(key) != tables[0].get(key)) {
            keys.push(key.clone());
        }
    }
    keys
}

fn render(name: &str, values: minijinja::Value) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template("base.html", include_str!("pages/base.html"))?;
    environment.add_template("report.html", include_str!("pages/report.html"))?;
    environment.add_template("comparison.html", include_str!("pages/comparison.html"))?;
    environment.get_template(name)?.render(values).with_context(|| format!("{name} cannot be made"))
}

/// The columns of the table of epochs, in the order of `metrics.jsonl`: every number of a record that is not left out
/// here. The last epoch has all that the first one has; a run may be resumed by a newer version, which measures more.
fn epoch_columns(run: &RunFiles) -> Result<Vec<String>> {
    let left_out = ["correct", "images_per_second"];
    let numbers = fields(&run.epochs[run.epochs.len() - 1])?.into_iter().filter(|(_, value)| value.is_number());
    Ok(numbers.map(|(key, _)| key).filter(|key| !left_out.contains(&key.as_str())).collect())
}

/// The record as `metrics.jsonl` has it.
fn fields(epoch: &EpochRecord) -> Result<Map<String, Value>> {
    Ok(serde_json::from_value(serde_json::to_value(epoch)?)?)
}

fn cell(name: &str, epoch: &Map<String, Value>) -> String {
    let Some(value) = epoch.get(name).and_then(Value::as_f64) else { return "-".into() };
    match name {
        "epoch" => value.to_string(),
        "seconds" => format!("{value:.1}"),
        _ if name.ends_with("loss") => format!("{value:.4}"),
        _ if name.ends_with("accuracy") => format!("{value:.2} %"),
        _ => number(value),
    }
}

/// Every setting and its value, as `config.toml` has them.
fn settings(run: &RunFiles) -> Vec<(String, String)> {
    run.settings.table().iter().map(|(key, value)| (key.replace('_', "-"), text_of(value))).collect()
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
