//! Weights files as this program writes them, and `export` between them.

mod common;

use common::{DATA, Program, failure, names, stdout, tch_mnist};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{CModule, Device, Kind, Tensor};
use tch_mnist::weights::{self, WeightsFile};
use tch_mnist::{Architecture, Kernels, Net, StateDict};
use torch_weights::onnx::{Constant, Graph, Model, OperatorSet, Property};
use torch_weights::{Array, Dtype, Room};

/// The names of the files of [`files`], sorted.
fn file_names() -> Vec<String> {
    let mut names: Vec<String> = weights::written().map(|format| format!("model.{}", format.endings[0])).collect();
    names.sort();
    names
}

/// A net that has seen a batch, so that its running statistics are not those of a new net.
fn net() -> Net {
    let net = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Torch);
    let _ = tch::no_grad(|| net.forward_t(&Tensor::randn([16, 1, 28, 28], (Kind::Float, Device::Cpu)), true));
    net
}

#[test]
fn a_net_that_is_named_gets_the_dropout_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (file(&net(), folder.path(), "pth"), folder.path().join("to.safetensors"));
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

/// A file of a net in a folder.
fn file(net: &Net, folder: &Path, ending: &str) -> PathBuf {
    let metadata = BTreeMap::from([("config".to_string(), "epochs = 15\n".to_string())]);
    let path = folder.join(format!("model.{ending}"));
    weights::write(&path, &net.state_dict(), net.architecture(), &metadata).unwrap();
    path
}

/// A file of each format of one net in a folder.
fn files(net: &Net, folder: &Path) -> Vec<PathBuf> {
    weights::written().map(|format| file(net, folder, format.endings[0])).collect()
}

/// The state_dict of a net after it was in a file without counts of batches, if it was.
fn kept(net: &Net, batch_counts: bool) -> StateDict {
    let zeroed = |(key, tensor): (String, Tensor)| match tensor.kind() {
        Kind::Int64 if !batch_counts => (key, tensor.zeros_like()),
        _ => (key, tensor),
    };
    StateDict(net.state_dict().0.into_iter().map(zeroed).collect())
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
    let counts = net.state_dict().0.iter().filter(|(_, tensor)| tensor.kind() == Kind::Int64).count();
    for (from, source) in files(&net, folder.path()).iter().zip(weights::written()) {
        for format in weights::written() {
            let ending = format.endings[0];
            let to = folder.path().join(format!("copy.{ending}"));
            let (said, log) = said(tch_mnist(&["export", "--weights"]).arg(from).arg("--to").arg(&to));
            let tensors = 38 - if format.batch_counts { 0 } else { counts };
            let expected = format!("{}: {}, {tensors} tensors, 11392 parameters\n", to.display(), format.title);
            // The program does not warn about files of its own.
            assert_eq!((said, log), (expected, String::new()));
            let copy = WeightsFile::open(&to).unwrap().read(None, &net.state_dict()).unwrap();
            assert_same(&copy, &kept(&net, format.batch_counts && source.batch_counts));
            // A header has everything that the file copied says, which may be less than the net's own file does.
            if format.metadata != Room::Header && source.batch_counts {
                let (copy, original) =
                    (std::fs::read(&to), std::fs::read(folder.path().join(format!("model.{ending}"))));
                assert!(copy.unwrap() == original.unwrap(), "{} differs from model.{ending}", to.display());
            }
        }
    }
}

/// What a command prints on stdout and stderr.
fn said(command: &mut Program) -> (String, String) {
    let output = command.assert().success().get_output().clone();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_same_weights_give_the_same_bytes_in_any_folder() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let net = net();
    for (a, b) in files(&net, one.path()).iter().zip(files(&net, other.path())) {
        assert!(std::fs::read(a).unwrap() == std::fs::read(&b).unwrap(), "{} differs", b.display());
    }
    assert_eq!(names(one.path()), file_names());
}

#[test]
fn the_torchscript_module_computes_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let net = net();
    let module = CModule::load(file(&net, folder.path(), "pt")).unwrap();
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
    let from = file(&net(), folder.path(), "safetensors");
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
    let from = &file(&net(), folder.path(), "pth");
    let to = folder.path().join("copy.pth");
    std::fs::write(&to, "something else").unwrap();
    let bad = folder.path().join("bad.pth");
    std::fs::write(&bad, "no weights").unwrap();
    failure(tch_mnist(&["export", "--weights"]).arg(&bad).arg("--to").arg(&to));
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "something else");
    stdout(tch_mnist(&["export", "--weights"]).arg(from).arg("--to").arg(&to));
    assert!(std::fs::read(&to).unwrap() == std::fs::read(from).unwrap());
    assert_eq!(names(folder.path()), ["bad.pth", "copy.pth", "model.pth"]);
    // In place, too.
    stdout(tch_mnist(&["export", "--weights"]).arg(&to).arg("--to").arg(&to));
    assert!(std::fs::read(&to).unwrap() == std::fs::read(from).unwrap());
}

