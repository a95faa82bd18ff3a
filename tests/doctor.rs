//! `doctor` and `--version`: what is found, and why CUDA is not used. A driver of our own stands in for NVIDIA's, so
//! that each way to have no CUDA is seen on every machine.

mod common;

use common::{DATA, failure, json_lines, lists, out, stdout, tch_mnist};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// The folder of a libcuda.so.1 that answers as the environment tells it, with one device.
static DRIVER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand_in/driver.c");
    let mut compiler = Command::new("g++");
    compiler.args(["-x", "c", "-shared", "-fPIC", source, "-o"]).arg(library(&folder));
    assert!(compiler.status().unwrap().success());
    folder
});

fn library(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("libcuda.so.1")
}

fn doctor(data: &Path) -> Value {
    let data = data.to_str().unwrap();
    json_lines(&stdout(&mut tch_mnist(&["doctor", "--log-format", "json", "--data", data]))).remove(0)
}

/// What `doctor` says of CUDA, as text and as JSON, with the driver that `environment` describes.
fn with_driver(environment: &[(&str, &str)]) -> (String, Value) {
    let run = |args: &[&str]| {
        let mut command = tch_mnist(args).process();
        command.env_remove("CUDA_VISIBLE_DEVICES").env("LD_LIBRARY_PATH", DRIVER.path());
        stdout(command.envs(environment.iter().copied()))
    };
    let nowhere = DRIVER.path().to_str().unwrap();
    let text = run(&["doctor", "--data", nowhere]);
    let json = json_lines(&run(&["doctor", "--data", nowhere, "--log-format", "json"])).remove(0);
    (text, json["cuda"].clone())
}

/// Asserts that both forms of the report give this reason.
fn assert_not_usable(environment: &[(&str, &str)], reason: &str) {
    let (text, cuda) = with_driver(environment);
    assert_eq!(cuda["usable"], false, "{cuda}");
    assert_eq!(cuda["reason"], reason);
    assert!(text.contains(&format!("CUDA           not usable: {reason}\n")), "{text}");
    assert!(text.contains(&format!("to do: {}\n", cuda["remedy"].as_str().unwrap())), "{text}");
}

/// The version of a package in Cargo.lock.
fn locked(name: &str) -> String {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let package = lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n"))).unwrap();
    package.split("version = \"").nth(1).unwrap().split('"').next().unwrap().to_string()
}

#[test]
fn version_names_the_program_tch_and_libtorch() {
    let expected = format!("tch-mnist {} (tch {}, libtorch 2.11.0)\n", env!("CARGO_PKG_VERSION"), locked("tch"));
    assert_eq!(stdout(&mut tch_mnist(&["--version"])), expected);
    assert!(stdout(&mut tch_mnist(&["doctor", "--data", DATA])).starts_with(&expected));
}

#[test]
fn the_library_is_the_one_that_is_loaded() {
    let report = doctor(Path::new(DATA));
    let library = Path::new(report["libtorch"]["library"].as_str().unwrap()).canonicalize().unwrap();
    assert!(library.is_file());
    let linked = Command::new("ldd").arg(env!("CARGO_BIN_EXE_tch-mnist")).output().unwrap();
    let linked = String::from_utf8(linked.stdout).unwrap();
    let line = linked.lines().find(|line| line.contains("libtorch_cpu.so")).unwrap();
    let path = line.split_whitespace().nth(2).unwrap();
    assert_eq!(library, Path::new(path).canonicalize().unwrap());
    // libtorch's CUDA half takes a third of the start: it is loaded where there is a driver for it.
    assert!(!linked.contains("libtorch_cuda.so"), "{linked}");
    let cuda = &report["cuda"];
    assert_eq!(cuda["runtime"].is_string(), !cpu_build() && cuda["driver"].is_string(), "{cuda}");
    assert!(report["cpu"]["threads"].as_i64().unwrap() >= 1);
}

