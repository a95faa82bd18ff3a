//! Recipes are presets of ordinary flags; augmentation, smoothing and averaging at the door.

mod common;

use common::*;
use std::fs;
use std::path::Path;
use tch::Tensor;

/// Everything that a recipe can turn on.
const ALL: [&str; 14] = [
    "--rotate=10",
    "--translate=2",
    "--scale=0.1",
    "--shear=5",
    "--label-smoothing=0.1",
    "--ema-decay=0.9",
    "--schedule=one-cycle",
    "--pct-start=0.2",
    "--nesterov",
    "--weight-decay=0.001",
    "--weight-decay-norm=false",
    "--batch-size=64",
    "--lr=0.05",
    "--dropout=0.01",
];

fn config(args: &[&str]) -> toml::Table {
    let mut all = vec!["train", "--print-config"];
    all.extend(args);
    stdout(&mut tch_mnist(&all)).parse().unwrap()
}

/// The rows of `summary --recipe`: setting, the recipe's value on a CPU, with teachers and on a GPU, the original's.
fn recipe_rows(recipe: &str) -> Vec<[String; 5]> {
    let text = stdout(&mut tch_mnist(&["summary", "--recipe", recipe]));
    let rows = text.lines().skip_while(|line| !line.starts_with("setting")).skip(1);
    rows.map(|row| {
        let cells: Vec<_> = row.split_whitespace().map(str::to_string).collect();
        cells.try_into().unwrap()
    })
    .collect()
}

#[test]
fn a_recipe_is_what_summary_says_and_flags_win_over_it() {
    let (original, plain) = (config(&["--recipe", "original"]), config(&[]));
    assert_eq!(original, plain);
    let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    for recipe in ["best", "speed"] {
        let rows = recipe_rows(recipe);
        let forms = [&["--device=cpu"][..], &["--device=cpu", "--teacher=a.pth"], &["--device=cuda:0"]];
        for (form, column) in forms.into_iter().zip(1..) {
            let config = config(&[&["--recipe", recipe], form].concat());
            for row in &rows {
                let key = row[0].replace('-', "_");
                for (shown, config) in [(&row[column], &config), (&row[4], &plain)] {
                    assert!(*shown == text(&config[&key]) || shown == "-", "{recipe} with {form:?}: {key} {shown}");
                }
            }
            let incidental = |key: &str| ["recipe", "device", "teacher"].contains(&key);
            let differ = config.iter().filter(|(key, value)| !incidental(key) && plain[*key] != **value);
            for (key, _) in differ {
                assert!(rows.iter().any(|row| row[0] == key.replace('_', "-")), "{key} is not in summary");
            }
            assert_eq!(config["recipe"].as_str(), Some(recipe));
        }
    }
    let shown = |key: &str| {
        recipe_rows("best").into_iter().find(|row| row[0] == key).map(|row| [row[1].clone(), row[4].clone()])
    };
    assert_eq!(shown("step-size"), Some(["-".into(), "6".into()]));
    assert_eq!(shown("pct-start"), Some(["0.2".into(), "-".into()]));
    assert_eq!(shown("alpha"), None, "no recipe has RMSprop");
    let mixed = config(&["--lr", "0.123", "--recipe", "best"]);
    assert_eq!(mixed["lr"].as_float(), Some(0.123));
    assert_eq!(mixed["schedule"].as_str(), Some("one-cycle"));
}

#[test]
fn a_recipe_in_a_file_is_below_what_stands_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    fs::write(&file, "epochs = 3\nrecipe = 'best'\n").unwrap();
    let merged = config(&["--config", file.to_str().unwrap(), "--lr", "0.2"]);
    let best = config(&["--recipe", "best"]);
    assert_eq!((merged["epochs"].as_integer(), merged["lr"].as_float()), (Some(3), Some(0.2)));
    assert_eq!(merged["ema_decay"], best["ema_decay"]);
}

#[test]
fn the_config_of_a_recipes_run_is_the_same_run() {
    let (_folder, one) = out();
    let (_other_folder, other) = out();
    tch_mnist(&["train", "-q", "--recipe", "speed", "--epochs", "1", "--data", DATA, "--limit-train", "1920", "--out"])
        .arg(&one)
        .assert()
        .success();
    let config = one.join("config.toml");
    tch_mnist(&["train", "-q", "--config", config.to_str().unwrap(), "--out", other.to_str().unwrap()])
        .assert()
        .success();
    assert_same_run(&one, &other);
}

#[test]
fn the_number_of_threads_changes_no_loss_of_a_recipe() {
    // Long enough for SOAP to turn its bases twice.
    let losses = |recipe: &str, threads: &str| {
        let (_folder, out) = out();
        let args = ["--recipe", recipe, "--epochs=1", "--limit-train=2400", "--limit-test=100", "--threads", threads];
        train(&out, &[&args[..], &["-q", "--kernels=fused"]].concat()).assert().success();
        fs::read_to_string(out.join("losses.csv")).unwrap()
    };
    for recipe in ["best", "speed"] {
        assert_eq!(losses(recipe, "1"), losses(recipe, "2"), "{recipe}");
    }
}

