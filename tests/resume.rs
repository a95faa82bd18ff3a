//! Nothing is lost: a run that was stopped in any way ends as one that was never stopped.

mod common;

use common::*;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

const EPOCHS: &str = "3";

const SGD: &[&str] = &["--kernels", "torch", "--dampening", "0.5"];
const RMSPROP: &[&str] = &["--kernels", "torch", "--optimizer", "rmsprop", "--momentum", "0.5", "--centered"];

const SOAP: &[&str] =
    &["--kernels", "fused", "--optimizer", "soap", "--precondition-frequency", "5", "--clip-grad-norm", "1"];

/// The settings of every run here, with those of `own`: 3 epochs of 20 steps, a checkpoint every 2 steps.
fn settings<'a>(own: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["--limit-train", "1280", "--limit-test", "256", "--batch-size", "64", "--epochs", EPOCHS];
    args.extend(["--checkpoint-every", "2", "--schedule", "one-cycle", "--ema-decay", "0.9", "--rotate", "10"]);
    args.push("--report=false");
    args.extend(own);
    args
}

/// A run of `settings` into `out` from its start to its end.
fn uninterrupted(out: &Path, own: &[&str]) {
    tch_mnist(&["train", "--data", DATA, "--device", "cpu", "-q", "--out"])
        .arg(out)
        .args(settings(own))
        .assert()
        .success();
}

/// The program with `args`, in the background.
fn start(args: &[&str]) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args(["train", "--data", DATA])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Starts the run, or goes on with it when it has a checkpoint.
fn start_or_resume(out: &Path, own: &[&str]) -> Child {
    let folder = out.to_str().unwrap();
    if out.join("checkpoint.safetensors").exists() {
        return start(&["--resume", folder]);
    }
    let mut args = settings(own);
    args.extend(["--device", "cpu", "--out", folder]);
    start(&args)
}

/// Sends the signal `name`, such as TERM.
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// A moment from 0 to 1, another each time.
fn chance() -> f64 {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    f64::from(nanos % 1_000_003) / 1_000_003.0
}

/// Waits until the run has written a checkpoint.
fn wait_for_checkpoint(child: &mut Child, out: &Path) {
    while !out.join("checkpoint.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        sleep(Duration::from_millis(5));
    }
}

/// Kills a run at random moments, `TCH_MNIST_KILLS` times (5 when that is not set), then lets it end.
fn killed_again_and_again(own: &[&str]) {
    let kills: u32 = std::env::var("TCH_MNIST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5);
    let (_folder, one) = out();
    uninterrupted(&one, own);
    let (_other_folder, other) = out();
    let mut hits = 0;
    for _ in 0..kills {
        let mut child = start_or_resume(&other, own);
        wait_for_checkpoint(&mut child, &other);
        sleep(Duration::from_secs_f64(1.5 * chance()));
        hits += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(start_or_resume(&other, own).wait().unwrap().success());
    eprintln!("{hits} of {kills} kills hit a run under way ({own:?})");
    assert!(hits > 0);
    assert_same_run(&one, &other);
    // The name of TensorBoard's file says when it was begun; there is one all the same.
    let names = |out: &Path| -> Vec<String> {
        let timeless = |name: String| name.split(".tfevents.").next().unwrap_or_default().to_string();
        names(out).into_iter().map(timeless).collect()
    };
    assert_eq!(names(&one), names(&other));
}

#[test]
fn a_run_killed_at_random_moments_ends_as_one_that_was_not() {
    killed_again_and_again(RMSPROP);
}

#[test]
fn so_does_one_with_fused_kernels_and_another_optimizer() {
    killed_again_and_again(SOAP);
}

#[test]
fn signals_save_the_run_in_the_middle_of_an_epoch() {
    let (_folder, one) = out();
    uninterrupted(&one, SGD);
    let (_other_folder, other) = out();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let logged = || std::fs::metadata(other.join("log.txt")).map_or(0, |file| file.len());
        let before = logged();
        let mut child = start_or_resume(&other, SGD);
        wait_for_checkpoint(&mut child, &other);
        // A process that writes its log listens to signals; on a busy machine that takes its time.
        while logged() == before {
            sleep(Duration::from_millis(5));
        }
        sleep(Duration::from_millis(700));
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}");
        assert!(!other.join("model.pt").exists());
    }
    // A run is resumed wherever it lies.
    let moved = other.with_file_name("moved");
    std::fs::rename(&other, &moved).unwrap();
    assert!(start(&["--resume", moved.to_str().unwrap()]).wait().unwrap().success());
    assert_same_run(&one, &moved);
}

