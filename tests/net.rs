//! Any net of its kind: `--net FILE` from the command line to weights, and back.

mod common;

use common::*;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use tch_mnist::weights::{self, WeightsFile};
use tch_mnist::{Architecture, Kernels, Layer, Net};

/// Fused blocks, then a pool that the fused kernels do not take, fused blocks again, and linear layers.
const MIXED: &str = "
conv1: Conv2d(1, 8, 3, bias=False), ReLU(), BatchNorm2d(8), Dropout({dropout})
conv2: Conv2d(8, {width}, 3, bias=False), ReLU(), BatchNorm2d({width}), Dropout(0.1)
pool: MaxPool2d(2)
conv3: Conv2d({width}, 12, 3, bias=False), ReLU(), BatchNorm2d(12)
conv4: Conv2d(12, 20, 1, bias=False), ReLU(), BatchNorm2d(20)
head: Flatten(), Linear(2000, 16), ReLU(), Linear(16, 10)
";

fn mixed(dropout: f64) -> Architecture {
    let values = [("dropout", dropout.to_string()), ("width", "6".to_string())];
    Architecture::parse(MIXED, &values.map(|(name, value)| (name.to_string(), value)).into()).unwrap()
}

fn file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("net.txt");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_net_with_a_mistake_is_one_sentence_with_line_and_layer() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    // A fourth of them: all are tested beside the parser.
    for case in include_str!("reference/net_mistakes.txt").split("\n=== ").skip(1).step_by(4) {
        let (sentence, text) = case.split_once('\n').unwrap();
        let sentence = sentence.replace("LAYERS", &Layer::examples().map(|(class, _)| class).join(", "));
        let with_values = text.strip_prefix("--- ").and_then(|text| text.split_once('\n'));
        let (values, text) = with_values.unwrap_or(("", text));
        let net = file(folder.path(), text.trim_end());
        let mut command = tch_mnist(&["summary", "--net", net.to_str().unwrap(), "--net-values", values]);
        let (said, code) = failure(&mut command);
        assert_eq!((said, code), (format!("error: --net {}: {sentence}", net.display()), 1));
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn a_net_that_is_missing_is_one_sentence_with_the_names_of_those_that_are_not() {
    let (said, code) = failure(&mut tch_mnist(&["summary", "--net", "lenet"]));
    assert_eq!(code, 1);
    assert!(
        said.starts_with("error: --net lenet cannot be read: ") && said.contains("own nets are original"),
        "{said}"
    );
    for (flags, sentence) in [
        (["--net-values", "width"], "--net-values takes NAME=VALUE,.., not width"),
        (["--net-values", "dropout=0.1"], "--net-values cannot set dropout: --dropout does"),
    ] {
        let (said, code) = failure(tch_mnist(&["summary"]).args(flags));
        assert!(code == 2 && said.contains(sentence), "{said}");
    }
}

#[test]
fn the_original_through_its_file_is_the_original_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let [default, named, from_file] = ["a", "b", "c"].map(|name| folder.path().join(name));
    train(&default, &[]).assert().success();
    train(&named, &["--net", "original"]).assert().success();
    train(&from_file, &["--net", "nets/original.txt"]).assert().success();
    assert_same_run(&default, &named);
    // Their config.toml names the file, and so do the weights.
    assert_eq!(metrics(&default), metrics(&from_file));
    let losses = |run: &Path| fs::read(run.join("losses.csv")).unwrap();
    assert!(losses(&default) == losses(&from_file));
    assert!(fs::read(default.join("model.pt2")).unwrap() == fs::read(from_file.join("model.pt2")).unwrap());
}

/// Trains [`MIXED`], moves its file away, and expects every command to know the net from the weights.
#[test]
fn weights_carry_their_net() {
    let (folder, out) = out();
    let net = file(folder.path(), MIXED);
    let options = ["--net", net.to_str().unwrap(), "--net-values", "width=6", "--dropout", "0.2"];
    let log = train(&out, &options).assert().success().get_output().stderr.clone();
    let kernels = "kernels: fused for conv1, conv2, conv3, conv4; libtorch's for pool, head\n";
    assert!(String::from_utf8(log).unwrap().contains(kernels));
    fs::remove_file(&net).unwrap();
    let evaluate = |weights: &Path, kernels: &str| {
        let command = &mut tch_mnist(&["evaluate", "--data", DATA, "--limit-test", "500", "--device", "cpu"]);
        stdout(command.args(["--log-format", "json", "--kernels", kernels, "--weights"]).arg(weights))
    };
    let accuracy = |line: &str| json_lines(line)[0]["test_accuracy"].as_f64().unwrap();
    let last = metrics(&out).pop().unwrap()["test_accuracy"].as_f64().unwrap();
    for name in WEIGHTS {
        let weights = out.join(name);
        assert_eq!(accuracy(&evaluate(&weights, "auto")), last, "{name}");
        assert!((accuracy(&evaluate(&weights, "torch")) - last).abs() < 0.5, "{name}");
        let copy = folder.path().join("copy.safetensors");
        stdout(tch_mnist(&["export", "--weights"]).arg(&weights).arg("--to").arg(&copy));
        assert_eq!(accuracy(&evaluate(&copy, "auto")), last, "{name}");
    }
    // Dropout after the training's own fashion, in the file that Python trains on.
    let said = stdout(tch_mnist(&["predict", "--weights"]).arg(out.join("model.pt")).arg("docs/seven.jpg"));
    assert!(said.starts_with("docs/seven.jpg"), "{said}");
    // A resume does not need the file either.
    tch_mnist(&["train", "--epochs", "3", "--resume"]).arg(&out).assert().success();
    let report = tch_mnist(&["report", "--data", DATA]).arg(&out).assert().success();
    drop(report);
}