#[test]
fn data_is_found_and_compared_with_what_was_published() {
    let report = doctor(Path::new(DATA));
    let mnist = &report["data"][0];
    assert_eq!(mnist["dataset"], "mnist");
    for (file, count) in mnist["files"].as_array().unwrap().iter().zip([60_000, 60_000, 10_000, 10_000]) {
        assert_eq!((&file["ok"], file["count"].as_i64()), (&Value::Bool(true), Some(count)), "{file}");
    }

    let (_folder, data) = out();
    std::fs::create_dir(&data).unwrap();
    let labels = Path::new(DATA).join("mnist/t10k-labels-idx1-ubyte");
    let mut bytes = std::fs::read(labels).unwrap();
    bytes[8] ^= 1;
    std::fs::write(data.join("t10k-labels-idx1-ubyte"), bytes).unwrap();
    std::fs::write(data.join("t10k-images-idx3-ubyte"), "no images").unwrap();
    let text = stdout(&mut tch_mnist(&["doctor", "--data", data.to_str().unwrap()]));
    assert!(text.contains("train-images-idx3-ubyte        0 images, missing\n"), "{text}");
    assert!(text.contains("10000 labels, sha256 differs from the published one\n"), "{text}");
    assert!(!text.contains("sha256 ok"), "{text}");
    assert!(!text.contains("fashion-mnist"), "{text}");

    let (_folder, nowhere) = out();
    let text = stdout(&mut tch_mnist(&["doctor", "--data", nowhere.to_str().unwrap()]));
    let lists = lists();
    for dataset in lists["datasets"].as_array().unwrap().iter().map(|dataset| dataset["name"].as_str().unwrap()) {
        let folder = nowhere.join(dataset);
        let to_do = format!("tch-mnist download --dataset {dataset} --data {}", nowhere.display());
        let line = format!("not in {} ({to_do})\n", folder.display());
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn every_choice_that_is_listed_is_one_that_train_takes() {
    let choices = doctor(Path::new(DATA))["choices"].clone();
    for (key, least) in [("optimizer", 4), ("schedule", 9), ("recipe", 3), ("kernels", 3)] {
        let names = choices[key].as_array().unwrap();
        assert!(names.len() >= least, "{key}: {names:?}");
        for name in names {
            let flag = format!("--{key}={}", name.as_str().unwrap());
            // Some go by images that are held out.
            tch_mnist(&["train", "--print-config", "--validation=100", &flag]).assert().success();
        }
    }
    assert!(choices["lr"].is_null());
}

#[test]
fn an_unknown_flag_is_refused() {
    let (sentence, code) = failure(&mut tch_mnist(&["doctor", "--devices"]));
    assert!(sentence.contains("unexpected argument '--devices'"), "{sentence}");
    assert_eq!(code, 2);
}

/// Whether this libtorch has a CUDA half; without one `doctor` says nothing about drivers.
fn cpu_build() -> bool {
    let library = doctor(Path::new(DATA))["libtorch"]["library"].clone();
    !Path::new(library.as_str().unwrap()).with_file_name("libtorch_cuda.so").exists()
}

#[test]
fn a_cpu_build_of_libtorch_is_the_reason_before_any_driver() {
    if cpu_build() {
        assert_not_usable(&[], "no libtorch_cuda next to libtorch (CPU build)");
    } else {
        let (text, _) = with_driver(&[]);
        assert!(text.contains("libtorch_cuda  loaded: CUDA 1"), "{text}");
    }
}

#[test]
fn a_driver_for_an_older_cuda() {
    if cpu_build() {
        return;
    }
    let runtime = with_driver(&[]).1["runtime"].as_str().unwrap().to_string();
    let reason = format!("the driver supports CUDA 11.8 and libtorch needs {runtime}");
    assert_not_usable(&[("FAKE_VERSION", "11080")], &reason);
}

#[test]
fn a_driver_without_a_device() {
    if cpu_build() {
        return;
    }
    assert_not_usable(&[("FAKE_RESULT", "100")], "driver found, no device");
    assert_not_usable(&[("FAKE_DEVICES", "0")], "driver found, no device");
    let hidden = [("FAKE_RESULT", "100"), ("CUDA_VISIBLE_DEVICES", "7")];
    assert_not_usable(&hidden, "driver found, no device: CUDA_VISIBLE_DEVICES is '7'");
}

#[test]
fn a_driver_that_does_not_start() {
    if cpu_build() {
        return;
    }
    let reason = "the driver does not start: what went wrong (cuInit: 803)";
    assert_not_usable(&[("FAKE_RESULT", "803")], reason);
}

#[test]
fn devices_are_listed_with_their_memory() {
    // libtorch itself cannot use this driver, which only answers questions.
    let (text, cuda) = with_driver(&[("FAKE_DEVICES", "2")]);
    assert_eq!(cuda["driver"], "99.0");
    assert_eq!(cuda["devices"][1]["index"], 1);
    assert_eq!(cuda["devices"][1]["total_memory"], 3u64 << 30);
    assert!(text.contains("cuda:1         Imaginary GPU 1, 3.0 GiB, compute capability 9.2\n"), "{text}");
    assert_eq!(cuda["usable"], false);
}

#[test]
fn a_library_that_is_no_driver() {
    if cpu_build() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(library(&folder), "not a library").unwrap();
    let mut command = tch_mnist(&["doctor", "--data", DATA, "--log-format", "json"]);
    let report = json_lines(&stdout(&mut command.env("LD_LIBRARY_PATH", folder.path()))).remove(0);
    assert_eq!(report["cuda"]["usable"], false);
    assert!(report["cuda"]["driver"].is_null());
    assert!(report["cuda"]["reason"].as_str().unwrap().contains("libcuda.so.1"));
}
