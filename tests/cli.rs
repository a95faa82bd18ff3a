//! The command line at the door: what it prints, what it writes, what it refuses.

mod common;

use common::*;
use predicates::prelude::*;
use std::fs;
use std::io::{BufRead, BufReader};

#[test]
fn training_prints_the_lines_of_the_original_and_no_bar_into_a_pipe() {
    let (_folder, out) = out();
    let output = train(&out, &[]).assert().success().get_output().clone();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines = predicate::str::is_match(
        r"^EPOCH: 0\n\nTest set: Average loss: \d\.\d{4}, Accuracy: \d+/500 \(\d+\.\d\d%\)\n\nEPOCH: 1\n\nTest set: Average loss: \d\.\d{4}, Accuracy: \d+/500 \(\d+\.\d\d%\)\n\n$",
    );
    assert!(lines.unwrap().eval(&stdout), "{stdout}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with(" INFO device: cpu"), "{stderr}");
    assert!(!stderr.contains("it/s") && !stderr.contains('\r'), "{stderr}");
    let progress = |end: &str| {
        let line = format!(
            r"(?m)^ INFO epoch \d: train loss \d\.\d{{4}}, train accuracy \d+\.\d\d%, test accuracy \d+\.\d\d%, lr 0\.01, \d+ images/s, [\d.]+ s{end}$"
        );
        predicate::str::is_match(line).unwrap().count(1)
    };
    assert!(progress(", .* left").eval(&stderr) && progress("").eval(&stderr), "{stderr}");
    let written =
        ["checkpoint.safetensors", "config.toml", "environment.json", "log.txt", "losses.csv", "metrics.jsonl"];
    let written: Vec<_> = written.into_iter().chain(WEIGHTS).collect();
    assert_eq!(names(&out), written);
    let log = fs::read_to_string(out.join("log.txt")).unwrap();
    assert!(log.contains("EPOCH: 1") && log.contains("Test set: Average loss"), "{log}");
}

#[test]
fn json_goes_to_stdout_a_line_an_epoch_and_quiet_is_silent() {
    let (_folder, out) = out();
    let output = train(&out, &["--log-format", "json", "-q"]).assert().success().stderr("").get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = json_lines(&text);
    assert_eq!(lines.len(), 3);
    let listed = lists();
    for (epoch, line) in lines[..2].iter().enumerate() {
        assert_eq!((&line["event"], &line["epoch"], &line["lr"]), (&"epoch".into(), &epoch.into(), &0.01.into()));
        for metric in listed["metrics"].as_array().unwrap() {
            let key = metric["name"].as_str().unwrap().replace("PART", "test");
            assert!(line[&key].as_f64().is_some_and(|x| x > 0.0 || key == "epoch"), "{key}: {line}");
        }
        let accuracy = 100.0 * line["correct"].as_f64().unwrap() / 500.0;
        assert_eq!(line["test_accuracy"].as_f64().unwrap(), accuracy);
    }
    assert_eq!((&lines[2]["event"], &lines[2]["status"]), (&"done".into(), &"done".into()));
    assert_eq!(lines[2]["correct"], lines[1]["correct"]);
    assert_eq!(fs::read_to_string(out.join("metrics.jsonl")).unwrap(), text);
}

#[test]
fn the_config_of_a_run_is_the_same_run() {
    let (_folder, one) = out();
    let (_other_folder, other) = out();
    train(&one, &["--lr", "0.02", "--nesterov", "--schedule", "one-cycle", "--seed", "5"]).assert().success();
    let config = one.join("config.toml");
    tch_mnist(&["train", "--config", config.to_str().unwrap(), "--out", other.to_str().unwrap()]).assert().success();
    assert_same_run(&one, &other);
}

#[test]
fn the_target_accuracy_ends_a_run() {
    let (_folder, out) = out();
    let text = stdout(&mut train(&out, &["--target-accuracy", "1", "--log-format", "json"]));
    let lines = json_lines(&text);
    assert_eq!((lines.len(), &lines[1]["status"]), (2, &"target_reached".into()));
    assert!(out.join("model.pt").exists());
}

#[test]
fn a_loss_that_is_not_finite_ends_a_run() {
    let (_folder, out) = out();
    let output = train(&out, &["--lr", "1e30", "--log-format", "json"]).assert().code(1).get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let sentence = stderr.lines().last().unwrap();
    assert!(sentence.starts_with("error: the loss became") && sentence.contains("learning rate 1"), "{sentence}");
    let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
    let last = lines.last().unwrap();
    assert_eq!((&last["status"], &last["test_accuracy"]), (&"diverged".into(), &serde_json::Value::Null));
    assert_eq!(format!("error: {}", last["error"].as_str().unwrap()), sentence);
    assert!(!out.join("model.pt").exists());
}

#[test]
fn so_does_one_that_only_the_test_shows_and_what_was_saved_is_kept() {
    let (_folder, out) = out();
    train(&out, &["--epochs", "1", "-q"]).assert().success();
    let weights = out.join("checkpoint.safetensors");
    let kept = fs::read(&weights).unwrap();
    // One step per epoch: its loss is that of the weights before the step.
    let (_other_folder, other) = common::out();
    let args = ["--limit-train", "128", "--epochs", "1", "--lr", "1e30", "-q"];
    let (sentence, code) = failure(train(&other, &args).args(["--init", weights.to_str().unwrap()]));
    assert!(sentence.contains("in the test of epoch 0, with the learning rate 1"), "{sentence}");
    assert_eq!(code, 1);
    assert!(!other.join("model.pt").exists() && !other.join("checkpoint.safetensors").exists());
    // A resume that diverges leaves the checkpoint, and says how to start from it.
    let (sentence, _) = failure(
        train(&other.with_file_name("third"), &["--lr", "1e30", "--checkpoint-every", "1", "-q"])
            .args(["--init", weights.to_str().unwrap()]),
    );
    assert!(sentence.contains("the loss became"), "{sentence}");
    assert_eq!(fs::read(&weights).unwrap(), kept);
}

#[test]
fn only_temporary_files_of_this_program_are_cleared_away() {
    let (_folder, out) = out();
    fs::create_dir_all(out.join(".folder.tch-mnist.tmp")).unwrap();
    fs::write(out.join(".somebody-elses.tmp"), "precious").unwrap();
    fs::write(out.join(".model.pt.a1B2c3.tch-mnist.tmp"), "half").unwrap();
    train(&out, &["--epochs", "1", "-q"]).assert().success();
    assert_eq!(fs::read_to_string(out.join(".somebody-elses.tmp")).unwrap(), "precious");
    assert!(out.join(".folder.tch-mnist.tmp").exists() && !out.join(".model.pt.a1B2c3.tch-mnist.tmp").exists());
}

#[test]
fn a_run_that_cannot_begin_leaves_no_folder() {
    let (_folder, out) = out();
    let (sentence, code) = failure(&mut train(&out, &["--init", "nowhere.pt"]));
    assert_eq!((sentence.contains("nowhere.pt"), code, out.exists()), (true, 1, false), "{sentence}");
}

#[test]
fn verbosity_stands_before_a_command_too() {
    let (_folder, out) = out();
    let args = ["--data", DATA, "--device", "cpu", "--limit-train", "128", "--limit-test", "100", "--epochs", "1"];
    tch_mnist(&["-q", "train", "--out", out.to_str().unwrap()]).args(args).assert().success().stderr("");
    tch_mnist(&["-v", "summary"]).assert().success();
    // Behind `--` it would be a run.
    let (sentence, _) = failure(&mut tch_mnist(&["-q", "report", "--", "no-such-run"]));
    assert_eq!(sentence, "error: no-such-run is not the folder of a run: it does not exist");
}

#[test]
fn a_comma_in_a_number_is_answered_by_what_the_flag_takes() {
    for (flag, sentence) in [
        ("--lr=0,5", "error: --lr: write 0.5, with a decimal point"),
        ("--epochs=1,5", "error: --epochs takes a whole number from 1 to 1000000, not 1,5"),
    ] {
        assert_eq!(failure(&mut tch_mnist(&["train", "--print-config", flag])), (sentence.into(), 2));
    }
}

#[test]
fn sigusr1_prunes_a_run_after_the_step_under_way() {
    let (_folder, out) = out();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args(["train", "--data", DATA, "--device", "cpu", "-q", "--log-format", "json", "--epochs", "1000"])
        .args(["--limit-train", "1280", "--limit-test", "128", "--out"])
        .arg(&out)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "USR1", &pid]).status().unwrap().success());
    let text: String = lines.lines().map(|line| line.unwrap() + "\n").collect();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let lines = json_lines(&(first + &text));
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["status"]), (&"done".into(), &"pruned".into()));
    assert!(lines.len() < 1000 && last["epochs"] == lines.len() - 1, "{last}");
    assert!(!out.join("model.pt").exists());
}