#[test]
fn weights_without_a_net_are_told_apart_by_their_shapes_and_others_need_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    let net = file(folder.path(), MIXED);
    let nets = [Architecture::original(0.05), mixed(0.05)];
    let weights = ["original.npz", "mixed.npz"].map(|name| folder.path().join(name));
    for (net, path) in nets.iter().zip(&weights) {
        let _alone = alone();
        tch::manual_seed(1);
        let state_dict = Net::new(Device::Cpu, net, Kernels::Torch).state_dict();
        let tensors: Vec<(String, Tensor)> = state_dict.0;
        Tensor::write_npz(&tensors, path).unwrap();
    }
    let evaluate = |weights: &Path, flags: &[&str]| {
        let mut command =
            tch_mnist(&["evaluate", "--data", DATA, "--limit-test", "100", "--device", "cpu", "--weights"]);
        command.arg(weights).args(flags);
        command
    };
    evaluate(&weights[0], &[]).assert().success();
    let (said, code) = failure(&mut evaluate(&weights[1], &[]));
    assert!(code == 1 && said.contains("does not fit the net") && said.contains("--net FILE"), "{said}");
    let (said, code) = failure(&mut evaluate(&weights[0], &["--net", "lenet5"]));
    assert!(code == 1 && said.contains("does not fit the net") && said.contains("leave out --net"), "{said}");
    let flags = ["--net", net.to_str().unwrap(), "--net-values", "width=6"];
    evaluate(&weights[1], &flags).assert().success();
    let (said, code) = failure(&mut evaluate(&weights[0], &flags));
    assert!(code == 1 && said.contains("does not fit the net"), "{said}");
}

#[test]
fn a_net_without_a_layer_that_is_fused_says_so() {
    let (_folder, out) = out();
    let log = train(&out, &["--net", "mlp"]).assert().success().get_output().stderr.clone();
    let log = String::from_utf8(log).unwrap();
    assert!(log.contains("torch kernels") && !log.contains("fused"), "{log}");
    let environment: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("environment.json")).unwrap()).unwrap();
    assert_eq!(environment["kernels"], "torch");
    let (_folder, refused) = self::out();
    let (said, code) = failure(&mut train(&refused, &["--net", "mlp", "--kernels", "fused"]));
    assert!(code == 2 && said.contains("--kernels fused computes no layer of this net"), "{said}");
    assert!(!refused.exists());
}

#[test]
fn a_net_that_is_fused_in_part_computes_what_libtorch_computes() {
    let _alone = alone();
    tch::manual_seed(2);
    let fused = Net::new(Device::Cpu, &mixed(0.0), Kernels::Fused);
    let torch = Net::new(Device::Cpu, &mixed(0.0), Kernels::Torch);
    torch.load_state_dict(&fused.state_dict()).unwrap();
    let images = Tensor::randn([6, 1, 28, 28], (Kind::Float, Device::Cpu));
    let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 4, 5]);
    let close = |name: &str, one: &Tensor, other: &Tensor| {
        let scale = other.abs().max().double_value(&[]);
        let difference = (one - other).abs().max().double_value(&[]);
        assert!(difference <= 1e-4 * scale, "{name}: {difference:e} of {scale:e}");
    };
    let logs = [&fused, &torch].map(|net| tch::no_grad(|| net.forward_t(&images, false)));
    close("evaluation", &logs[0], &logs[1]);
    // MIXED has one dropout that does not follow --dropout: without it in training.
    let text = MIXED.replace("Dropout(0.1)", "Identity()").replace("{dropout}", "0").replace("{width}", "6");
    let plain = Architecture::parse(&text, &Default::default()).unwrap();
    let nets = [Kernels::Fused, Kernels::Torch].map(|kernels| {
        let net = Net::new(Device::Cpu, &plain, kernels);
        net.load_state_dict(&fused.state_dict()).unwrap();
        net.forward_t(&images, true).nll_loss(&labels).backward();
        net
    });
    for ((name, one), (_, other)) in nets[0].parameters().zip(nets[1].parameters()) {
        close(name, &one.grad(), &other.grad());
    }
    for ((name, one), (_, other)) in nets[0].state_dict().0.iter().zip(&nets[1].state_dict().0) {
        close(name, one, other);
    }
}

