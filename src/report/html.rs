//! `report.html`: a run, or several side by side, as one page that opens without a network.

use super::curves::number;
use super::run::RunFiles;
use super::style::colour;
use crate::data::Dataset;
use crate::evaluate::Findings;
use anyhow::{Context, Result};
use minijinja::{Environment, context};
use serde_json::{Map, Value};

/// The page of one run; `pictures` are SVGs under the names of their files.
///
/// # Errors
///
/// None are known.
pub fn report(run: &RunFiles, findings: &Findings, pictures: &[(&str, String)]) -> Result<String> {
    let svg = |name| pictures.iter().find(|picture| picture.0 == name).map_or(String::new(), |it| it.1.clone());
    let measured = run.measured_on();
    let mut figures = Vec::new();
    if let Some((last, (best, epoch))) = run.accuracies() {
        figures.push((format!("{measured} accuracy"), format!("{last:.2} %")));
        figures.push((format!("best, at epoch {epoch}"), format!("{best:.2} %")));
    }
    let tta = run.done.as_ref().and_then(|done| done.get(&format!("tta_{measured}_accuracy"))?.as_f64());
    figures.extend(tta.map(|tta| (format!("{measured} accuracy with TTA"), format!("{tta:.2} %"))));
    let tested: i64 = findings.confusion.iter().flatten().sum();
    figures.push((format!("of {tested} {measured} images wrong"), findings.mistakes.len().to_string()));
    figures.push(("epochs".into(), run.epochs.len().to_string()));
    figures.push(("training and tests".into(), duration(run.seconds())));
    let names = epoch_columns(run);
    let row = |epoch: &Map<String, Value>| -> Vec<String> { names.iter().map(|name| cell(name, epoch)).collect() };
    let status = run.done.as_ref().and_then(|done| done.get("status")?.as_str());
    let subtitle = match status {
        Some("target_reached") => "The run stopped at its target accuracy.".to_string(),
        Some("done") => "A net of 11,392 parameters, trained on libtorch from Rust.".to_string(),
        _ => format!("Not finished: {} of {} epochs so far.", run.epochs.len(), run.config.epochs),
    };
    render(
        "report.html",
        context! {
            title => format!("{}, run {}", dataset(run.config.dataset), run.name()),
            subtitle,
            figures,
            curves => ["loss", "accuracy", "loss_by_step", "lr"].map(svg).to_vec(),
            confusion => svg("confusion"),
            worst => svg("misclassified"),
            training => ["training_images", "augmented_images"].map(svg).to_vec(),
            epoch_columns => names.iter().map(|name| name.replace('_', " ")).collect::<Vec<_>>(),
            epochs => run.epochs.iter().map(row).collect::<Vec<_>>(),
            settings => settings(run)?,
            environment => environment(run)?,
            folder => run.folder.to_string_lossy(),
            program => env!("CARGO_PKG_VERSION"),
        },
    )
}

/// The page that compares runs, whose `curves` are drawn with [`colour`].
///
/// # Errors
///
/// None are known.
pub fn comparison(runs: &[RunFiles], curves: &[String]) -> Result<String> {
    let rows = |cells: &dyn Fn(&RunFiles) -> Vec<String>| -> Vec<minijinja::Value> {
        let row = |(k, run): (usize, &RunFiles)| {
            let plotters::style::RGBColor(red, green, blue) = colour(k, runs.len());
            context! { colour => format!("#{red:02x}{green:02x}{blue:02x}"), name => run.name(), cells => cells(run) }
        };
        runs.iter().enumerate().map(row).collect()
    };
    let figures = |run: &RunFiles| {
        let (last, best, epoch) = match run.accuracies() {
            Some((last, (best, epoch))) => (format!("{last:.2} %"), format!("{best:.2} %"), epoch.to_string()),
            None => ("-".into(), "-".into(), "-".into()),
        };
        let split = run.measured_on().to_string();
        vec![last, best, epoch, split, run.epochs.len().to_string(), duration(run.seconds())]
    };
    let all: Vec<Vec<(String, String)>> = runs.iter().map(settings).collect::<Result<_>>()?;
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in all.iter().flatten() {
        let value =
            |settings: &Vec<(String, String)>| settings.iter().find(|(name, _)| name == key).map(|(_, v)| v.clone());
        if !keys.contains(&key) && all.iter().any(|settings| value(settings) != value(&all[0])) {
            keys.push(key);
        }
    }
    let differing = |run: &RunFiles| {
        let settings = settings(run).unwrap_or_default();
        let value =
            |key: &&String| settings.iter().find(|(name, _)| name == *key).map_or("-".into(), |(_, v)| v.clone());
        keys.iter().map(value).collect()
    };
    let differences = if keys.is_empty() { Vec::new() } else { rows(&differing) };
    render(
        "comparison.html",
        context! {
            title => format!("{} runs side by side", runs.len()),
            subtitle => "Accuracies are of the split that a run was measured on after each epoch.",
            columns => ["accuracy", "best", "at epoch", "measured on", "epochs", "time"],
            runs => rows(&figures),
            curves => curves.to_vec(),
            differing => keys.iter().map(|key| key.to_string()).collect::<Vec<_>>(),
            differences,
            program => env!("CARGO_PKG_VERSION"),
        },
    )
}

fn render(name: &str, values: minijinja::Value) -> Result<String> {
    let mut environment = Environment::new();
    environment.add_template("base.html", include_str!("pages/base.html"))?;
    environment.add_template("report.html", include_str!("pages/report.html"))?;
    environment.add_template("comparison.html", include_str!("pages/comparison.html"))?;
    environment.get_template(name)?.render(values).with_context(|| format!("{name} cannot be made"))
}

/// The columns of the table of epochs that the run has, in the order of `metrics.jsonl`.
fn epoch_columns(run: &RunFiles) -> Vec<String> {
    let left_out = ["event", "correct", "images_per_second"];
    let numbers = run.epochs[0].iter().filter(|(_, value)| value.is_number());
    numbers.map(|(key, _)| key.clone()).filter(|key| !left_out.contains(&key.as_str())).collect()
}

fn cell(name: &str, epoch: &Map<String, Value>) -> String {
    let Some(value) = epoch.get(name).and_then(Value::as_f64) else { return "-".into() };
    match name {
        "lr" => number(value),
        _ if name.ends_with("loss") => format!("{value:.4}"),
        _ if name.ends_with("accuracy") => format!("{value:.2} %"),
        "seconds" => format!("{value:.1}"),
        _ => value.to_string(),
    }
}

/// Every setting and its value, as config.toml has them.
fn settings(run: &RunFiles) -> Result<Vec<(String, String)>> {
    let table = toml::Table::try_from(&run.config)?;
    let value = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    Ok(table.iter().map(|(key, it)| (key.replace('_', "-"), value(it))).collect())
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

/// A dataset's name as its authors write it.
fn dataset(dataset: Dataset) -> &'static str {
    match dataset {
        Dataset::Mnist => "MNIST",
        Dataset::FashionMnist => "Fashion-MNIST",
        Dataset::Kmnist => "KMNIST",
    }
}

/// `12.3 s`, `2 min 3 s`, `1 h 2 min`
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}