#[test]
fn print_config_checks_the_settings_and_trains_nothing() {
    let (_folder, out) = out();
    let text = stdout(&mut train(&out, &["--lr", "0.02", "--schedule", "one-cycle", "--print-config"]));
    assert!(text.contains("lr = 0.02\n") && text.contains("schedule = \"one-cycle\"\n"), "{text}");
    assert!(!out.exists());
    let (sentence, code) = failure(&mut train(&out, &["--lr", "-1", "--print-config"]));
    assert_eq!((sentence.contains("--lr takes a number above 0"), code), (true, 2), "{sentence}");
}

#[test]
fn every_command_says_how_it_is_used() {
    let lists = lists();
    for command in lists["commands"].as_array().unwrap() {
        let help = stdout(&mut tch_mnist(&[command["name"].as_str().unwrap(), "--help"]));
        assert!(help.contains(command["about"].as_str().unwrap()), "{help}");
        assert!(help.contains(&format!("\nUsage: {}\n", command["usage"].as_str().unwrap())), "{help}");
    }
}

#[test]
fn the_short_help_fits_on_two_screens_and_the_long_one_names_every_setting() {
    for command in ["train", "lr-find", "bench"] {
        let help = |flag: &str| stdout(&mut tch_mnist(&[command, flag]).env("COLUMNS", "80"));
        let (short, long) = (help("-h"), help("--help"));
        assert!(short.lines().count() <= 100, "{command} -h: {} lines", short.lines().count());
        assert!(short.lines().all(|line| line.chars().count() <= 80), "{short}");
        for heading in ["Data", "Net", "Optimizer", "Schedule", "Augmentation", "Device", "Run", "Output"] {
            assert!(
                short.contains(&format!("\n{heading}:\n")) && long.contains(&format!("\n{heading}:\n")),
                "{heading}"
            );
        }
        for key in config_keys() {
            assert!(
                long.contains(&format!("--{} ", key.replace('_', "-")))
                    || long.contains(&format!("--{}[", key.replace('_', "-"))),
                "{key}"
            );
        }
    }
}