#[test]
fn a_wrong_command_line_is_told_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let from = file(&net(), folder.path(), "pt").to_str().unwrap().to_string();
    let to = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let formats: Vec<String> = weights::written().map(|it| format!(".{} ({})", it.endings[0], it.title)).collect();
    let (last, others) = formats.split_last().unwrap();
    let endings = format!("model.h5 does not end in {} or {last}", others.join(", "));
    for (to, dropout, expected, code) in [
        (to("model.h5"), "0.05", endings.as_str(), 2),
        (to("model"), "0.05", "model does not end in .pt", 2),
        (to("copy.pt"), "1.5", "--dropout takes a share from 0", 2),
        (to("copy.pt"), "nan", "--dropout takes a share from 0", 2),
        (to("no/such/folder/copy.pt"), "0.05", "copy.pt cannot be written: ", 1),
    ] {
        let args = ["export", "--weights", &from, "--to", &to, "--dropout", dropout];
        let (sentence, exit) = failure(&mut tch_mnist(&args));
        assert!(sentence.contains(expected) && exit == code, "{exit} {sentence}");
    }
    assert_eq!(names(folder.path()), ["model.pt"]);
}

/// A model as `torch.onnx.export` writes it today: every float of the state_dict, a constant of the graph, no counts.
fn exported_by_torch(net: &Net) -> Model {
    let floats = net.state_dict().0.into_iter().filter(|(_, tensor)| tensor.kind() == Kind::Float);
    let constant = |(key, tensor): (String, Tensor)| {
        let numbers = Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let shape = tensor.size().into_iter().map(|size| size as usize).collect();
        Constant::of(&key, &Array::new(Dtype::F32, shape, bytes).unwrap())
    };
    let mut initializer: Vec<Constant> = floats.map(constant).collect();
    let shape = [-1i64, 10].iter().flat_map(|size| size.to_le_bytes()).collect();
    initializer.push(Constant::of("val_83", &Array::new(Dtype::I64, vec![2], shape).unwrap()));
    Model {
        ir_version: 10,
        producer_name: "pytorch".into(),
        producer_version: "2.11.0".into(),
        graph: Some(Graph { name: "main_graph".into(), initializer, ..Graph::default() }),
        opset_import: vec![OperatorSet { domain: String::new(), version: 20 }],
        metadata_props: Vec::new(),
    }
}

#[test]
fn onnx_as_torch_exports_it_is_read_in_one_file_and_in_two() {
    let folder = tempfile::tempdir().unwrap();
    let net = net();
    let mut model = exported_by_torch(&net);
    let (one, two, to) = (folder.path().join("one.onnx"), folder.path().join("two.onnx"), folder.path().join("to.pth"));
    std::fs::write(&one, model.to_bytes()).unwrap();
    let mut data = Vec::new();
    for constant in &mut model.graph.as_mut().unwrap().initializer {
        let bytes = std::mem::take(&mut constant.raw_data);
        let property = |key: &str, value: String| Property { key: key.into(), value };
        constant.external_data = vec![
            property("location", "two.onnx.data".into()),
            property("offset", data.len().to_string()),
            property("length", bytes.len().to_string()),
        ];
        constant.data_location = 1;
        data.extend(bytes);
    }
    std::fs::write(&two, model.to_bytes()).unwrap();
    std::fs::write(folder.path().join("two.onnx.data"), &data).unwrap();
    for file in [&one, &two] {
        let (_, log) = said(tch_mnist(&["export", "--weights"]).arg(file).arg("--to").arg(&to));
        assert_eq!(log, "");
        let read = WeightsFile::open(&to).unwrap().read(None, &net.state_dict()).unwrap();
        assert_same(&read, &kept(&net, false));
    }
    std::fs::remove_file(folder.path().join("two.onnx.data")).unwrap();
    let (sentence, code) = failure(tch_mnist(&["export", "--weights"]).arg(&two).arg("--to").arg(&to));
    let expected = "two.onnx cannot be read as weights: the file two.onnx.data beside it: No such file or directory";
    assert!(sentence.contains(expected) && code == 1, "{sentence}");
}

