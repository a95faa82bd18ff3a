//! `tch-mnist lr-find`: the range test on real steps, what it prints and writes, and that it leaves everything else
//! alone.

mod common;

use common::*;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A range test of a second.
fn lr_find(args: &[&str]) -> Program {
    let mut command = tch_mnist(&["lr-find", "-q", "--data", DATA, "--device", "cpu", "--threads", "1"]);
    command.args(["--limit-train", "640", "--batch-size", "16"]).args(args);
    command
}

/// The JSON object that a range test prints.
fn found(args: &[&str]) -> Value {
    let mut lines = json_lines(&stdout(lr_find(&["--log-format", "json"]).args(args)));
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap_or(f64::NAN)).collect()
}

/// A folder with the training set alone.
fn training_files(folder: &Path) -> &Path {
    for name in names(&Path::new(DATA).join("mnist")).iter().filter(|name| name.starts_with("train-")) {
        fs::copy(Path::new(DATA).join("mnist").join(name), folder.join(name)).unwrap();
    }
    folder
}

#[test]
fn it_writes_what_it_found_and_nothing_else_and_finds_the_same_again() {
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = training_files(data.path());
    let files = names(data);
    let test = |args: &[&str]| {
        let mut command = lr_find(&["--data", data.to_str().unwrap(), "--log-format", "json", "--rotate", "5"]);
        stdout(&mut command.args(["--steps", "120", "--max", "5"]).args(args).current_dir(folder.path()))
    };
    let first = test(&[]);
    assert_eq!(names(folder.path()), Vec::<String>::new());
    assert_eq!(test(&["--out", "found"]), first);
    assert_ne!(test(&["--seed", "2"]), first);
    assert_eq!((names(folder.path()), names(data)), (vec!["found".to_string()], files));

    let found = folder.path().join("found");
    assert_eq!(names(&found), ["lr_find.json", "lr_find.png", "lr_find.svg"]);
    assert_eq!(fs::read_to_string(found.join("lr_find.json")).unwrap(), first);
    let image = image::open(found.join("lr_find.png")).unwrap().into_rgb8();
    let ink = image.pixels().filter(|pixel| pixel.0[0] < 128).count();
    assert!(image.width() >= 900 && ink > 1000, "{} wide, {ink} dark pixels", image.width());
    let json: Value = serde_json::from_str(&first).unwrap();
    let svg = fs::read_to_string(found.join("lr_find.svg")).unwrap();
    assert!(svg.contains(&format!("suggested: {}", json["suggestion"])) && svg.contains("learning rate"));
}

#[test]
fn the_suggestion_lies_before_the_minimum_of_a_curve_that_falls_and_rises() {
    let json = found(&["--steps", "150", "--lr", "0.3", "--schedule", "one-cycle"]);
    let (rates, losses, smoothed) = (numbers(&json["rates"]), numbers(&json["losses"]), numbers(&json["smoothed"]));
    assert_eq!((rates.len(), smoothed.len()), (losses.len(), losses.len()));
    assert_eq!((rates[0], json["min"].as_f64(), json["max"].as_f64()), (1e-5, Some(1e-5), Some(10.0)));
    let factor = 1e6f64.powf(1.0 / 149.0);
    assert!(rates.windows(2).all(|pair| (pair[1] / pair[0] / factor - 1.0).abs() < 1e-9));

    // Ten classes and new weights: the loss begins near ln 10.
    assert!((losses[0] - 10f64.ln()).abs() < 0.5 && (smoothed[0] - losses[0]).abs() < 1e-6, "{}", losses[0]);
    let lowest = (0..smoothed.len()).min_by(|&a, &b| smoothed[a].total_cmp(&smoothed[b])).unwrap();
    assert!(smoothed[lowest] < 0.8 * smoothed[0]);
    let suggestion = json["suggestion"].as_f64().unwrap();
    assert!(1e-5 < suggestion && suggestion < rates[lowest], "{suggestion}, and the minimum is at {}", rates[lowest]);
    assert!(["loss_rose", "loss_not_finite", "all_steps"].contains(&json["ended"].as_str().unwrap()));
    assert_eq!((&json["settings"]["lr"], &json["settings"]["batch_size"]), (&0.3.into(), &16.into()));
    assert!(json.get("reason").is_none());

    let text = stdout(&mut lr_find(&["--steps", "150"]));
    assert!(text.contains(&format!("Suggested learning rate: {suggestion}, where")), "{text}");
    assert!(text.lines().filter(|line| line.contains('⠄')).count() > 3 && text.contains("1e-5  "), "{text}");
}