/// The key of every setting.
fn config_keys() -> Vec<String> {
    let config = stdout(&mut tch_mnist(&["train", "--print-config"]));
    config.parse::<toml::Table>().unwrap().into_iter().map(|(key, _)| key).collect()
}

#[test]
fn summary_is_the_table_of_torchsummary() {
    let text = stdout(&mut tch_mnist(&["summary"]));
    let (table, layers) = text.split_once("\n\n").unwrap();
    assert_eq!(format!("{table}\n"), include_str!("reference/summary.txt"));
    let layers: Vec<&str> = layers.lines().collect();
    let [heads, rows @ .., total] = &layers[..] else { panic!("{text}") };
    assert!(heads.contains("Receptive field") && heads.contains("Multiply-adds"), "{heads}");
    assert!(total.ends_with(": 3,291,692"), "{total}");
    // The page on the original states the same numbers for the last layer of each member.
    let page = include_str!("../docs/original.md");
    assert_eq!(rows.len(), 27);
    let member = |row: &&str| row.split(['.', ' ']).next().unwrap().to_string();
    let ends = rows.chunk_by(|a, b| member(a) == member(b)).map(|rows| rows[rows.len() - 1]);
    for row in ends {
        let [_, _, output, field, _] = row.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
        let side = output.rsplit('x').next().unwrap();
        assert!(page.contains(&format!("| `{}` | {side} | {field} |", member(&row))), "{row}");
    }
}