#[test]
fn a_checkpoint_alone_in_another_folder_is_enough() {
    let (_folder, one) = out();
    uninterrupted(&one, SGD);
    let alone = tempfile::tempdir().unwrap();
    std::fs::copy(one.join("checkpoint.safetensors"), alone.path().join("checkpoint.safetensors")).unwrap();
    let file = alone.path().join("checkpoint.safetensors");
    assert!(start(&["--resume", file.to_str().unwrap()]).wait().unwrap().success());
    assert_same_run(&one, alone.path());
}

/// Every file of a folder by its name, with its bytes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    names(folder).into_iter().map(|name| (name.clone(), std::fs::read(folder.join(&name)).unwrap())).collect()
}

#[test]
fn a_checkpoint_beside_the_files_of_another_run_needs_a_folder_and_overwrites_nothing() {
    let ((_a, one), (_b, other), (_c, third)) = (out(), out(), out());
    train(&one, &["-q"]).assert().success();
    train(&third, &["-q", "--epochs", "1"]).assert().success();
    train(&other, &["-q", "--epochs", "1"]).assert().success();
    let checkpoint = |run: &Path| run.join("checkpoint.safetensors");
    // The same settings, another run.
    std::fs::copy(checkpoint(&third), checkpoint(&other)).unwrap();
    std::fs::copy(checkpoint(&third), other.join("copy.safetensors")).unwrap();
    // A folder with no more than the weights and the settings of somebody else.
    let model = tempfile::tempdir().unwrap();
    for name in ["model.pt", "config.toml", "checkpoint.safetensors"] {
        std::fs::copy(third.join(name), model.path().join(name)).unwrap();
    }
    for (folder, named, reason) in [
        (other.as_path(), other.clone(), "is of another run than the files beside it"),
        (&other, checkpoint(&other), "is of another run than the files beside it"),
        (&other, other.join("copy.safetensors"), "is not named checkpoint.safetensors"),
        (model.path(), model.path().to_path_buf(), "is of another run than the files beside it"),
    ] {
        let before = contents(folder);
        let (sentence, code) = failure(tch_mnist(&["train", "--epochs", "2", "--resume"]).arg(&named));
        assert!(sentence.contains(reason) && sentence.contains("give --out DIR"), "{sentence}");
        assert!(code == 2 && contents(folder) == before, "{}", named.display());
    }
    // One that was stopped within its first epoch has no epoch to tell it by.
    let (_e, begun) = out();
    let mut child = start_or_resume(&begun, SGD);
    wait_for_checkpoint(&mut child, &begun);
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::copy(checkpoint(&begun), checkpoint(&other)).unwrap();
    let (sentence, code) = failure(tch_mnist(&["train", "--resume"]).arg(&other));
    assert!(sentence.contains("is of another run than the files beside it") && code == 2, "{sentence}");
    // With a folder of its own it goes on, and is refused one that is taken.
    let before = contents(&other);
    let (_d, new) = out();
    let mut command = tch_mnist(&["train", "-q", "--epochs", "2", "--resume"]);
    command.arg(other.join("copy.safetensors")).arg("--out");
    let (sentence, code) = failure(tch_mnist(&["train", "--resume"]).arg(&third).arg("--out").arg(&one));
    assert!(sentence.contains("already holds a run") && code == 2, "{sentence}");
    command.arg(&new).assert().success();
    assert!(contents(&other) == before);
    assert_same_run(&one, &new);
    // A run that is done can be gone on with from there, too.
    let (_f, done) = out();
    tch_mnist(&["train", "-q", "--resume"]).arg(&third).arg("--out").arg(&done).assert().success();
    assert!(checkpoint(&done).exists());
}

