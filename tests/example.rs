//! `examples/minimal.rs` trains as the program does.

mod common;

use common::*;
use std::process::Command;

#[test]
fn the_example_prints_the_lines_of_the_program() {
    let settings = ["--epochs", "2", "--limit-train", "6400", "--limit-test", "1000"];
    // cargo builds examples beside the folder of the tests.
    let tests = std::env::current_exe().unwrap();
    let example = tests.ancestors().nth(2).unwrap().join("examples/minimal");
    let output = Command::new(example).args(settings).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();

    let (_folder, out) = out();
    let device = if tch::Cuda::is_available() { "cuda" } else { "cpu" };
    let program = stdout(tch_mnist(&["train", "-q", "--device", device, "--out"]).arg(&out).args(settings));
    assert_eq!(printed, program);

    let last = printed.trim_end().lines().last().unwrap();
    let (_, accuracy) = last.split_once('(').unwrap();
    assert!(accuracy.trim_end_matches("%)").parse::<f64>().unwrap() > 80.0, "{last}");
}