#[test]
fn its_steps_are_those_of_a_run_whose_rate_rises_in_the_same_way() {
    // A batch that is the whole training set, and no dropout: the order of the images changes nothing but the rounding.
    let settings =
        ["--limit-train", "64", "--batch-size", "64", "--dropout", "0", "--nesterov", "--label-smoothing", "0.1"];
    let (_folder, out) = out();
    let schedule = ["--lr", "0.01", "--step-size", "1", "--gamma", "2", "--epochs", "6", "--limit-test", "64", "-q"];
    train(&out, &settings).args(schedule).assert().success();
    let csv = fs::read_to_string(out.join("losses.csv")).unwrap();
    let last = |line: &str| line.rsplit(',').next().unwrap().parse::<f64>().unwrap();
    let of_run: Vec<f64> = csv.lines().skip(1).map(last).collect();

    let json = found(&[&settings[..], &["--min", "0.01", "--max", "0.32", "--steps", "6"]].concat());
    let losses = numbers(&json["losses"]);
    assert_eq!((losses.len(), of_run.len()), (6, 6));
    assert!(losses[5] < losses[0]);
    for (of_test, of_run) in losses.iter().zip(of_run) {
        assert!((of_test / of_run - 1.0).abs() < 1e-3, "{of_test}, but a run has {of_run}");
    }
}

#[test]
fn it_takes_a_config_and_begins_at_weights_that_it_only_reads() {
    let (_folder, out) = out();
    train(&out, &["-q", "--dropout", "0.02", "--lr", "0.05"]).assert().success();
    let read = |name: &str| fs::read(out.join(name)).unwrap();
    let (files, weights) = (names(&out), read("model.pth"));
    let (config, init) = (out.join("config.toml"), out.join("model.pth"));
    let json = found(&["--config", config.to_str().unwrap(), "--init", init.to_str().unwrap(), "--steps", "20"]);
    assert_eq!(json["settings"]["dropout"], 0.02);
    // The weights were trained for two epochs; new ones have a loss near ln 10, which is 2.3.
    assert!(json["losses"][0].as_f64().unwrap() < 2.0, "{}", json["losses"][0]);
    assert!(names(&out) == files && read("model.pth") == weights);
}

#[test]
fn a_hopeless_range_is_no_error_and_says_so_in_a_sentence() {
    for (args, reason) in [
        (&["--min", "1e-12", "--max", "1e-11", "--steps", "30"][..], "the loss hardly changed: give a higher --max"),
        (&["--min", "0.001", "--max", "0.1", "--steps", "6"], "too few steps were made: give more --steps"),
        (&["--min", "1e3", "--max", "1e30", "--steps", "30"], "give "),
    ] {
        let json = found(args);
        assert_eq!(json["suggestion"], Value::Null, "{args:?}");
        assert!(json["reason"].as_str().unwrap().contains(reason), "{args:?}: {}", json["reason"]);
    }
    let few = stdout(&mut lr_find(&["--min", "1", "--max", "10", "--steps", "20"]));
    assert!(
        few.ends_with("No learning rate can be suggested: 20 steps are too few: give --steps 100 or more\n"),
        "{few}"
    );
    assert!(!few.contains("still fell"), "{few}");
    let text = stdout(&mut lr_find(&["--min", "0.001", "--max", "0.1", "--steps", "6"]));
    assert!(text.lines().last().unwrap().starts_with("No learning rate can be suggested: too few steps"), "{text}");
}

#[test]
fn a_loss_that_is_not_finite_is_the_end_of_the_test_and_no_error() {
    let (_folder, out) = out();
    let args = ["--max", "1e38", "--steps", "100", "--out", out.to_str().unwrap()];
    let json = found(&args);
    assert_ne!(json["ended"], "all_steps");
    assert!(json["losses"].as_array().unwrap().len() < 100);
    assert!(out.join("lr_find.png").exists());
}

#[test]
fn mistakes_get_one_sentence() {
    for (args, reason, expected) in [
        (&["--min", "0.1", "--max", "0.01"][..], "--min takes a rate below --max, which is 0.01, not 0.1", 2),
        (&["--min", "0.1", "--max", "0.1"], "--min takes a rate below --max, which is 0.1, not 0.1", 2),
        (&["--min", "0"], "--min takes a number above 0, not 0", 2),
        (&["--max", "inf"], "--max takes a number above 0, not inf", 2),
        (&["--steps", "1"], "--steps takes a whole number from 2 to 100000, not 1", 2),
        (&["--resume", "run"], "unexpected argument '--resume'", 2),
        (&["--init", "nowhere.pt"], "--init was refused: nowhere.pt", 1),
        (&["--config", "nowhere.toml"], "--config nowhere.toml cannot be read", 1),
        (&["--out", "/proc/found", "--steps", "6"], "--out was refused: /proc/found", 1),
    ] {
        let (sentence, code) = failure(&mut lr_find(args));
        assert!(sentence.starts_with("error: ") && sentence.contains(reason), "{args:?}: {sentence}");
        assert_eq!(code, expected, "{args:?}");
    }
}

#[test]
fn ctrl_c_ends_it_with_130_and_without_a_file() {
    let (_folder, out) = out();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args(["lr-find", "--data", DATA, "--device", "cpu", "--limit-train", "640", "--steps", "100000"])
        .args(["--min", "1e-12", "--max", "1e-11", "--out"])
        .arg(&out)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("640 training images, 100000 steps")));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest.len() == 1 && rest[0].contains("interrupted after "), "{rest:?}");
    assert!(!out.exists());
}