#[test]
fn the_same_command_line_begins_a_run_and_goes_on_with_it() {
    let ((_folder, one), (_other_folder, other)) = (out(), out());
    let config = one.with_file_name("settings.toml");
    std::fs::write(&config, "lr = 0.02\nrecipe = \"original\"\n").unwrap();
    let config = config.to_str().unwrap();
    uninterrupted(&one, &[SGD, &["--config", config, "--optimizer", "sgd"]].concat());
    let command_line = |own: &[&'static str]| {
        let mut args = settings(SGD);
        args.extend(["--config", config, "--optimizer", "sgd", "--device", "cpu", "--resume", "auto"]);
        args.extend(own);
        start(&[&args[..], &["--out", other.to_str().unwrap()]].concat())
    };
    // A process that was killed before its first checkpoint has left no more than this.
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("log.txt"), "").unwrap();
    for _ in 0..2 {
        let mut child = command_line(&[]);
        wait_for_checkpoint(&mut child, &other);
        sleep(Duration::from_millis(300));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(command_line(&[]).wait().unwrap().success());
    assert_same_run(&one, &other);
    // Once more: the run is done.
    assert!(command_line(&[]).wait().unwrap().success());
    assert_same_run(&one, &other);
    // Another setting is refused as with any resume.
    assert_eq!(command_line(&["--seed", "2"]).wait().unwrap().code(), Some(2));

    let (sentence, code) = failure(&mut tch_mnist(&["train", "--resume", "auto"]));
    let expected = "error: --resume auto needs --out DIR, the folder that the run begins or goes on in";
    assert_eq!((sentence.as_str(), code), (expected, 2));
    // Without its checkpoint, a run would begin again over its own files.
    std::fs::remove_file(other.join("checkpoint.safetensors")).unwrap();
    let (sentence, code) = failure(tch_mnist(&["train", "--resume", "auto", "--out"]).arg(&other));
    assert!(sentence.contains("holds a run without its checkpoint.safetensors") && code == 2, "{sentence}");
}

#[test]
fn the_script_for_slurm_goes_on_when_it_is_queued_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_folder, one) = out();
    let slice = ["--data", DATA, "--device", "cpu", "-q", "--limit-train", "1280", "--limit-test", "256"];
    let flags =
        ["--epochs", "2", "--checkpoint-every", "2", "--batch-size", "64", "--threads", "1", "--kernels", "torch"];
    tch_mnist(&["train", "--seed", "3", "--out", one.to_str().unwrap()]).args(slice).args(flags).assert().success();
    let job = || {
        Command::new("bash")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/seeds.slurm"))
            .args(slice)
            .args(flags)
            .env("TCH_MNIST", assert_cmd::cargo::cargo_bin!("tch-mnist"))
            .env("SLURM_SUBMIT_DIR", folder.path())
            .env("SLURM_ARRAY_TASK_ID", "3")
            .env("SLURM_CPUS_PER_TASK", "1")
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let run = folder.path().join("runs/seed-3");
    let mut preempted = job();
    wait_for_checkpoint(&mut preempted, &run);
    signal(&preempted, "TERM");
    assert_eq!(preempted.wait().unwrap().code(), Some(143));
    for _ in 0..2 {
        assert!(job().wait().unwrap().success());
    }
    assert_same_run(&one, &run);
}

#[test]
fn a_run_that_another_process_is_writing_is_not_even_read() {
    let (_folder, out) = out();
    train(&out, &["-q", "--epochs", "1"]).assert().success();
    // Were it read, it would be said to be damaged.
    std::fs::write(out.join("checkpoint.safetensors"), "half").unwrap();
    let log = std::fs::File::options().append(true).open(out.join("log.txt")).unwrap();
    log.lock().unwrap();
    for args in [&["--resume"][..], &["--resume", "auto", "--out"], &["--out"]] {
        let (sentence, code) = failure(tch_mnist(&["train"]).args(args).arg(&out));
        assert_eq!((sentence, code), (format!("error: another process is training in {}", out.display()), 1));
    }
}

#[test]
fn an_epoch_whose_metrics_cannot_be_written_is_not_lost() {
    let (_folder, out) = out();
    let args = ["train", "--data", DATA, "--device", "cpu", "--log-format", "json", "--epochs", "1000"];
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args(args)
        .args(["--limit-train", "1280", "--limit-test", "128", "--report=false", "--tensorboard=false", "--out"])
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    // The run may write the file anew before the folder is there.
    let metrics = out.join("metrics.jsonl");
    while std::fs::create_dir(&metrics).is_err() {
        let _ = std::fs::remove_file(&metrics);
    }
    let others = lines.lines().map(Result::unwrap).filter(|line| line.contains("\"event\":\"epoch\"")).count();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let error = stderr.lines().last().unwrap();
    assert!(error.contains("metrics.jsonl cannot be written") && error.contains("--resume"), "{error}");
    assert_eq!(output.status.code(), Some(1));

    // The epoch that could not be announced is in the checkpoint.
    std::fs::remove_dir(&metrics).unwrap();
    let done = (others + 2).to_string();
    let output = tch_mnist(&["train", "--epochs", &done, "--resume"]).arg(&out).assert().success().get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("all of its epochs are done already"), "{done}: {stderr}");
    assert_eq!(self::metrics(&out).len(), others + 3);
}

