//! How a run ends: by signals, by early stopping, with the weights of the best epoch.

mod common;

use common::*;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tch::Tensor;

/// Five epochs of 32 steps. After the second, a rate that is far too high ruins the net: the best epoch is an early
/// one.
const RUINED: [&str; 17] = [
    "--epochs=5",
    "--validation=256",
    "--schedule=multi-step",
    "--milestones=2",
    "--gamma=20",
    "--lr=0.05",
    "--batch-size=32",
    "--ema-decay=0.5",
    "--threads=1",
    "--kernels=fused",
    "--keep=best",
    "--checkpoint-every=3",
    "--warmup-epochs=0",
    "--report=false",
    "--tensorboard=false",
    "--device=cpu",
    "-q",
];

/// The epoch with the first of the highest numbers of `key`, from 0, and how many epochs there are.
fn best(lines: &[Value], key: &str) -> (usize, usize) {
    let values: Vec<f64> =
        lines.iter().filter(|line| line["event"] == "epoch").map(|l| l[key].as_f64().unwrap()).collect();
    let highest = values.iter().copied().fold(f64::MIN, f64::max);
    (values.iter().position(|&value| value == highest).unwrap(), values.len())
}

fn tensors(file: &Path) -> Vec<(String, Tensor)> {
    let mut tensors = Tensor::read_safetensors(file).unwrap();
    tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
    tensors
}

fn resume(out: &Path, args: &[&str]) -> Program {
    let mut command = tch_mnist(&["train", "-q", "--resume"]);
    command.arg(out).args(args);
    command
}

/// Asserts that the report has the accuracy of `kept`, and as many mistakes as those weights make on the 256 images.
fn assert_report(out: &Path, kept: &Value) {
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    let accuracy = format!("{:.2} %", kept["validation_accuracy"].as_f64().unwrap());
    let wrong = 256 - kept["correct"].as_i64().unwrap();
    let figure = |value: &str, name: &str| report.contains(&format!("<b>{value}</b><span>{name}</span>"));
    assert!(figure(&accuracy, "validation accuracy"), "{accuracy}");
    assert!(figure(&wrong.to_string(), "of 256 validation images wrong"), "{wrong}");
}

#[test]
fn a_run_ends_when_its_patience_does() {
    let (_folder, out) = out();
    // A rate that changes no weight: only BatchNorm's statistics settle, and then no epoch is better.
    let args = ["--validation=256", "--limit-train=512", "--epochs=40", "--lr=1e-30", "--patience=3", "--threads=1"];
    let text = stdout(train(&out, &args).args(["-q", "--log-format=json"]));
    let lines = json_lines(&text);
    let (best, epochs) = best(&lines, "correct");
    assert_eq!(epochs, best + 1 + 3);
    let last = lines.last().unwrap();
    assert_eq!((&last["status"], &last["epochs"]), (&"stopped_early".into(), &epochs.into()));
    // Without --keep best, the weights are the last ones.
    assert_eq!(last["correct"], lines[epochs - 1]["correct"]);
    assert_eq!(last.get("kept_epoch"), None);
    assert!(WEIGHTS.iter().all(|name| out.join(name).exists()));

    // It has ended: a resume trains nothing, until it has more patience or none is asked for.
    let losses = || std::fs::read(out.join("losses.csv")).unwrap();
    let before = losses();
    resume(&out, &[]).assert().success();
    assert!(losses() == before);
    resume(&out, &["--patience=0", &format!("--epochs={}", epochs + 1)]).assert().success();
    let lines = metrics(&out);
    assert_eq!((lines.len(), &lines[epochs + 1]["status"]), (epochs + 2, &"done".into()));
}