#[test]
fn a_convolution_of_one_channel_behind_a_fused_block_is_not_taken_for_the_first() {
    let text = "
conv1: Conv2d(1, 1, 3, bias=False), ReLU(), BatchNorm2d(1)
pool: Conv2d(1, 8, 1, bias=False), MaxPool2d(2)
end: Flatten(), Linear(1352, 10)
";
    let _alone = alone();
    tch::manual_seed(1);
    let net = Net::new(Device::Cpu, &Architecture::parse(text, &Default::default()).unwrap(), Kernels::Fused);
    net.forward_t(&Tensor::rand([4, 1, 28, 28], (Kind::Float, Device::Cpu)), true).sum(Kind::Float).backward();
    assert!(net.parameters().all(|(_, parameter)| parameter.grad().defined()));
}

#[test]
fn a_batch_of_one_image_is_refused_where_batch_norm_would_have_one_value_per_channel() {
    let folder = tempfile::tempdir().unwrap();
    let text = "
conv: Conv2d(1, 16, 3), ReLU()
gap: AdaptiveAvgPool2d(1), BatchNorm2d(16)
end: Flatten(), Linear(16, 10)
";
    let file = file(folder.path(), text);
    let (_folder, out) = out();
    let sized = |images: &str| {
        let mut command = train(&out, &["--net", file.to_str().unwrap(), "-q", "--epochs=1"]);
        command.arg("--limit-train").arg(images);
        command
    };
    let (said, code) = failure(&mut sized("129"));
    let expected =
        "--batch-size 128 makes a batch of one image out of 129, and gap.1, a BatchNorm2d, needs more than one";
    assert!(code == 2 && said.contains(expected), "{said}");
    sized("130").assert().success();
}

#[test]
fn a_net_whose_checkpoints_could_not_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wide = (1..9).map(|n| format!("fc{n}: Linear(1024, 1024), ReLU()\n")).collect::<String>();
    let text = format!("flatten: Flatten()\nfc0: Linear(784, 1024)\n{wide}end: Linear(1024, 10)\n");
    let file = file(folder.path(), &text);
    let (_folder, out) = out();
    let args = ["--net", file.to_str().unwrap(), "-q", "--optimizer", "soap", "--ema-decay", "0.9"];
    let (said, code) = failure(&mut train(&out, &args));
    assert!(code == 1 && said.contains("a checkpoint of this net with --optimizer soap would have "), "{said}");
    assert!(said.contains(" MiB, and 256 MiB is the most that is read"), "{said}");
}

#[test]
fn dropout_in_a_fused_block_that_is_unpacked_drops_its_share() {
    let text = "
conv1: Conv2d(1, 8, 3, bias=False), ReLU(), BatchNorm2d(8), Dropout(0.5)
head: Flatten(), Linear(5408, 10)
";
    let _alone = alone();
    tch::manual_seed(1);
    let net = Net::new(Device::Cpu, &Architecture::parse(text, &Default::default()).unwrap(), Kernels::Fused);
    let images = Tensor::rand([4, 1, 28, 28], (Kind::Float, Device::Cpu));
    // The gradient of the sum of the logits by the weight of the linear layer is the sum of its inputs: 0 where all
    // four images dropped an element, which is one in sixteen.
    net.forward_t(&images, true).sum(Kind::Float).backward();
    let weight = net.parameters().find(|(name, _)| *name == "head.1.weight").unwrap().1;
    let zeros = weight.grad().eq(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    assert!((zeros - 1.0 / 16.0).abs() < 0.02, "{zeros}");
}

#[test]
fn every_layer_goes_into_every_weights_format_and_back() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for (class, text) in Layer::examples() {
        let architecture = Architecture::parse(text, &Default::default()).unwrap();
        let net = Net::new(Device::Cpu, &architecture, Kernels::Torch);
        for ending in ["pt", "pt2", "pth", "onnx", "safetensors"] {
            let file = folder.path().join(format!("{class}.{ending}"));
            weights::write(&file, &net.state_dict(), &architecture, &Default::default()).unwrap();
            let read = WeightsFile::open(&file).unwrap().read(None, &net.state_dict()).unwrap();
            for ((key, tensor), (name, expected)) in read.0.iter().zip(&net.state_dict().0) {
                assert_eq!(key, name);
                assert!(tensor.equal(expected), "{key} in {}", file.display());
            }
        }
    }
}
