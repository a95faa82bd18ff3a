//! The given shape: tch's `nn::Sequential` mirrors the PyTorch model layer for layer, tch's loader reads the data, and
//! `examples/era_s6.rs` does all of it on plain tch.

mod common;

use common::*;
use std::path::Path;
use std::process::Command;
use tch::nn::{ModuleT, SequentialT, VarStore};
use tch::vision::mnist::load_dir;
use tch::{Device, Kind, Tensor};
use tch_mnist::weights::WeightsFile;
use tch_mnist::{Architecture, Data, Dataset, Kernels, Net, StateDict};

/// What the example prints, and the weights that it writes.
fn run_example(out: &Path, args: &[&str]) -> String {
    // cargo builds examples beside the folder of the tests.
    let tests = std::env::current_exe().unwrap();
    let example = tests.ancestors().nth(2).unwrap().join("examples/era_s6");
    let mut command = Command::new(example);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("OMP_NUM_THREADS", "2").args(args).arg("--out").arg(out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn original(kernels: Kernels) -> Net {
    Net::new(Device::Cpu, &Architecture::original(0.05), kernels)
}

fn read(file: &Path) -> StateDict {
    WeightsFile::open(file).unwrap().read(None, &original(Kernels::Torch).state_dict()).unwrap()
}

fn assert_same_tensors(one: &StateDict, other: &StateDict) {
    assert_eq!(one.0.len(), 38);
    for ((key, tensor), (name, expected)) in one.0.iter().zip(&other.0) {
        assert_eq!(key, name);
        assert!(tensor.equal(expected), "{key}");
    }
}

#[test]
fn the_example_trains_to_the_bits_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, out) = (folder.path().join("model.pt"), folder.path().join("run"));
    // The program unpacks the data that the example reads.
    let settings =
        ["--epochs", "2", "--limit-train", "6400", "--device", "cpu", "--kernels", "torch", "--threads", "2"];
    let mut program = tch_mnist(&["train", "-q", "--report=false", "--data", DATA, "--out"]);
    let printed = stdout(&mut program.arg(&out).args(settings).process());
    assert_eq!(run_example(&weights, &["--epochs", "2", "--images", "6400"]), printed);
    assert_same_tensors(&read(&weights), &read(&out.join("model.pt")));
}

#[test]
fn the_net_is_a_sequential_of_tch_with_a_module_per_unit() {
    let images = Tensor::rand([3, 1, 28, 28], (Kind::Float, Device::Cpu));
    // Without fused kernels a unit is a layer; they take two to four of the original's layers at a time.
    for (kernels, units) in [(Kernels::Torch, 27), (Kernels::Fused, 8)] {
        let net = original(kernels);
        let sequential: &SequentialT = net.sequential();
        assert_eq!(sequential.len(), units);
        let logits = sequential.forward_t(&images, false).view([-1, 10]);
        let (own, tch) = (net.forward_t(&images, false), logits.log_softmax(-1, Kind::Float));
        assert!(own.allclose(&tch, 1e-5, 1e-6, false));
        assert_eq!(sequential.forward_all_t(&images, false, None).len() as i64, units);
    }
}

#[test]
fn the_store_of_the_net_holds_every_tensor_under_its_key_in_pytorch() {
    let net = original(Kernels::Fused);
    let store: &VarStore = net.var_store();
    assert_eq!(store.trainable_variables().len(), 20);
    assert_same_tensors(&StateDict::of(store, net.architecture()).unwrap(), &net.state_dict());
    let small = Architecture::parse("fc: Flatten(), Linear(784, 10)", &Default::default()).unwrap();
    let error = StateDict::of(store, &small).unwrap_err().to_string();
    assert_eq!(error, "the store has no fc.1.weight");
}

#[test]
fn a_store_that_tch_saved_is_read_by_evaluate_and_by_tch() {
    let folder = tempfile::tempdir().unwrap();
    tch::manual_seed(5);
    let net = original(Kernels::Fused);
    let evaluate = |weights: &Path| {
        let flags = ["--data", DATA, "--limit-test", "500", "--device", "cpu"];
        stdout(tch_mnist(&["evaluate", "-q", "--weights"]).arg(weights).args(flags))
    };
    let mut lines = Vec::new();
    for name in ["net.ot", "net.safetensors"] {
        let file = folder.path().join(name);
        net.var_store().save(&file).unwrap();
        lines.push(evaluate(&file));
        assert_same_tensors(&read(&file), &net.state_dict());
        // As a program on tch alone would.
        let named = if name.ends_with(".ot") { Tensor::load_multi(&file) } else { Tensor::read_safetensors(&file) };
        let named: std::collections::HashMap<_, _> = named.unwrap().into_iter().collect();
        assert_eq!(named.len(), 38);
        for (key, tensor) in net.state_dict().0 {
            assert!(named[&key].equal(&tensor), "{key} in {name}");
        }
    }
    assert_eq!(lines[0], lines[1]);
}

#[test]
fn the_program_trains_on_what_tch_loads_from_the_folder() {
    let data = Data::load(Path::new(DATA), Dataset::Mnist, Device::Cpu, 0, 0).unwrap();
    let loaded = load_dir(Path::new(DATA).join("mnist")).unwrap();
    let pixels = data.train.images.view([-1, 784]).to_kind(Kind::Float) / 255.0;
    assert!(pixels.equal(&loaded.train_images));
    assert!(data.train.labels.equal(&loaded.train_labels));
    assert!(data.measured().labels.equal(&loaded.test_labels));
}

#[test]
fn the_readme_shows_the_code_of_the_example() {
    let [readme, example] = [include_str!("../README.md"), include_str!("../examples/era_s6.rs")];
    let shown = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let has = |line: &str| example.lines().any(|known| known.trim() == line.trim());
    assert!(shown.lines().count() > 25);
    for line in shown.lines() {
        assert!(has(line), "{line:?} is not in the example");
    }
    assert!(example.lines().count() <= 110);
}
