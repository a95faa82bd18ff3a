//! `--teacher`: a run learns from nets that were trained before.

mod common;

use common::*;
use std::fs;
use std::path::{Path, PathBuf};

/// What a student is trained with, beside its teachers.
const STUDENT: [&str; 6] = ["-q", "--threads=1", "--rotate=10", "--ema-decay=0.9", "--temperature=3", "--seed=2"];

/// Trains a net that can teach, and returns its weights.
fn teacher(folder: &Path) -> PathBuf {
    train(&folder.join("teacher"), &["-q"]).assert().success();
    folder.join("teacher/model.safetensors")
}

#[test]
fn a_run_that_was_interrupted_goes_on_without_its_teachers() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    let file = teacher(folder.path());
    let taught = [&STUDENT[..], &["--teacher", file.to_str().unwrap()]].concat();
    train(&one, &taught).assert().success();
    train(&other, &taught).args(["--target-accuracy", "0.1"]).assert().success();
    assert_eq!(metrics(&other).len(), 2);
    fs::remove_file(file).unwrap();
    let resume = ["train", "-q", "--resume", other.to_str().unwrap(), "--target-accuracy", "0"];
    tch_mnist(&resume).assert().success();
    assert_same_run(&one, &other);
}

/// An epoch in `folder`, with `flags`.
fn epoch(folder: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let out = folder.join(name);
    train(&out, &[&["-q", "--seed=2", "--epochs=1"], flags].concat()).assert().success();
    out
}

fn losses(out: &Path) -> String {
    fs::read_to_string(out.join("losses.csv")).unwrap()
}

#[test]
fn teachers_change_the_loss_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = teacher(folder.path()).display().to_string();
    let plain = epoch(folder.path(), "plain", &["--rotate=10"]);
    // Images come in the same order, augmented in the same way, from the same first weights.
    let flags = ["--rotate=10", "--teacher", &file, "--distillation-weight=0"];
    assert_eq!(losses(&plain), losses(&epoch(folder.path(), "unheard", &flags)));
    assert_ne!(losses(&plain), losses(&epoch(folder.path(), "taught", &["--rotate=10", "--teacher", &file])));
}

#[test]
fn a_teacher_that_is_given_twice_says_the_same_as_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = teacher(folder.path()).display().to_string();
    let once = epoch(folder.path(), "once", &["--teacher", &file]);
    assert_eq!(losses(&once), losses(&epoch(folder.path(), "twice", &["--teacher", &format!("{file},{file}")])));
}

#[test]
fn lr_find_and_bench_take_steps_of_the_same_loss() {
    let folder = tempfile::tempdir().unwrap();
    let file = teacher(folder.path()).display().to_string();
    let losses = |flags: &[&str]| {
        let args = ["lr-find", "--data", DATA, "-q", "--device=cpu", "--limit-train=640", "--steps=5"];
        let found = stdout(tch_mnist(&args).arg("--log-format=json").args(flags));
        json_lines(&found)[0]["losses"].clone()
    };
    let [plain, taught] = [losses(&[]), losses(&["--teacher", &file])];
    assert!(plain.as_array().unwrap().len() == 5 && plain != taught);
    let bench = ["bench", "--data", DATA, "-q", "--device=cpu", "--limit-train=3200", "--steps=2", "--rounds=1"];
    tch_mnist(&bench).args(["--teacher", &file]).assert().success();
}

#[test]
fn a_file_that_cannot_teach_is_refused_in_one_sentence_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.pth");
    fs::write(&text, "not weights").unwrap();
    for file in [folder.path().join("missing.pth"), text] {
        let (_folder, out) = out();
        let (sentence, code) = failure(&mut train(&out, &["--teacher", file.to_str().unwrap()]));
        assert_eq!(code, 1, "{sentence}");
        assert!(sentence.starts_with("error: --teacher was refused: "), "{sentence}");
        assert!(sentence.contains(file.to_str().unwrap()), "{sentence}");
        assert!(!out.exists());
    }
}

#[test]
fn weights_of_an_unknown_net_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("linear.npz");
    tch::Tensor::write_npz(
        &[("fc.weight", tch::Tensor::zeros([10, 784], (tch::Kind::Float, tch::Device::Cpu)))],
        &file,
    )
    .unwrap();
    let (sentence, code) = failure(&mut train(&folder.path().join("run"), &["--teacher", file.to_str().unwrap()]));
    assert_eq!(code, 1);
    assert!(sentence.contains("does not say which net its weights belong to"), "{sentence}");
    assert!(sentence.contains("tch-mnist export --weights"), "{sentence}");
}

#[test]
fn a_teacher_that_may_have_seen_the_images_that_are_held_out_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let held_out = ["--validation=100", "--epochs=1"];
    let warned = |name: &str, teacher: &Path, flags: &[&str]| {
        let mut command = train(&folder.path().join(name), &[&held_out[..], flags].concat());
        let output = command.arg("--teacher").arg(teacher).assert().success().get_output().clone();
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("may have been trained on images that --validation holds out")
    };
    train(&folder.path().join("same"), &[&held_out[..], &["-q"]].concat()).assert().success();
    let same = folder.path().join("same/model.safetensors");
    assert!(!warned("one", &same, &[]));
    assert!(warned("two", &same, &["--seed=2"]));
    assert!(warned("three", &teacher(folder.path()), &[]));
}