#[test]
fn weights_in_several_files_are_read_by_their_index_or_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let net = net();
    let StateDict(tensors) = net.state_dict();
    let mut places = serde_json::Map::new();
    for (part, tensors) in tensors.chunks(20).enumerate() {
        let name = format!("model-0000{}-of-00002.safetensors", part + 1);
        Tensor::write_safetensors(tensors, folder.path().join(&name)).unwrap();
        places.extend(tensors.iter().map(|(key, _)| (key.clone(), name.clone().into())));
    }
    let index = folder.path().join("model.safetensors.index.json");
    let text = serde_json::json!({"metadata": {"total_size": 45_568}, "weight_map": places}).to_string();
    std::fs::write(&index, &text).unwrap();
    let export = |from: &Path| {
        let mut command = tch_mnist(&["export", "--weights"]);
        command.arg(from).arg("--to").arg(folder.path().join("to.pth"));
        command
    };
    for from in [&index, folder.path()] {
        assert_eq!(said(&mut export(from)).1, "");
        let read = WeightsFile::open(&folder.path().join("to.pth")).unwrap().read(None, &net.state_dict()).unwrap();
        assert_same(&read, &net.state_dict());
    }
    let part = folder.path().join("model-00002-of-00002.safetensors");
    let (sentence, _) = failure(&mut export(&part));
    assert!(sentence.contains("it is one of 2 files: name model.safetensors.index.json"), "{sentence}");
    std::fs::write(&index, text.replace("-00002-of", "-00003-of")).unwrap();
    let (sentence, _) = failure(&mut export(&index));
    let expected = "the file model-00003-of-00002.safetensors beside it: No such file or directory";
    assert!(sentence.contains(expected), "{sentence}");
    std::fs::write(&index, text.replace("convblock8.0.weight", "fc.weight")).unwrap();
    let (sentence, _) = failure(&mut export(&index));
    assert!(sentence.contains("its index names fc.weight, which is in no file"), "{sentence}");
}

#[test]
fn a_net_too_long_for_the_comment_of_an_npz_is_a_sentence_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let name = "a_layer_with_a_name_that_is_longer_than_that_of_any_layer_in_a_net_of_people";
    let layers: String = (0..900).map(|number| format!("{name}_{number}: Identity()\n")).collect();
    let file = folder.path().join("net.txt");
    std::fs::write(&file, format!("{layers}flatten: Flatten()\nfc: Linear(784, 10)\n")).unwrap();
    let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
    let from = folder.path().join("model.safetensors");
    Tensor::write_safetensors(&[("fc.weight", zeros(&[10, 784])), ("fc.bias", zeros(&[10]))], &from).unwrap();
    let to = folder.path().join("model.npz");
    let mut export = tch_mnist(&["export", "--weights"]);
    let (sentence, code) = failure(export.arg(&from).arg("--net").arg(&file).arg("--to").arg(&to));
    assert!(sentence.starts_with(&format!("error: {} cannot be written: ", to.display())), "{sentence}");
    assert!(sentence.contains("an .npz file has room for 65535: use .safetensors") && code == 1, "{sentence}");
    assert_eq!(names(folder.path()), ["model.safetensors", "net.txt"]);
}

#[test]
fn a_folder_of_a_run_is_weights_too_and_a_file_needs_no_flag() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let pt = file(&net(), &run, "pt");
    let (run, pt) = (run.to_str().unwrap(), pt.to_str().unwrap());
    let evaluated = |weights: &[&str]| {
        let args = ["evaluate", "--data", DATA, "--device", "cpu", "--limit-test", "100", "--log-format", "json"];
        stdout(tch_mnist(&args).args(weights))
    };
    let expected = evaluated(&["--weights", pt]);
    assert!(expected.contains(&format!("\"weights\":\"{pt}\"")), "{expected}");
    for weights in [&["--weights", run][..], &[run], &[pt]] {
        assert_eq!(evaluated(weights), expected);
    }
    let to = folder.path().join("copy.pth");
    stdout(tch_mnist(&["export", run, "--to"]).arg(&to));
    assert!(to.exists());
    for (args, expected) in [
        (&["evaluate"][..], "the following required arguments were not provided: <WEIGHTS>"),
        (&["evaluate", pt, "--weights", pt], "cannot be used with"),
        (&["predict", "docs/seven.jpg"], "--weights is missing: give --weights FILE, such as a run's model.pt"),
    ] {
        let (sentence, code) = failure(&mut tch_mnist(args));
        assert!(sentence.contains(expected) && code == 2, "{code} {sentence}");
    }
    std::fs::rename(pt, folder.path().join("run/checkpoint.pt")).unwrap();
    let (sentence, code) = failure(&mut tch_mnist(&["evaluate", run]));
    let expected = "it is a folder without model.pt; name a file in it, such as checkpoint.pt";
    assert!(sentence.contains(expected) && code == 1, "{sentence}");
}
