//! `--validation N`: epochs are measured on images held out of the training split, and the test images are left alone.

mod common;

use common::*;
use serde_json::Value;
use std::path::Path;

/// A run of 1280 - 256 training images.
fn held_out(out: &Path, args: &[&str]) -> Program {
    let mut command = train(out, &["--validation", "256", "-q"]);
    command.args(args);
    command
}

#[test]
fn every_name_says_validation_and_none_says_test() {
    let (_folder, out) = out();
    let text = stdout(&mut held_out(&out, &["--log-format", "json"]));
    assert!(!text.contains("test"), "{text}");
    let lines = json_lines(&text);
    for line in &lines[..2] {
        let accuracy = 100.0 * line["correct"].as_f64().unwrap() / 256.0;
        assert_eq!(line["validation_accuracy"].as_f64(), Some(accuracy));
        assert!(line["validation_loss"].as_f64().unwrap() > 0.0);
    }
    let last = &lines[2];
    for key in ["validation_loss", "validation_accuracy", "correct"] {
        assert_eq!(last[key], lines[1][key], "{key}");
    }
    let accuracies = lines[..2].iter().map(|line| line["validation_accuracy"].as_f64().unwrap());
    assert_eq!(last["best_validation_accuracy"].as_f64(), accuracies.reduce(f64::max));

    let (_folder, out) = common::out();
    let mut command = train(&out, &["--validation", "256", "--epochs", "1"]);
    let output = command.assert().success().get_output().clone();
    let [text, log] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    // The test set is what comes next.
    let next = format!("next: tch-mnist evaluate {} --data {DATA}, which", out.join("model.pt").display());
    assert!(log.lines().last().is_some_and(|line| line.contains(&next)), "{log}");
    assert!(text.starts_with("EPOCH: 0\n\nValidation set: Average loss: ") && text.contains("/256 ("), "{text}");
}

#[test]
fn the_test_images_change_nothing() {
    let (_folder, one) = out();
    let (_other_folder, other) = out();
    held_out(&one, &["--limit-test", "1"]).assert().success();
    held_out(&other, &["--limit-test", "100"]).assert().success();
    assert_eq!(metrics(&one), metrics(&other));
}

#[test]
fn the_seed_chooses_the_images() {
    let run = |seed: &str| {
        let (_folder, out) = out();
        // A learning rate that changes nothing: only the images differ.
        held_out(&out, &["--lr", "1e-30", "--epochs", "1", "--seed", seed]).assert().success();
        metrics(&out)[0]["validation_loss"].clone()
    };
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
}

#[test]
fn the_target_accuracy_is_that_of_the_images_held_out() {
    let (_folder, out) = out();
    held_out(&out, &["--target-accuracy", "1"]).assert().success();
    let lines = metrics(&out);
    let status: Vec<&Value> = lines.iter().map(|line| &line["status"]).collect();
    assert_eq!(status, [&Value::Null, &"target_reached".into()]);
}

#[test]
fn a_resumed_run_goes_on_with_the_same_images() {
    let (_folder, short) = out();
    held_out(&short, &["--epochs", "1"]).assert().success();
    tch_mnist(&["train", "--epochs", "2", "-q", "--resume"]).arg(&short).assert().success();
    let (_other_folder, long) = out();
    held_out(&long, &[]).assert().success();
    assert_same_run(&long, &short);

    let resume = ["train", "--validation", "128", "--resume", short.to_str().unwrap()];
    let (sentence, code) = failure(&mut tch_mnist(&resume));
    assert_eq!(
        (sentence.contains("--validation cannot change when a run is resumed: it was 256"), code),
        (true, 2),
        "{sentence}"
    );
}

#[test]
fn some_images_must_be_left_to_train_on() {
    let (_folder, out) = out();
    let (sentence, code) = failure(&mut train(&out, &["--validation", "1280"]));
    assert!(sentence.contains("--validation 1280 leaves no image to train on: there are 1280"), "{sentence}");
    assert_eq!(code, 2);
}
