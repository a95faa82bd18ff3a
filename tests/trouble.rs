//! Trouble around a run: a full disk, a folder that goes away, memory that is not returned.

mod common;

use common::*;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Runs a shell script as root of a mount namespace of its own, with a small file system mounted at `$disk`; the
/// program is `$program`. `None` if the system does not allow it.
fn on_a_small_disk(script: &str) -> Option<(String, i32)> {
    let allowed = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this system gives no mount namespaces (unshare -rm)");
        return None;
    }
    let disk = tempfile::tempdir().unwrap();
    let program = format!(
        "{} train --data {DATA} --device cpu -q --report=false --tensorboard=false",
        assert_cmd::cargo::cargo_bin!("tch-mnist").display()
    );
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &format!("mount -t tmpfs -o size=1m tmpfs $disk && {script}")])
        .env("disk", disk.path())
        .env("program", program)
        .output()
        .unwrap();
    Some((String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap()))
}

#[test]
fn a_full_disk_keeps_the_checkpoint_before_it() {
    // Enough is left for the files of the first epoch and one checkpoint, not for two at a time.
    let script = "$program --limit-train 1280 --limit-test 500 --epochs 1 --out $disk/run > $disk/out && \
                  cp $disk/run/checkpoint.safetensors /tmp/kept.$$ && head -c 1m /dev/zero > $disk/filler; \
                  $program --resume $disk/run --epochs 2 > /dev/null; code=$?; \
                  cmp $disk/run/checkpoint.safetensors /tmp/kept.$$ || code=99; rm -f /tmp/kept.$$; exit $code";
    if let Some((stderr, code)) = on_a_small_disk(script) {
        let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((errors.len(), code), (1, 1), "{stderr}");
        assert!(errors[0].contains("cannot be written"), "{stderr}");
    }
}

#[test]
fn a_folder_that_becomes_read_only_ends_a_run_with_one_sentence() {
    let script = "$program --limit-train 1280 --limit-test 500 --epochs 1000 --out $disk/run > /dev/null & \
                  while [ ! -e $disk/run/checkpoint.safetensors ]; do sleep 0.1; done; \
                  mount --bind $disk/run $disk/run && mount -o remount,bind,ro $disk/run || kill $!; wait $!";
    if let Some((stderr, code)) = on_a_small_disk(script) {
        assert_eq!((stderr.lines().count(), code), (1, 1), "{stderr}");
        assert!(stderr.contains("cannot be written") && stderr.contains("--resume"), "{stderr}");
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_of_the_file() {
    let (_folder, out) = out();
    let program = assert_cmd::cargo::cargo_bin!("tch-mnist").display().to_string();
    let run = |args: &str| {
        let output = Command::new("sh").args(["-c", &format!("ulimit -f 16; exec {program} {args}")]).output().unwrap();
        (String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let args = format!(
        "train -q --device cpu --limit-train 640 --limit-test 100 --data {DATA} --epochs 1 --resume auto --out {}",
        out.display()
    );
    let (stderr, code) = run(&args);
    let expected = format!("error: {} cannot be written: ", out.join("checkpoint.safetensors").display());
    assert!(stderr.starts_with(&expected) && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(code, Some(1));
    assert!(names(&out).iter().all(|name| !name.ends_with(".tmp")), "{:?}", names(&out));
    // No epoch was saved, so the same command begins again.
    tch_mnist(&args.split(' ').collect::<Vec<_>>()).assert().success();
}

#[test]
fn a_run_that_cannot_begin_leaves_no_folder_of_runs() {
    let here = tempfile::tempdir().unwrap();
    let mut command = tch_mnist(&["train", "--data", DATA, "--init", "nowhere.pt"]);
    let (sentence, code) = failure(&mut command.current_dir(here.path()));
    assert!(sentence.contains("nowhere.pt") && code == 1, "{sentence}");
    assert_eq!(names(here.path()), Vec::<String>::new());
    // What was there stays.
    std::fs::create_dir(here.path().join("runs")).unwrap();
    let mut command = tch_mnist(&["train", "--data", DATA, "--init", "nowhere.pt", "--out", "runs/a/b"]);
    failure(&mut command.current_dir(here.path()));
    assert_eq!(names(here.path()), ["runs"]);
    assert_eq!(names(&here.path().join("runs")), Vec::<String>::new());
}

/// A run of many short epochs whose JSON lines are read as they come.
fn many_epochs(out: &Path, epochs: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"))
        .args(["train", "--data", DATA, "--device", "cpu", "-q", "--log-format", "json", "--epochs", epochs])
        // 20 steps an epoch: glibc's heap has its final layout before the second one ends.
        .args(["--limit-train", "640", "--limit-test", "128", "--batch-size", "32", "--out"])
        .arg(out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

#[test]
fn a_folder_that_is_deleted_ends_a_run_with_one_sentence() {
    let (_folder, out) = out();
    let (child, mut lines) = many_epochs(&out, "1000");
    lines.read_line(&mut String::new()).unwrap();
    // The run may put a file into a folder that is being emptied.
    while out.exists() {
        let _ = std::fs::remove_dir_all(&out);
    }
    // The pipe is read to its end, so that nothing but the folder stops the run.
    let reader = std::thread::spawn(move || lines.lines().map(Result::unwrap).collect::<Vec<_>>().join("\n"));
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((stderr.lines().count(), output.status.code()), (1, Some(1)), "{stderr}");
    assert!(stderr.contains(out.to_str().unwrap()) && stderr.contains("cannot be written"), "{stderr}");
    // The last line of JSON says it too.
    let lines = json_lines(&reader.join().unwrap());
    let last = lines.last().unwrap();
    assert!(lines.len() < 1000 && last["status"] == "failed", "{last}");
    assert_eq!(format!("error: {}", last["error"].as_str().unwrap()), stderr.trim_end());
}

#[test]
fn memory_does_not_grow_from_epoch_to_epoch() {
    let (_folder, out) = out();
    let (mut child, lines) = many_epochs(&out, "50");
    let resident = |child: &Child| -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mut at = Vec::new();
    for (epoch, line) in lines.lines().take(49).enumerate() {
        line.unwrap();
        if epoch == 2 || epoch == 48 {
            at.push(resident(&child));
        }
    }
    child.wait().unwrap();
    let growth = at[1] / at[0] - 1.0;
    eprintln!("resident memory: {} MB, then {} MB: {:+.2} %", at[0] / 1024.0, at[1] / 1024.0, 100.0 * growth);
    assert!(growth < 0.02, "resident memory grew by {:.1} %", 100.0 * growth);
}