#[test]
fn a_finished_run_goes_on_to_more_epochs() {
    let (_folder, short) = out();
    train(&short, &["--epochs", "1", "-q"]).assert().success();
    tch_mnist(&["train", "--epochs", "2", "-q", "--resume"]).arg(&short).assert().success();
    let (_other_folder, long) = out();
    train(&long, &["-q"]).assert().success();
    assert_same_run(&long, &short);
}

#[test]
fn a_run_that_reached_its_target_stays_as_it_is() {
    let (_folder, out) = out();
    train(&out, &["--target-accuracy", "1", "-q"]).assert().success();
    let files = |names: [&str; 3]| names.map(|name| std::fs::read(out.join(name)).unwrap());
    let before = files(["model.pt", "losses.csv", "checkpoint.safetensors"]);
    tch_mnist(&["train", "-q", "--resume"]).arg(&out).assert().success();
    assert!(before == files(["model.pt", "losses.csv", "checkpoint.safetensors"]));
}

#[test]
fn a_resume_says_where_it_goes_on() {
    let (_folder, out) = out();
    train(&out, &["--epochs", "1", "-q"]).assert().success();
    let resumed = |epochs: &str| {
        let mut command = tch_mnist(&["train", "--epochs", epochs, "--resume"]);
        String::from_utf8(command.arg(&out).assert().success().get_output().stderr.clone()).unwrap()
    };
    for (epochs, sentence) in [("1", "all of its epochs are done already"), ("2", "it goes on with epoch 1")] {
        let said = resumed(epochs);
        assert!(said.contains(sentence), "{said}");
    }
    let (_folder, other) = self::out();
    train(&other, &["--target-accuracy", "1", "-q"]).assert().success();
    let output = tch_mnist(&["train", "--resume", other.to_str().unwrap()]).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("resumed: it has reached --target-accuracy already"), "{said}");

    let (said, code) = failure(tch_mnist(&["train", "--epochs", "1", "--resume"]).arg(&out));
    assert!(code == 1 && said.contains("--epochs 1 is too few; give ") && said.contains(" or more"), "{said}");
}

#[test]
fn a_schedule_that_is_stretched_keeps_the_rates_that_were_used() {
    let (_folder, out) = out();
    train(&out, &["--epochs", "1", "--schedule", "one-cycle", "-q"]).assert().success();
    let before = std::fs::read_to_string(out.join("losses.csv")).unwrap();
    let args = ["train", "--epochs", "2", "--resume", out.to_str().unwrap()];
    let output = tch_mnist(&args).assert().success().get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("one-cycle is spread over 2 epochs now instead of 1"), "{stderr}");
    assert!(std::fs::read_to_string(out.join("losses.csv")).unwrap().starts_with(&before));
}

#[test]
fn a_schedule_that_is_stretched_within_the_first_epoch_says_so_too() {
    let (_folder, out) = out();
    let mut child = start_or_resume(&out, SGD);
    wait_for_checkpoint(&mut child, &out);
    signal(&child, "TERM");
    child.wait().unwrap();
    let args = ["train", "--epochs", "4", "--resume", out.to_str().unwrap()];
    let output = tch_mnist(&args).assert().success().get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("one-cycle is spread over 4 epochs now instead of 3"), "{stderr}");
}

#[test]
fn ctrl_c_that_ends_the_whole_pipe_is_an_interruption() {
    let (_folder, out) = out();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args(["train", "--data", DATA, "--device", "cpu", "--log-format", "json", "--epochs", "1000", "--out"])
        .arg(&out)
        .args(["--limit-train", "12800", "--limit-test", "128", "--checkpoint-every", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_checkpoint(&mut child, &out);
    drop(child.stdout.take());
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.contains("--resume")), (Some(130), true), "{stderr}");
}

