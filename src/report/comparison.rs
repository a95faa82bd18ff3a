//! `comparison.html`: several runs side by side.

use super::curves::{self, Style};
use super::page::{UNKNOWN, flag, loss, percent, render};
use super::{chart::Line, dark};
use crate::data::Part;
use crate::files::folder_of;
use crate::model::thousands;
use crate::observe::duration;
use crate::run_folder::{RunFiles, best};
use crate::settings::InForce;
use crate::train::Measured;
use anyhow::Result;
use minijinja::{Value, context};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// The page for `path`, from whose folder its links go to the runs.
pub(super) fn of(runs: &[RunFiles], path: &Path) -> Result<String> {
    let styles = curves::styles(&runs.iter().map(curves::shown).collect::<Vec<_>>());
    let svgs = curves::of_runs(runs, &styles)?;
    let settings: Vec<Vec<InForce>> = runs.iter().map(|run| run.settings.in_force(run.is_on_gpu())).collect();
    let differing = differing(&settings);
    let value = |settings: &[InForce], key: &str| {
        settings.iter().find(|setting| setting.key == *key).map_or(UNKNOWN.into(), |setting| setting.value.clone())
    };
    let row = |k: usize| {
        let style = &styles[k];
        context! {
            name => runs[k].folder.name(),
            link => link(&runs[k], path),
            swatch => swatch(style),
            same_as => style.same_as.map(|first| runs[first].folder.name()),
            cells => cells(&runs[k]),
            differences => differing.iter().map(|key| value(&settings[k], key)).collect::<Vec<_>>(),
        }
    };
    let rows: Vec<Value> = (0..runs.len()).map(row).collect();
    let swatches: Vec<String> = styles.iter().map(swatch).collect();
    let values = context! {
        title => format!("{} runs side by side", runs.len()),
        warning => warning(runs),
        columns => [
            "measured on", "accuracy", "best", "at epoch", "loss", "training loss", "parameters", "epochs", "time",
        ],
        runs => rows,
        curves => &svgs,
        differing => differing.iter().map(|key| flag(key)).collect::<Vec<_>>(),
    };
    render("comparison.html", svgs.iter().chain(&swatches).map(String::as_str), values)
}

/// The cells of a run in the table of runs.
fn cells(run: &RunFiles) -> Vec<String> {
    let kept = run.kept();
    let (best, at) =
        best(&run.epochs).map_or((UNKNOWN.into(), UNKNOWN.into()), |(best, epoch)| (percent(best), epoch.to_string()));
    // Older runs do not state their parameters.
    let parameters = run.done.as_ref().map(|done| done.parameters).filter(|&count| count > 0);
    vec![
        measured_on(&kept.measured),
        percent(kept.measured.accuracy),
        best,
        at,
        loss(kept.measured.loss),
        loss(kept.train_loss),
        parameters.map_or(UNKNOWN.into(), thousands),
        run.epochs.len().to_string(),
        duration(run.seconds()),
    ]
}

fn measured_on(measured: &Measured) -> String {
    images(measured.part, measured.accuracy, measured.correct)
}

/// `10,000 test images`, `5,000 held-out images`: of so many correct ones, and their share in percent.
fn images(part: Part, accuracy: f64, correct: i64) -> String {
    let images = match part {
        Part::Validation => "held-out images",
        Part::Train | Part::Test => "test images",
    };
    let count = (100.0 * correct as f64 / accuracy).round();
    if count.is_finite() { format!("{} {images}", thousands(count as i64)) } else { images.to_string() }
}

/// What keeps the runs from being compared by their accuracies; empty if nothing does.
fn warning(runs: &[RunFiles]) -> &'static str {
    let differ = |of: &dyn Fn(&RunFiles) -> String| runs.iter().map(of).collect::<BTreeSet<_>>().len() > 1;
    if differ(&|run| run.settings.data.source.dataset.to_string()) {
        "The runs are of different datasets, so their accuracies do not compare."
    } else if differ(&|run| measured_on(&run.kept().measured)) {
        "The runs were measured on different images, so small differences in accuracy mean nothing."
    } else {
        ""
    }
}

/// The line of a run as in the charts.
fn swatch(style: &Style) -> String {
    let dashes = style
        .line
        .dash()
        .map_or(String::new(), |(dash, gap)| format!(" stroke-dasharray=\"{} {}\"", dash / 4, gap / 4));
    let (colour, is_dashed) = (dark::code(style.colour), style.line != Line::Solid);
    format!(
        "<svg class=\"swatch\" width=\"34\" height=\"8\" role=\"img\" aria-label=\"{}\"><line x1=\"0\" y1=\"4\" x2=\"34\" y2=\"4\" \
         stroke=\"{colour}\" stroke-width=\"5\"{dashes}/></svg>",
        if is_dashed { "dashed line" } else { "line" }
    )
}

/// The keys of the settings that shape the results and in which runs differ.
fn differing(settings: &[Vec<InForce>]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    let value = |run: &[InForce], key: &str| run.iter().find(|it| it.key == key).map(|it| it.value.clone());
    for key in settings.iter().flatten().filter(|setting| setting.shapes_the_result).map(|setting| &setting.key) {
        let differs = settings.iter().any(|run| value(run, key) != value(&settings[0], key));
        if differs && !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

/// The address of a run's report, if it has one, on the page at `page`.
fn link(run: &RunFiles, page: &Path) -> Option<String> {
    let report = run.folder.report();
    if !report.exists() {
        return None;
    }
    let (from, to) = (std::path::absolute(folder_of(page)).ok()?, std::path::absolute(&report).ok()?);
    Some(address(&relative(&from, &to)))
}

/// The way from a folder to a file.
fn relative(folder: &Path, file: &Path) -> PathBuf {
    let (from, to): (Vec<Component>, Vec<Component>) = (folder.components().collect(), file.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir);
    up.chain(to[shared..].iter().copied()).collect()
}

/// A relative path as an address: whatever is not plain is written as its bytes.
fn address(path: &Path) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.to_string_lossy().bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_from_the_folder_of_the_page_to_the_report() {
        let way = |folder: &str, file: &str| address(&relative(Path::new(folder), Path::new(file)));
        assert_eq!(way("/runs", "/runs/a/report.html"), "a/report.html");
        assert_eq!(way("/pages/new", "/runs/slow & steady/report.html"), "../../runs/slow%20%26%20steady/report.html");
        assert_eq!(way("/runs/a", "/runs/a/report.html"), "report.html");
    }

    #[test]
    fn a_run_is_measured_on_test_images_or_on_held_out_ones() {
        assert_eq!(images(Part::Test, 97.96, 9796), "10,000 test images");
        assert_eq!(images(Part::Validation, 100.0 * 2.0 / 3.0, 200), "300 held-out images");
        assert_eq!(images(Part::Test, 0.0, 0), "test images");
    }

    #[test]
    fn settings_that_are_not_in_force_in_one_run_differ() {
        let settings = |flags: &[&str]| crate::settings::Settings::from_flags(flags).unwrap().in_force(false);
        let sgd = settings(&["--lr=0.02"]);
        assert_eq!(differing(&[sgd.clone(), settings(&["--lr=0.02"])]), Vec::<String>::new());
        let keys = differing(&[sgd, settings(&["--lr=0.02", "--optimizer=adam", "--report=false"])]);
        for key in ["optimizer", "momentum", "betas"] {
            assert!(keys.contains(&key.to_string()), "{key} in {keys:?}");
        }
        for key in ["lr", "t_0", "report"] {
            assert!(!keys.contains(&key.to_string()), "{key} in {keys:?}");
        }
    }
}