#[test]
fn an_averaged_augmented_run_that_was_interrupted_ends_as_one_that_was_not() {
    for kernels in ["fused", "torch"] {
        let (_folder, one) = out();
        let (_other_folder, other) = out();
        let args = [&ALL[..], &["--kernels", kernels, "-q", "--tta", "--threads", "1"]].concat();
        train(&one, &args).assert().success();
        // A target that the first epoch reaches ends the run after it; config.toml says so until the run goes on.
        train(&other, &args).args(["--target-accuracy", "0.1"]).assert().success();
        assert_eq!(metrics(&other).len(), 2);
        let resume = ["train", "-q", "--resume", other.to_str().unwrap(), "--target-accuracy", "0"];
        tch_mnist(&resume).assert().success();
        assert_same_run(&one, &other);
    }
}

fn tensors(file: &Path) -> Vec<(String, Tensor)> {
    Tensor::read_safetensors(file).unwrap()
}

fn tensor(file: &Path, name: &str) -> Tensor {
    tensors(file).into_iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn what_is_measured_and_saved_is_the_average() {
    let (_folder, out) = out();
    train(&out, &["-q", "--ema-decay", "0.95", "--kernels", "torch"]).assert().success();
    let (model, checkpoint) = (out.join("model.safetensors"), out.join("checkpoint.safetensors"));
    for (name, average) in tensors(&model) {
        assert!(average.equal(&tensor(&checkpoint, &format!("model.{name}"))), "{name}");
        let raw = tensor(&checkpoint, &format!("raw.{name}"));
        assert_eq!(average.equal(&raw), name.ends_with("num_batches_tracked"), "{name}");
    }
    assert_eq!(tensor(&checkpoint, "average_updates").double_value(&[]), 20.0);
    let evaluated = ["evaluate", "--weights", model.to_str().unwrap(), "--data", DATA, "--device", "cpu"];
    let evaluated =
        stdout(tch_mnist(&evaluated).args(["--limit-test", "500", "--log-format", "json", "--kernels", "torch"]));
    let evaluated = &json_lines(&evaluated)[0];
    assert_eq!(evaluated["correct"], metrics(&out)[1]["correct"]);
}

#[test]
fn test_time_augmentation_stands_beside_the_plain_figures() {
    let (_folder, plain) = out();
    let (_other_folder, with_tta) = out();
    train(&plain, &["-q"]).assert().success();
    train(&with_tta, &["-q", "--tta"]).assert().success();
    let (plain_metrics, mut tta_metrics) = (metrics(&plain), metrics(&with_tta));
    let done = tta_metrics.last_mut().unwrap().as_object_mut().unwrap();
    let accuracy = done.shift_remove("tta_test_accuracy").unwrap();
    let loss = done.shift_remove("tta_test_loss").unwrap();
    assert_ne!(loss, done["test_loss"]);
    assert_eq!(plain_metrics, tta_metrics);

    let model = with_tta.join("model.pth");
    let evaluate = ["evaluate", "--weights", model.to_str().unwrap(), "--data", DATA, "--limit-test", "500"];
    let lines = json_lines(&stdout(tch_mnist(&evaluate).args(["--tta", "--log-format", "json"])));
    assert_eq!((&lines[0]["tta_test_accuracy"], &lines[0]["correct"]), (&accuracy, &plain_metrics[1]["correct"]));
    let text = stdout(tch_mnist(&evaluate).arg("--tta"));
    assert!(text.lines().nth(1).unwrap().starts_with("With TTA, the average over 9 translations: "), "{text}");
    assert!(!stdout(&mut tch_mnist(&evaluate)).contains("TTA"));
}

#[test]
fn the_report_shows_what_augmentation_makes_of_the_images() {
    let (_folder, out) = out();
    train(&out, &["-q", "--report", "--rotate", "20", "--limit-train", "256", "--epochs", "1"]).assert().success();
    let svg = |name: &str| fs::read_to_string(out.join("plots").join(name)).unwrap();
    let (plain, augmented) = (svg("training_images.svg"), svg("augmented_images.svg"));
    assert_eq!(plain.matches("<image").count(), augmented.matches("<image").count());
    assert_ne!(plain, augmented);
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("The same images as a step might see them"));
}

#[test]
fn values_out_of_range_are_usage_errors() {
    for (flag, value) in [
        ("--recipe", "fastest"),
        ("--rotate", "-1"),
        ("--translate", "29"),
        ("--scale", "1"),
        ("--shear", "46"),
        ("--label-smoothing", "1"),
        ("--ema-decay", "1"),
        ("--pct-start", "0"),
        ("--rotate", "nan"),
    ] {
        let (message, code) = failure(&mut tch_mnist(&["train", flag, value, "--print-config"]));
        assert_eq!(code, 2, "{message}");
        assert!(message.contains(flag) && message.to_lowercase().contains(value), "{message}");
    }
}
