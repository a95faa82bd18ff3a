//! What the tests share: the built program, the real data, a folder that goes away.
#![allow(dead_code)] // each test file uses its own part

use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folder with the datasets.
pub const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
/// A Python with the libtorch that the program is linked against.
pub const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python");

/// The weights that a run writes.
pub const WEIGHTS: [&str; 5] = ["model.onnx", "model.pt", "model.pt2", "model.pth", "model.safetensors"];

/// The program, as a user starts it in the repository's folder.
pub fn tch_mnist(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("tch-mnist").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUST_LOG").args(args);
    command
}

/// `train` on a slice that takes seconds, into `out`, without the report and TensorBoard unless `args` ask for them.
pub fn train(out: &Path, args: &[&str]) -> Command {
    let mut command = tch_mnist(&["train", "--data", DATA, "--device", "cpu", "--out"]);
    command.arg(out).args(["--limit-train", "1280", "--limit-test", "500", "--epochs", "2"]);
    command.args(["--report=false", "--tensorboard=false"]).args(args);
    command
}

/// What a command printed on stdout, after it succeeded.
pub fn stdout(command: &mut Command) -> String {
    let output = command.assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

/// The one sentence with which a command failed, and its exit code.
pub fn failure(command: &mut Command) -> (String, i32) {
    let output = command.timeout(std::time::Duration::from_secs(60)).assert().failure().get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> =
        stderr.lines().filter(|line| !line.starts_with(" INFO ") && !line.starts_with(" WARN ")).collect();
    assert_eq!(errors.len(), 1, "one line was expected:\n{stderr}");
    (errors[0].to_string(), output.status.code().expect("no signal"))
}

/// The lines of a JSON Lines text.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// `metrics.jsonl` of a run, without what differs from one run to the next: times and the folder.
pub fn metrics(out: &Path) -> Vec<Value> {
    let mut lines = json_lines(&std::fs::read_to_string(out.join("metrics.jsonl")).unwrap());
    for line in &mut lines {
        let fields = line.as_object_mut().unwrap();
        for key in ["seconds", "preparation_seconds", "images_per_second", "out"] {
            fields.remove(key);
        }
    }
    lines
}

/// Asserts that two runs left the same weights, losses and metrics.
pub fn assert_same_run(one: &Path, other: &Path) {
    for name in WEIGHTS.into_iter().chain(["losses.csv", "config.toml"]) {
        let read = |out: &Path| std::fs::read(out.join(name)).unwrap();
        assert!(read(one) == read(other), "{name} differs in {} and {}", one.display(), other.display());
    }
    assert_eq!(metrics(one), metrics(other));
}

/// The names of a folder's files, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder for `out` that does not exist yet, in a temporary one that goes away.
pub fn out() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    (folder, out)
}