#[test]
fn the_best_weights_are_those_of_a_run_that_ended_with_them() {
    let (_folder, whole) = out();
    train(&whole, &RUINED).args(["--report=true"]).assert().success();
    let lines = metrics(&whole);
    let (best, epochs) = best(&lines, "correct");
    assert!(epochs == 5 && best < 4, "no epoch was ruined: {lines:?}");
    let (done, kept) = (&lines[5], &lines[best]);
    assert_eq!(done["kept_epoch"], best);
    for key in ["validation_loss", "validation_accuracy", "correct"] {
        assert_eq!(done[key], kept[key], "{key}");
    }

    let (_other_folder, short) = out();
    train(&short, &RUINED).args([&*format!("--epochs={}", best + 1), "--keep=last"]).assert().success();
    let (kept, last) = (tensors(&whole.join("model.safetensors")), tensors(&short.join("model.safetensors")));
    assert_eq!(kept.len(), 38);
    for ((name, kept), (_, last)) in kept.iter().zip(&last) {
        assert!(kept.equal(last), "{name}");
    }

    assert_report(&whole, done);
}

#[test]
fn a_run_that_goes_on_after_it_stopped_early_keeps_its_best_weights() {
    let (_folder, one) = out();
    train(&one, &RUINED).assert().success();
    let (_other_folder, other) = out();
    train(&other, &RUINED).args(["--patience=1"]).assert().success();
    assert!(metrics(&other).len() < metrics(&one).len());
    resume(&other, &["--patience=0"]).assert().success();
    assert_same_run(&one, &other);
}