#[test]
fn summary_shows_the_net_of_weights() {
    let (_folder, out) = out();
    train(&out, &["-q", "--epochs", "1", "--limit-train", "128", "--net", "lenet5"]).assert().success();
    let lenet5 = stdout(&mut tch_mnist(&["summary", "--net", "lenet5"]));
    assert_ne!(lenet5, stdout(&mut tch_mnist(&["summary"])));
    for weights in [out.clone(), out.join("model.pth")] {
        assert_eq!(stdout(tch_mnist(&["summary", "--weights"]).arg(weights)), lenet5);
    }
    let (sentence, code) = failure(&mut tch_mnist(&["summary", "--weights", "a.pt", "--net", "lenet5"]));
    assert!(code == 2 && sentence.contains("--weights") && sentence.contains("--net"), "{sentence}");
    let (sentence, code) = failure(&mut tch_mnist(&["summary", "--weights", "/nowhere/a.pt"]));
    assert!(code == 1 && sentence.contains("/nowhere/a.pt"), "{sentence}");
}

#[test]
fn evaluate_says_what_training_said_at_its_end() {
    let (_folder, out) = out();
    let trained = stdout(&mut train(&out, &[]));
    let last = trained.trim_end().lines().last().unwrap();
    for name in WEIGHTS {
        let weights = out.join(name);
        let evaluate = ["evaluate", "--data", DATA, "--limit-test", "500", "--weights", weights.to_str().unwrap()];
        let text = stdout(&mut tch_mnist(&evaluate));
        assert_eq!(text.lines().next(), Some(last));
        let json = stdout(tch_mnist(&evaluate).args(["--log-format", "json"]));
        let line = &json_lines(&json)[0];
        let confusion = line["confusion"].as_array().unwrap();
        let cell = |row: usize, column: usize| confusion[row][column].as_i64().unwrap();
        let all: i64 = (0..10).flat_map(|row| (0..10).map(move |column| (row, column))).map(|(r, c)| cell(r, c)).sum();
        let right: i64 = (0..10).map(|class| cell(class, class)).sum();
        assert_eq!((all, right), (500, line["correct"].as_i64().unwrap()));
        assert!(last.contains(&format!("Accuracy: {right}/500")));
    }
}

#[test]
fn mistakes_get_one_sentence_and_exit_code_2() {
    for (args, reason) in [
        (&["--learning-rates", "1"][..], "unexpected argument '--learning-rates'"),
        (&["--limit_trains", "1"], "(a similar argument exists: '--limit-train')"),
        (&["--learning-rate", "1"], "--learning-rate is not a flag here: use --lr"),
        (&["--batch-size", "0"], "--batch-size takes a whole number from 1 to 1000000, not 0"),
        (&["--lr", "nan"], "--lr takes a number above 0, not nan"),
        (&["--lr", "-0.1"], "--lr takes a number above 0, not -0.1"),
        (&["--epochs", "0"], "--epochs takes a whole number from 1 to 1000000, not 0"),
        (&["--batch-size", "9223372036854775807"], "--batch-size takes a whole number from 1 to 1000000"),
        (&["--epochs", "many"], "--epochs takes a whole number from 1 to 1000000, not many"),
        (&["--dropout", "1.5"], "--dropout takes a share from 0 to below 1, not 1.5"),
        (&["--momentum", "1"], "--momentum takes a number from 0 to below 1, not 1"),
        (&["--nesterov", "--momentum", "0"], "--nesterov takes a --momentum above 0"),
        (&["--report", "false"], "'false' belongs to no flag: write --FLAG=false"),
        (
            &["--optimizer", "adam", "--momentum", "0.5"],
            "adam has no --momentum: leave it out; sgd and rmsprop have it",
        ),
        (&["--optimizer", "lion"], "--optimizer takes sgd, "),
        (
            &["--optimizer", "adam", "--betas", "0.9"],
            "--betas takes two numbers from 0 to below 1, such as 0.9,0.999, not 0.9",
        ),
        (&["--clip-grad-norm", "-1"], "--clip-grad-norm takes a number from 0 up, not -1"),
        (&["--device", "tpu"], "--device takes auto, cpu, cuda or cuda:N, not tpu"),
        (&["--schedule", "zigzag"], "--schedule takes step, "),
        (&["--target-accuracy", "101"], "--target-accuracy takes a percentage"),
        (&["--validation", "-1"], "--validation takes a whole number of images from 0 up, not -1"),
        (&["--threads", "-1"], "--threads takes a whole number from 0 to 512, not -1"),
        (&["--threads", "1000"], "--threads takes a whole number from 0 to 512, not 1000"),
        (&["--seed", "9223372036854775808"], "--seed takes a whole number from 0 to 9223372036854775807, not "),
    ] {
        let (_folder, out) = out();
        let (sentence, code) = failure(tch_mnist(&["train", "--out", out.to_str().unwrap()]).args(args));
        assert!(sentence.starts_with("error: ") && sentence.contains(reason), "{args:?}: {sentence}");
        assert_eq!(code, 2, "{args:?}");
        assert!(!out.exists(), "{args:?} left {}", out.display());
    }
}

