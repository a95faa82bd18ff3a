//! Weights files as this program writes them, and `export` between them.

mod common;

use common::{failure, names, stdout, tch_mnist};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{CModule, Device, Kind, Tensor};
use tch_mnist::weights::{self, WeightsFile};
use tch_mnist::{Architecture, Kernels, Net, StateDict};

const FORMATS: [&str; 6] = ["pt", "pth", "safetensors", "onnx", "pt2", "npz"];

/// The files of [`files`], sorted.
const FILES: [&str; 6] = ["model.npz", "model.onnx", "model.pt", "model.pt2", "model.pth", "model.safetensors"];

/// A net that has seen a batch, so that its running statistics are not those of a new net.
fn net() -> Net {
    let net = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Torch);
    let _ = tch::no_grad(|| net.forward_t(&Tensor::randn([16, 1, 28, 28], (Kind::Float, Device::Cpu)), true));
    net
}

#[test]
fn a_net_that_is_named_gets_the_dropout_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (&files(&net(), folder.path())[1], folder.path().join("to.safetensors"));
    tch_mnist(&["export", "--net", "original", "--dropout", "0.3", "--weights"])
        .arg(from)
        .arg("--to")
        .arg(&to)
        .assert()
        .success();
    // The net is text in the file's header.
    let file = std::fs::read(&to).unwrap();
    assert!(String::from_utf8_lossy(&file).contains("Dropout(p=0.3"));
}

/// A file of each format of one net in a folder.
fn files(net: &Net, folder: &Path) -> Vec<PathBuf> {
    let metadata = BTreeMap::from([("config".to_string(), "epochs = 15\n".to_string())]);
    let write = |format: &&str| {
        let path = folder.join(format!("model.{format}"));
        weights::write(&path, &net.state_dict(), net.architecture(), &metadata).unwrap();
        path
    };
    FORMATS.iter().map(write).collect()
}

fn assert_same(one: &StateDict, other: &StateDict) {
    let keys = |weights: &StateDict| weights.0.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(one), keys(other));
    for ((key, a), (_, b)) in one.0.iter().zip(&other.0) {
        assert_eq!((a.kind(), a.size()), (b.kind(), b.size()), "{key}");
        assert!(a.equal(b), "{key} differs");
    }
}

#[test]
fn every_format_becomes_every_other_without_a_changed_bit() {
    let folder = tempfile::tempdir().unwrap();
    let net = net();
    for from in files(&net, folder.path()) {
        for ending in FORMATS {
            let to = folder.path().join(format!("copy.{ending}"));
            let said = stdout(tch_mnist(&["export", "--weights"]).arg(&from).arg("--to").arg(&to));
            assert!(said.starts_with(to.to_str().unwrap()) && said.contains("38 tensors, 11392 parameters"), "{said}");
            // ONNX has no counts of batches, and metadata that safetensors and ONNX alone have.
            let mut expected = net.state_dict();
            if ending == "onnx" || from.ends_with("model.onnx") {
                expected
                    .0
                    .iter_mut()
                    .filter(|(_, it)| it.kind() == Kind::Int64)
                    .for_each(|(_, it)| *it = it.zeros_like());
            }
            let copy = WeightsFile::open(&to).unwrap().read(None, &net.state_dict()).unwrap();
            assert_same(&copy, &expected);
            if !["safetensors", "onnx"].contains(&ending) && !from.ends_with("model.onnx") {
                let (copy, original) =
                    (std::fs::read(&to), std::fs::read(folder.path().join(format!("model.{ending}"))));
                assert!(copy.unwrap() == original.unwrap(), "{} differs from model.{ending}", to.display());
            }
        }
    }
}

#[test]
fn the_same_weights_give_the_same_bytes_in_any_folder() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let net = net();
    for (a, b) in files(&net, one.path()).iter().zip(files(&net, other.path())) {
        assert!(std::fs::read(a).unwrap() == std::fs::read(&b).unwrap(), "{} differs", b.display());
    }
    assert_eq!(names(one.path()), FILES);
}

#[test]
fn the_torchscript_module_computes_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let net = net();
    let path = &files(&net, folder.path())[0];
    let module = CModule::load(path).unwrap();
    let images = Tensor::randn([128, 1, 28, 28], (Kind::Float, Device::Cpu));
    let _no_grad = tch::no_grad_guard();
    let expected = net.forward_t(&images, false);
    // The first calls are observed, the later ones optimised.
    for call in 0..4 {
        assert!(module.forward_ts(&[&images]).unwrap().equal(&expected), "call {call} differs");
    }
}

#[test]
fn the_metadata_of_safetensors_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let from = &files(&net(), folder.path())[2];
    let to = folder.path().join("copy.safetensors");
    stdout(tch_mnist(&["export", "--weights"]).arg(from).arg("--to").arg(&to));
    let file = WeightsFile::open(&to).unwrap();
    let metadata = file.metadata();
    assert_eq!(metadata.get("config").map(String::as_str), Some("epochs = 15\n"));
    assert_eq!(metadata.get("format").map(String::as_str), Some("pt"));
}

#[test]
fn a_file_that_is_there_is_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let from = &files(&net(), folder.path())[1];
    let to = folder.path().join("copy.pth");
    std::fs::write(&to, "something else").unwrap();
    let bad = folder.path().join("bad.pth");
    std::fs::write(&bad, "no weights").unwrap();
    failure(tch_mnist(&["export", "--weights"]).arg(&bad).arg("--to").arg(&to));
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "something else");
    stdout(tch_mnist(&["export", "--weights"]).arg(from).arg("--to").arg(&to));
    assert!(std::fs::read(&to).unwrap() == std::fs::read(from).unwrap());
    assert_eq!(names(folder.path()), [&["bad.pth", "copy.pth"], &FILES[..]].concat());
    // In place, too.
    stdout(tch_mnist(&["export", "--weights"]).arg(&to).arg("--to").arg(&to));
    assert!(std::fs::read(&to).unwrap() == std::fs::read(from).unwrap());
}

#[test]
fn a_wrong_command_line_is_told_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let from = files(&net(), folder.path())[0].to_str().unwrap().to_string();
    let to = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    for (to, dropout, expected, code) in [
        (
            to("model.h5"),
            "0.05",
            "model.h5 does not end in .pt (TorchScript module), .pth (state_dict), .safetensors",
            2,
        ),
        (to("model"), "0.05", "model does not end in .pt", 2),
        (to("copy.pt"), "1.5", "--dropout takes a share from 0", 2),
        (to("copy.pt"), "nan", "--dropout takes a share from 0", 2),
        (to("no/such/folder/copy.pt"), "0.05", "copy.pt cannot be written: ", 1),
    ] {
        let args = ["export", "--weights", &from, "--to", &to, "--dropout", dropout];
        let (sentence, exit) = failure(&mut tch_mnist(&args));
        assert!(sentence.contains(expected) && exit == code, "{exit} {sentence}");
    }
    assert_eq!(names(folder.path()), FILES);
}