#[test]
fn a_run_killed_after_its_best_epoch_keeps_its_best_weights() {
    let (_folder, one) = out();
    train(&one, &RUINED).assert().success();
    let (_other_folder, other) = out();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args(["train", "--data", DATA, "--limit-train", "1280", "--limit-test", "500", "--out"])
        .arg(&other)
        .args(RUINED)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let epochs = || std::fs::read_to_string(other.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    while epochs() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its third epoch");
        sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The report of a run that has not ended is about its best weights too.
    tch_mnist(&["report", other.to_str().unwrap()]).assert().success();
    assert_report(&other, &metrics(&one)[5]);
    resume(&other, &[]).assert().success();
    assert_same_run(&one, &other);
}

#[test]
fn a_plateau_that_was_measured_before_a_resume_counts() {
    let args = ["--validation=256", "--schedule=reduce-on-plateau", "--plateau-patience=1", "--threshold=0.9"];
    let all = [&args[..], &["--warmup-epochs=1", "--threads=1", "-q"]].concat();
    let (_folder, long) = out();
    train(&long, &all).args(["--epochs=6"]).assert().success();
    let (_other_folder, short) = out();
    train(&short, &all).args(["--epochs=3"]).assert().success();
    resume(&short, &["--epochs=6"]).assert().success();
    assert_same_run(&long, &short);
    let lines = metrics(&long);
    let rates: Vec<f64> = lines[..6].iter().map(|line| line["lr"].as_f64().unwrap()).collect();
    assert!(rates[0] < 0.01 && rates[1..4] == [0.01; 3] && rates[5] < 0.01, "{rates:?}");
}

#[test]
fn nothing_chooses_by_the_test_set() {
    for (args, choice) in [
        (&["--patience=2"][..], "--patience 2"),
        (&["--keep=best"], "--keep best"),
        (&["--schedule=reduce-on-plateau"], "--schedule reduce-on-plateau"),
    ] {
        let (sentence, code) = failure(tch_mnist(&["train", "--print-config"]).args(args));
        assert_eq!(code, 2);
        assert!(sentence.starts_with(&format!("error: {choice} needs held-out images")), "{sentence}");
        assert!(sentence.ends_with("add --validation N, such as --validation 5000"), "{sentence}");
        tch_mnist(&["train", "--print-config", "--validation=5000"]).args(args).assert().success();
    }
}

#[test]
fn a_wrong_value_gets_one_sentence() {
    for (args, sentence) in [
        (&["--milestones=6,3"][..], "--milestones takes whole numbers from 1 up that increase, such as 6,12, not 6,3"),
        (
            &["--warmup-epochs=3", "--epochs=3"],
            "--warmup-epochs 3 leaves no epoch for the schedule: give fewer than --epochs 3",
        ),
        (&["--warmup-epochs=0.5"], "--warmup-epochs takes a whole number of epochs from 0 to 100, not 0.5"),
        (&["--start-factor=0"], "--start-factor takes a share above 0 to 1, not 0"),
        (&["--end-factor=1.5"], "--end-factor takes a share from 0 to 1, not 1.5"),
        (&["--factor=1"], "--factor takes a factor above 0 and below 1, not 1"),
        (&["--t-0=0"], "--t-0 takes a whole number of epochs from 1 up, not 0"),
        (&["--monitor=recall"], "--monitor takes accuracy or loss, not recall"),
    ] {
        let (got, code) = failure(tch_mnist(&["train", "--print-config"]).args(args));
        assert_eq!((got, code), (format!("error: {sentence}"), 2));
    }
}

#[test]
fn what_is_kept_cannot_change_in_a_resume() {
    let (_folder, run) = out();
    train(&run, &["--validation=256", "--epochs=1", "-q"]).assert().success();
    for (flag, was) in [("--keep=best", "\"last\""), ("--monitor=loss", "\"accuracy\""), ("--warmup-epochs=1", "0")] {
        let (sentence, code) = failure(&mut resume(&run, &["--epochs=2", flag]));
        let name = flag.split('=').next().unwrap();
        let expected = format!("{name} cannot change when a run is resumed: it was {was}");
        assert_eq!((sentence.contains(&expected), code), (true, 2), "{sentence}");
    }
}

/// A run of one epoch in the background, whose steps take long. `signals` is a flag of `env` about signals that whoever
/// started the tests may have turned off.
fn slow_steps(out: &Path, signals: &str) -> Child {
    Command::new("env")
        .arg(signals)
        .arg(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args("train --device cpu --kernels torch --threads 1 --limit-train 4096 --batch-size 2048".split(' '))
        .args(["--limit-test", "100", "--epochs", "1", "-q", "--log-format", "json", "--data", DATA, "--out"])
        .arg(out)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the run in `out` has logged `text`.
fn wait_for_log(child: &mut Child, out: &Path, text: &str) {
    while !std::fs::read_to_string(out.join("log.txt")).is_ok_and(|log| log.contains(text)) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it logged {text:?}");
        sleep(Duration::from_millis(2));
    }
}

fn signal(child: &Child, name: &str) {
    // A process that has ended meanwhile gets none.
    Command::new("kill").args(["-s", name, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// The exit code of a run, and the status in its last line.
fn ending(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
    (output.status.code(), lines.last().unwrap()["status"].as_str().unwrap().into())
}

#[test]
fn the_first_signal_says_how_a_run_ends() {
    for (first, second, code, status) in [
        ("INT", "USR1", 130, "interrupted"),
        ("TERM", "USR1", 143, "interrupted"),
        ("USR1", "TERM", 0, "pruned"),
        ("HUP", "TERM", 129, "interrupted"),
        ("USR2", "USR1", 140, "interrupted"),
        ("XCPU", "USR1", 152, "interrupted"),
    ] {
        let (_folder, out) = out();
        let mut child = slow_steps(&out, "--default-signal=HUP");
        wait_for_log(&mut child, &out, "images, run folder");
        // Both come within one step.
        signal(&child, first);
        sleep(Duration::from_millis(100));
        signal(&child, second);
        assert_eq!(ending(child), (Some(code), status.into()), "{first}, then {second}");
        assert!(out.join("checkpoint.safetensors").exists() && !out.join("model.pt").exists());
    }
}

#[test]
fn signals_that_come_at_once_never_end_as_pruned() {
    let (_folder, out) = out();
    let mut child = slow_steps(&out, "--default-signal=HUP");
    wait_for_log(&mut child, &out, "images, run folder");
    for name in ["STOP", "USR1", "TERM", "CONT"] {
        signal(&child, name);
    }
    assert_eq!(ending(child), (Some(143), "interrupted".into()));
}

#[test]
fn sigusr1_before_training_begins_prunes_too() {
    let (_folder, out) = out();
    let mut child = slow_steps(&out, "--default-signal=HUP");
    wait_for_log(&mut child, &out, "");
    signal(&child, "USR1");
    assert_eq!(ending(child), (Some(0), "pruned".into()));
    assert!(!out.join("model.pt").exists());
}

#[test]
fn nohup_keeps_a_run_going() {
    let (_folder, out) = out();
    let mut child = slow_steps(&out, "--ignore-signal=HUP");
    wait_for_log(&mut child, &out, "images, run folder");
    signal(&child, "HUP");
    assert_eq!(ending(child), (Some(0), "done".into()));
}
