//! `tch-mnist bench`: rounds of real training, on their own and on request.

mod common;

use common::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

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
    let (sentence, code) = failure(tch_mnist(&SLICE).args(["--steps", "14"]));
    assert_eq!(
        (sentence.as_str(), code),
        ("error: --steps takes at most 13, not 14: an epoch has 25 steps, and the first 12 warm up", 2)
    );
    assert_eq!(failure(tch_mnist(&SLICE).args(["--rounds", "0"])).1, 2);
}
