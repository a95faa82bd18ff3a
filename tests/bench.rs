//! `tch-mnist bench`: rounds of real training, on their own and on request.

mod common;

use common::*;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use tch_mnist::libtorch::fused::INSTRUCTION_SETS;

/// The flags of a benchmark of a second or two.
const SLICE: [&str; 9] = ["bench", "--data", DATA, "--device", "cpu", "--batch-size", "16", "--limit-train", "400"];

#[test]
fn every_measure_prints_its_rounds() {
    for (what, unit) in
        [("steps", " ms per step ("), ("epoch", " s per epoch with its test ("), ("evaluate", " ms per evaluation (")]
    {
        let args = ["--limit-test", "100", "--rounds", "3", "--steps", "4", "--what", what];
        let text = stdout(tch_mnist(&SLICE).args(args));
        assert!(text.contains(unit) && text.contains(" in 3 rounds)"), "{what}: {text}");

        let lines = json_lines(&stdout(tch_mnist(&SLICE).args(args).args(["--log-format", "json"])));
        assert_eq!(lines[0]["event"], "ready", "{what}");
        assert!(INSTRUCTION_SETS.map(Value::from).contains(&lines[0]["instruction_set"]), "{what}: {}", lines[0]);
        assert_eq!(lines.len(), 4, "{what}");
        for round in &lines[1..] {
            assert_eq!((&round["event"], &round["what"]), (&"round".into(), &what.into()));
            assert!(round["seconds"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn a_round_waits_for_its_request() {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args(SLICE)
        .args(["-q", "--on-request", "--log-format", "json", "--steps", "5", "--rounds", "9"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("ready"));
    // Two rounds fit into an epoch of 25 steps, the first 12 warm up: the third is in the next one.
    for _ in 0..3 {
        writeln!(stdin).unwrap();
        assert!(lines.next().unwrap().contains("round"));
    }
    // Closing stdin ends it.
    drop(stdin);
    assert_eq!(lines.next(), None);
    assert!(child.wait().unwrap().success());
}

#[test]
fn rounds_that_fit_into_no_epoch_are_refused() {
    for steps in ["14", "9223372036854775807"] {
        let (sentence, code) = failure(tch_mnist(&SLICE).args(["--steps", steps]));
        let expected =
            format!("error: --steps takes at most 13, not {steps}: an epoch has 25 steps, and the first 12 warm up");
        assert_eq!((sentence, code), (expected, 2));
    }
    let (sentence, code) = failure(tch_mnist(&SLICE).args(["--limit-train", "160", "--steps", "3"]));
    let expected = "error: --limit-train 160 is too small: 12 warm-up and 3 measured steps need 240 images";
    assert_eq!((sentence.as_str(), code), (expected, 2));
    assert_eq!(failure(tch_mnist(&SLICE).args(["--rounds", "0"])).1, 2);
}

/// `bench` of one short round of steps, as JSON lines.
fn one_round(args: &[&str]) -> assert_cmd::Command {
    // The instruction set stays chosen in a process.
    let mut command = tch_mnist(&SLICE);
    command.args(["--rounds", "1", "--steps", "2", "--log-format", "json"]).args(args);
    command.process()
}

#[test]
fn the_instruction_set_that_was_asked_for_is_the_one_that_computes() {
    let doctor = json_lines(&stdout(&mut tch_mnist(&["doctor", "--data", DATA, "--log-format", "json"])));
    let available = doctor[0]["cpu"]["instruction_sets"].as_array().unwrap();
    assert!(available.contains(&"portable".into()));
    for name in INSTRUCTION_SETS {
        let mut command = one_round(&["--instruction-set", name]);
        if available.contains(&name.into()) {
            assert_eq!(json_lines(&stdout(&mut command))[0]["instruction_set"], name);
        } else {
            let (sentence, code) = failure(&mut command);
            assert!(sentence.starts_with(&format!("error: this processor does not have {name}: ")), "{sentence}");
            assert_eq!(code, 1);
        }
    }
    // The best one if none was asked for, and none with libtorch's kernels.
    assert_eq!(json_lines(&stdout(&mut one_round(&[])))[0]["instruction_set"], available[0]);
    assert_eq!(json_lines(&stdout(&mut one_round(&["--kernels", "torch"])))[0]["instruction_set"], Value::Null);
}

#[test]
fn an_instruction_set_is_for_the_fused_kernels_on_a_cpu() {
    for other in [["--kernels", "torch"], ["--device", "cuda"]] {
        let (sentence, code) = failure(one_round(&["--instruction-set", "portable"]).args(other));
        assert_eq!(
            (sentence.as_str(), code),
            ("error: --instruction-set is for the fused kernels on a CPU: leave it out, or --kernels and --device", 2)
        );
    }
    assert_eq!(
        failure(&mut one_round(&["--instruction-set", "mmx"])),
        ("error: --instruction-set takes avx512, x86_64_v3 or portable, not mmx".into(), 2)
    );
}

#[test]
fn a_profile_says_what_a_round_spent_its_time_on() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    for (what, kernels, name, count) in [
        ("steps", "fused", "fused_block_backward 16x26x26 to 32x24x24", 2),
        ("steps", "torch", "aten::convolution_backward", 16),
        ("evaluate", "fused", "fused_evaluate", 1),
    ] {
        let args = ["--what", what, "--kernels", kernels, "--limit-test", "16", "--profile", trace.to_str().unwrap()];
        let lines = json_lines(&stdout(one_round(&[]).args(args)));
        let events: Vec<&Value> = lines.iter().map(|line| &line["event"]).collect();
        assert_eq!(events, ["ready", "round", "profile"], "{what}");

        let profile = &lines[2];
        let operations = profile["operations"].as_array().unwrap();
        let operation = operations.iter().find(|operation| operation["name"] == name).unwrap();
        assert_eq!(operation["calls"], count, "{name}");
        let seconds = |value: &Value| value["seconds"].as_f64().unwrap();
        let busy: f64 = operations.iter().map(seconds).sum();
        let whole = busy + profile["idle_seconds"].as_f64().unwrap();
        assert!((whole - seconds(profile)).abs() < 1e-9, "{profile}");

        let trace: Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
        let recorded = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["name"] == name);
        assert_eq!(recorded.count(), count as usize, "{name}");
    }
}

#[test]
fn a_profile_for_people_is_a_table_under_the_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let command = &mut tch_mnist(&SLICE);
    let text = stdout(command.args(["--rounds", "1", "--steps", "2", "--profile", trace.to_str().unwrap()]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(" ms per step ("), "{text}");
    assert!(lines[1].starts_with("Recorded: ") && lines[1].ends_with(" ms per step, with the profiler on"), "{text}");
    assert!(lines[3..].iter().any(|line| line.ends_with("  1.0  fused_block 1x28x28 to 16x26x26")), "{text}");
    assert_eq!(lines.last().unwrap(), &format!("Wrote {}: open it in Perfetto or chrome://tracing", trace.display()));
}

#[test]
fn a_profile_that_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("missing/trace.json");
    let (sentence, code) = failure(one_round(&[]).arg("--profile").arg(&trace));
    let (trace, folder) = (trace.display(), trace.parent().unwrap().display());
    let expected =
        format!("error: --profile was refused: {trace} cannot be written: the folder {folder} does not exist");
    assert_eq!((sentence, code), (expected, 1));
}