#[test]
fn what_a_resume_cannot_keep_is_refused() {
    let (_folder, run) = out();
    train(&run, &["--epochs", "1", "-q"]).assert().success();
    let resume = |args: &[&str]| failure(tch_mnist(&["train", "--resume", run.to_str().unwrap()]).args(args));

    let (sentence, code) = resume(&["--lr", "0.5"]);
    assert_eq!(
        (sentence.contains("--lr cannot change when a run is resumed: it was 0.01"), code),
        (true, 2),
        "{sentence}"
    );

    let (sentence, code) = resume(&["--optimizer", "adam"]);
    let reason = "--optimizer cannot change when a run is resumed: it was \"sgd\"";
    assert_eq!((sentence.contains(reason), code), (true, 2), "{sentence}");

    // Another test file under the same name: one byte of one image differs.
    let data = tempfile::tempdir().unwrap();
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        std::os::unix::fs::symlink(Path::new(DATA).join("mnist").join(name), data.path().join(name)).unwrap();
    }
    let name = "t10k-images-idx3-ubyte";
    let mut bytes = std::fs::read(Path::new(DATA).join("mnist").join(name)).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(data.path().join(name), bytes).unwrap();
    let (sentence, code) = resume(&["--epochs", "2", "--data", data.path().to_str().unwrap()]);
    assert_eq!((sentence.contains(name) && sentence.contains("SHA-256 differs"), code), (true, 1), "{sentence}");

    let (sentence, code) = failure(&mut tch_mnist(&["train", "--resume", "/nowhere"]));
    assert_eq!((sentence.contains("--resume /nowhere"), code), (true, 1), "{sentence}");

    for (format, reason) in [(99, "the format 99 of a newer tch-mnist"), (5, "the format 5 of an older tch-mnist")] {
        rewrite_metadata(&run.join("checkpoint.safetensors"), |state| state["format"] = format.into());
        let (sentence, code) = resume(&[]);
        assert_eq!((sentence.contains(reason), code), (true, 1), "{sentence}");
    }
}

#[test]
fn a_run_keeps_the_device_and_the_kernels_that_were_asked_for() {
    let (_folder, run) = out();
    train(&run, &["--epochs", "1", "-q", "--device", "auto"]).assert().success();
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("device = \"auto\"\n") && config.contains("kernels = \"auto\"\n"), "{config}");
    // The number of threads may decide about a last bit.
    assert!(!config.contains("threads = 0\n"), "{config}");
    // What they were in fact is in environment.json.
    let environment: Value = serde_json::from_slice(&std::fs::read(run.join("environment.json")).unwrap()).unwrap();
    assert!(["fused", "torch"].iter().any(|kernels| environment["kernels"] == *kernels), "{environment}");
    assert!(environment["device"].as_str().unwrap().starts_with("c"), "{environment}");
}

#[test]
fn a_run_goes_on_with_the_kernels_that_its_checkpoint_names() {
    // The second is a checkpoint of an older program, which stored what `auto` stood for.
    for (asked, stored) in [("torch", "torch"), ("auto", "fused")] {
        let ((_folder, one), (_other_folder, other)) = (out(), out());
        train(&one, &["-q", "--kernels", asked]).assert().success();
        train(&other, &["-q", "--kernels", asked, "--epochs", "1"]).assert().success();
        rewrite_metadata(&other.join("checkpoint.safetensors"), |state| state["config"]["kernels"] = stored.into());
        tch_mnist(&["train", "-q", "--epochs", "2", "--resume"]).arg(&other).assert().success();
        // The weights files have the settings in their metadata; the last test's loss has all of their digits.
        let losses = |out: &Path| std::fs::read_to_string(out.join("losses.csv")).unwrap();
        assert_eq!(losses(&one), losses(&other), "{asked}");
        assert_eq!(metrics(&one), metrics(&other), "{asked}");
    }
}

#[test]
fn a_run_that_began_on_a_gpu_goes_on_on_a_cpu() {
    let ((_folder, one), (_other_folder, other)) = (out(), out());
    train(&one, &["-q"]).assert().success();
    train(&other, &["-q", "--epochs", "1"]).assert().success();
    rewrite_metadata(&other.join("checkpoint.safetensors"), |state| {
        state["config"]["device"] = "cuda:99".into();
        state["config"]["precision"] = "bf16".into();
    });
    let resume = |args: &[&str]| {
        let mut command = tch_mnist(&["train", "-q", "--epochs", "2", "--resume", other.to_str().unwrap()]);
        command.args(args);
        command
    };
    let (sentence, code) = failure(&mut resume(&[]));
    assert_eq!((sentence.starts_with("error: --device cuda"), code), (true, 1), "{sentence}");
    let (sentence, code) = failure(&mut resume(&["--device", "cpu"]));
    let expected = "error: --precision bf16 needs CUDA: use --precision float32, or --device cuda";
    assert_eq!((sentence.as_str(), code), (expected, 2));
    resume(&["--device", "cpu", "--precision", "float32"]).assert().success();
    assert_same_run(&one, &other);
}

/// Changes the JSON that a checkpoint keeps in its metadata.
fn rewrite_metadata(path: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let text = header["__metadata__"]["tch-mnist-checkpoint"].as_str().unwrap();
    let mut state: Value = serde_json::from_str(text).unwrap();
    change(&mut state);
    header["__metadata__"]["tch-mnist-checkpoint"] = state.to_string().into();
    let header = header.to_string();
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&bytes[8 + length..]);
    std::fs::write(path, changed).unwrap();
}