#[test]
fn a_config_file_with_a_mistake_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    for (text, reason) in [
        ("epochs = 2\nlearning_rate = 0.1\n", "line 2: learning_rate is not a setting"),
        ("epochs = \"two\"\n", "line 1: --epochs takes a whole number from 1 to 1000000, not two"),
        ("epochs 2\n", "line 1"),
    ] {
        fs::write(&config, text).unwrap();
        let (sentence, code) = failure(&mut tch_mnist(&["train", "--config", config.to_str().unwrap()]));
        assert!(sentence.contains("config.toml") && sentence.contains(reason), "{sentence}");
        assert_eq!(code, 1);
    }
    let (sentence, code) = failure(&mut tch_mnist(&["train", "--config", "/nowhere/config.toml"]));
    assert_eq!((sentence.contains("--config /nowhere/config.toml cannot be read"), code), (true, 1), "{sentence}");
}

#[test]
fn a_folder_that_cannot_be_written_or_that_holds_a_run_is_refused() {
    let (sentence, code) = failure(&mut tch_mnist(&["train", "--data", DATA, "--out", "/proc/run"]));
    assert_eq!((sentence.contains("--out /proc/run"), code), (true, 1), "{sentence}");

    let (_folder, out) = out();
    fs::write(&out, "").unwrap();
    let (sentence, code) = failure(&mut train(&out, &[]));
    assert_eq!((sentence.contains("is a file: name a folder"), code), (true, 2), "{sentence}");

    fs::remove_file(&out).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("metrics.jsonl"), "").unwrap();
    let (sentence, code) = failure(&mut train(&out, &[]));
    assert_eq!((sentence.contains("already holds a run (metrics.jsonl)"), code), (true, 2), "{sentence}");
}

#[test]
fn cuda_without_a_gpu_is_refused() {
    if tch::Cuda::is_available() {
        eprintln!("skipped: there is a GPU here");
        return;
    }
    for (device, named) in [("cuda", "cuda"), ("gpu", "gpu"), ("GPU:1", "gpu")] {
        let (sentence, code) = failure(&mut tch_mnist(&["train", "--data", DATA, "--device", device]));
        let expected = format!("error: --device {named}: no CUDA device was found");
        assert_eq!((sentence.starts_with(&expected), code), (true, 1), "{sentence}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error_of_a_command_that_only_prints() {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .arg("summary")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((String::from_utf8(output.stderr).unwrap().as_str(), output.status.code()), ("", Some(141)));
}

#[test]
fn an_error_that_nobody_reads_is_an_exit_code_all_the_same() {
    for (args, code) in [(&["--nonsense"][..], 2), (&["report", "/nowhere"], 1)] {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
            .args(args)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{args:?}");
    }
}

#[test]
fn a_closed_stdout_ends_a_run_with_one_sentence() {
    let (_folder, out) = out();
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args(["train", "--data", DATA, "--limit-train", "1280", "--limit-test", "500", "-q", "--out"])
        .arg(&out)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: stdout was closed") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(output.status.code(), Some(1));
}
