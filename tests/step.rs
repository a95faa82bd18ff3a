//! A step over static buffers, which a CUDA graph replays, trains as the eager step does; and so does the graph.

mod common;

use common::*;
use std::cell::Cell;
use std::path::Path;
use tch::{Cuda, Device, Tensor};
use tch_mnist::libtorch::graph::Graph;
use tch_mnist::libtorch::precision;
use tch_mnist::{
    Architecture, Checkpoint, Data, Dataset, Kernels, Net, Observer, Run, Schedule, Settings, Shuffle, State,
    StepRecord, Stepper,
};

/// 5 epochs of 9 batches of 16 images and one of 12.
const EPOCHS: i64 = 5;
const IMAGES: i64 = 9 * 16 + 12;

fn load(device: Device) -> Data {
    Data::load(Path::new(DATA), Dataset::Mnist, device, IMAGES, 1).unwrap()
}

/// The first GPU; `None`, after saying so, if the test has to be skipped.
fn gpu(test: &str) -> Option<Device> {
    let found = Cuda::is_available().then_some(Device::Cuda(0));
    if found.is_none() {
        eprintln!("{test}: skipped: this machine has no GPU");
    }
    found
}

/// The settings of a run of 50 steps.
fn settings(flags: &[impl AsRef<str>]) -> Settings {
    let common = ["--epochs=5", "--batch-size=16", "--lr=0.02"];
    Settings::from_flags(common.into_iter().chain(flags.iter().map(AsRef::as_ref))).unwrap()
}

/// What is owned, of flags that are not.
fn owned(flags: &[&str]) -> Vec<String> {
    flags.iter().map(ToString::to_string).collect()
}

/// The plain recipe, and one with weight decay and Nesterov momentum.
const STEP: &[&str] = &["--schedule=step", "--step-size=2", "--momentum=0.9"];
const ONE_CYCLE: &[&str] = &["--schedule=one-cycle", "--momentum=0.9", "--weight-decay=0.001", "--nesterov=true"];
const NO_MOMENTUM: &[&str] = &["--schedule=one-cycle", "--momentum=0", "--weight-decay=0.01"];

const DAMPENING: &[&str] = &["--step-size=2", "--momentum=0.9", "--dampening=0.5", "--clip-grad-norm=1"];
const SOAP: &[&str] = &["--optimizer=soap", "--schedule=one-cycle", "--precondition-frequency=4"];

/// Every augmentation, and all else that recipes turn on. It asks the program, so call it before [`alone`].
fn everything() -> Vec<String> {
    let others = [
        "--schedule=one-cycle",
        "--momentum=0.9",
        "--weight-decay=0.001",
        "--nesterov=true",
        "--ema-decay=0.9",
        "--label-smoothing=0.1",
        "--weight-decay-norm=false",
        "--clip-grad-norm=2",
    ];
    examples("augmentations", None).into_iter().flatten().chain(others.map(String::from)).collect()
}

/// A run that learns from [`teachers`]; nobody reads the file.
const TAUGHT: &[&str] = &["--teacher=teacher.safetensors", "--temperature=3"];

/// A net with random weights, if `settings` name a teacher.
fn teachers(settings: &Settings, device: Device) -> Vec<Net> {
    let names = settings.distillation.teacher.iter();
    names.map(|_| Net::new(device, &Architecture::original(0.0), Kernels::Torch)).collect()
}

/// How the steps of [`train_50`] are made. On a GPU the images of an epoch always lie ready before its first step.
#[derive(Clone, Copy, PartialEq)]
enum Steps {
    /// One kernel at a time.
    Eager,
    /// The same on images that lie ready.
    Ready,
    /// By the replay of CUDA graphs, of several steps and of one, except for the last of each epoch, which is eager.
    Captured,
    /// By [`Stepper::static_steps`], four at once, except for the same.
    Static,
    /// The same, with the first learning rate throughout.
    Stale,
}

/// Trains 50 steps; returns everything that they leave behind, under its name.
fn train_50(settings: &Settings, data: &Data, kernels: Kernels, steps: Steps) -> Vec<(String, Tensor)> {
    let device = data.train.labels.device();
    tch::manual_seed(settings.training.seed);
    let teachers = teachers(settings, device);
    let net = Net::new(device, &settings.training.net.architecture().unwrap(), kernels);
    let mut state = State::new(net, settings, 10).unwrap();
    state.learn_from(&teachers, &data.train, settings).unwrap();
    let mut stepper = match steps {
        Steps::Eager | Steps::Captured => Stepper::new(&data.train, settings).unwrap(),
        Steps::Ready | Steps::Static | Steps::Stale => Stepper::ahead(&data.train, settings).unwrap(),
    };
    if steps == Steps::Captured {
        stepper.prepare(&mut state).unwrap();
    }
    // Otherwise eager steps would be compared with themselves.
    assert_eq!(stepper.is_captured(), steps == Steps::Captured);
    let schedule = Schedule::new(settings, 10);
    for epoch in 0..EPOCHS {
        let order = Shuffle::draw().unwrap().order(IMAGES, device).unwrap();
        let lr = |step| schedule.lr(if steps == Steps::Stale { 0 } else { 10 * epoch + step }, &[]);
        stepper.begin_epoch(&mut state, &order, &(0..10).map(lr).collect::<Vec<_>>()).unwrap();
        while state.steps_done() < 10 {
            match steps {
                Steps::Static | Steps::Stale if state.steps_done() < 9 => stepper.static_steps(&mut state, 4).unwrap(),
                _ => drop(stepper.steps(&mut state, 10).unwrap()),
            }
        }
        if epoch + 1 < EPOCHS {
            state.end_epoch().unwrap();
        }
    }
    state.tensors().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
}

/// The largest difference of any number in two results of [`train_50`].
fn difference(one: &[(String, Tensor)], other: &[(String, Tensor)]) -> f64 {
    assert_eq!(one.len(), other.len());
    let differences = one.iter().zip(other).map(|((name, one), (other_name, other))| {
        assert_eq!(name, other_name);
        let difference = (one - other).abs().max().double_value(&[]);
        assert!(!difference.is_nan(), "{name}");
        difference
    });
    differences.fold(0.0, f64::max)
}

#[test]
fn images_that_lie_ready_train_as_those_that_are_gathered_for_each_step() {
    let _alone = alone();
    tch::set_num_threads(1);
    let data = load(Device::Cpu);
    // Without augmentation, whose random numbers come in another order.
    for (flags, kernels) in [(ONE_CYCLE, Kernels::Torch), (STEP, Kernels::Fused), (TAUGHT, Kernels::Fused)] {
        let results = [Steps::Eager, Steps::Ready].map(|steps| train_50(&settings(flags), &data, kernels, steps));
        assert_eq!(difference(&results[0], &results[1]), 0.0, "{flags:?}");
    }
}

#[test]
fn a_step_over_static_buffers_is_the_eager_step() {
    let everything = everything();
    let _alone = alone();
    // One thread: a second one does not help on batches of 16.
    tch::set_num_threads(1);
    let data = load(Device::Cpu);
    for (flags, kernels) in [
        (owned(STEP), Kernels::Torch),
        (owned(ONE_CYCLE), Kernels::Torch),
        (owned(NO_MOMENTUM), Kernels::Fused),
        (everything, Kernels::Fused),
        (owned(DAMPENING), Kernels::Torch),
        (owned(SOAP), Kernels::Fused),
        (owned(TAUGHT), Kernels::Torch),
    ] {
        let settings = settings(&flags);
        let eager = train_50(&settings, &data, kernels, Steps::Ready);
        let over_static_buffers = train_50(&settings, &data, kernels, Steps::Static);
        let difference = difference(&eager, &over_static_buffers);
        assert_eq!(difference, 0.0, "{flags:?}");
    }
}

/// The largest difference that any of 45 steps over static buffers makes from the eager step, each from the same state.
fn largest_difference_of_a_step(settings: &Settings, data: &Data, kernels: Kernels) -> f64 {
    let [mut eager, mut over_static] = [0, 1].map(|_| {
        tch::manual_seed(settings.training.seed);
        let net = Net::new(Device::Cpu, &settings.training.net.architecture().unwrap(), kernels);
        State::new(net, settings, 10).unwrap()
    });
    let [mut eager_stepper, mut static_stepper] = [0, 1].map(|_| Stepper::ahead(&data.train, settings).unwrap());
    let schedule = Schedule::new(settings, 10);
    let mut largest: f64 = 0.0;
    for epoch in 0..EPOCHS {
        let order = Shuffle::draw().unwrap().order(IMAGES, Device::Cpu).unwrap();
        let lrs: Vec<f64> = (0..10).map(|step| schedule.lr(10 * epoch + step, &[])).collect();
        eager_stepper.begin_epoch(&mut eager, &order, &lrs).unwrap();
        static_stepper.begin_epoch(&mut over_static, &order, &lrs).unwrap();
        for step in 0..9 {
            tch::no_grad(|| {
                for ((_, from), (_, mut to)) in eager.tensors().iter().zip(over_static.tensors()) {
                    to.copy_(from);
                }
            });
            tch::manual_seed(step);
            eager_stepper.eager_step(&mut eager).unwrap();
            tch::manual_seed(step);
            static_stepper.static_steps(&mut over_static, 1).unwrap();
            largest = largest.max(difference(&eager.tensors(), &over_static.tensors()));
        }
        eager.end_epoch().unwrap();
        over_static.end_epoch().unwrap();
    }
    largest
}

#[test]
fn a_step_over_static_buffers_of_every_optimizer_is_the_eager_step() {
    let examples = examples("optimizers", Some("--optimizer"));
    let _alone = alone();
    tch::set_num_threads(1);
    let data = load(Device::Cpu);
    // PyTorch's fused and capturable forms of some optimizers round differently from its default, and a difference in
    // the last bit grows from step to step: so each step is compared from the same state.
    let kernels = [Kernels::Torch, Kernels::Fused].into_iter().cycle();
    for (flags, kernels) in examples.iter().zip(kernels) {
        let flags = [&owned(&["--schedule=one-cycle", "--clip-grad-norm=1"])[..], flags].concat();
        let difference = largest_difference_of_a_step(&settings(&flags), &data, kernels);
        eprintln!("{flags:?}: {difference:e}");
        assert!(difference <= 1e-6, "{difference:e} with {flags:?}");
    }
}

#[test]
fn a_learning_rate_that_stays_as_it_was_would_show() {
    let _alone = alone();
    tch::set_num_threads(1);
    let data = load(Device::Cpu);
    let settings = settings(ONE_CYCLE);
    let eager = train_50(&settings, &data, Kernels::Fused, Steps::Ready);
    let stale = train_50(&settings, &data, Kernels::Fused, Steps::Stale);
    assert!(difference(&eager, &stale) > 1e-3);
}

/// Trains a run of two epochs on images that lie ready, from its start or from `resumed`, until it is over or has made
/// `most` steps.
fn run_ahead(
    settings: &Settings,
    data: &Data,
    resumed: Option<&Checkpoint>,
    most: usize,
    file: &Path,
) -> Vec<StepRecord> {
    tch::manual_seed(settings.training.seed);
    let teachers = teachers(settings, Device::Cpu);
    let net = Net::new(Device::Cpu, &settings.training.net.architecture().unwrap(), Kernels::Fused);
    let mut run = match resumed {
        Some(checkpoint) => Run::resume(settings, data, net, checkpoint).unwrap(),
        None => Run::new(settings, data, net).unwrap(),
    };
    if resumed.is_none() {
        run.learn_from(&teachers).unwrap();
    }
    let mut run = run.ahead().unwrap();
    let asked = Cell::new(0);
    let stop = || asked.replace(asked.get() + 1) == most;
    let mut nobody: Vec<&mut dyn Observer> = Vec::new();
    run.train(file, &mut nobody, &stop).unwrap();
    run.history().steps.clone()
}

#[test]
fn a_run_that_is_resumed_within_an_epoch_gets_the_images_that_lay_ready() {
    let everything = everything();
    let _alone = alone();
    tch::set_num_threads(1);
    let data = load(Device::Cpu);
    let settings = settings(&[everything, owned(TAUGHT), owned(&["--epochs=2", "--dropout=0.1"])].concat());
    let folder = tempfile::tempdir().unwrap();
    let [straight, stopped] = ["straight", "stopped"].map(|name| folder.path().join(name));
    let expected = run_ahead(&settings, &data, None, usize::MAX, &straight);
    // `stop` is asked before each step, and before each batch of a test, of one image here.
    for most in [3, 14] {
        run_ahead(&settings, &data, None, most, &stopped);
        let checkpoint = Checkpoint::read(&stopped).unwrap();
        assert_eq!(run_ahead(&settings, &data, Some(&checkpoint), usize::MAX, &stopped), expected, "{most}");
        let [one, other] = [&straight, &stopped].map(|file| {
            let mut tensors = Tensor::read_safetensors(file).unwrap();
            tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
            tensors
        });
        assert_eq!(difference(&one, &other), 0.0);
    }
}

#[test]
fn what_cannot_be_captured_is_an_error() {
    let capture = |device| Graph::capture(device, || Ok(()), || Ok(())).map(|_| ()).unwrap_err().to_string();
    assert_eq!(capture(Device::Cpu), "a CUDA graph is captured on a GPU, not on cpu");
    // Here it is libtorch that refuses, or the program that was built without CUDA's headers.
    let missing = Device::Cuda(if Cuda::is_available() { Cuda::device_count() as usize } else { 0 });
    assert!(!capture(missing).is_empty());

    let Some(device) = gpu("what_cannot_be_captured_is_an_error") else { return };
    let _alone = alone();
    let number = Tensor::from_slice(&[1f32]).to_device(device);
    // Reading a number waits for the device, which nothing can do while its work is only recorded.
    let read = || {
        let number = f64::try_from(&number)?;
        anyhow::ensure!(number == 1.0);
        Ok(())
    };
    let error = Graph::capture(device, read, || Ok(())).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("captur"), "{error}");
    // Afterwards the same works, the generator of dropout included.
    read().unwrap();
    let dropped = Tensor::ones([1000], (tch::Kind::Float, device)).dropout(0.5, true);
    assert!(f64::try_from(dropped.eq(0.0).sum(tch::Kind::Double)).unwrap() > 300.0);
}

#[test]
fn captured_steps_are_the_eager_ones() {
    let Some(device) = gpu("captured_steps_are_the_eager_ones") else { return };
    let (everything, optimizers) = (everything(), examples("optimizers", Some("--optimizer")));
    let _alone = alone();
    precision::deterministic_cudnn().unwrap();
    precision::allow_tf32(false).unwrap();
    let data = load(device);
    let others = [STEP, ONE_CYCLE, DAMPENING, TAUGHT].map(owned).into_iter().chain([everything]);
    for flags in others.chain(optimizers) {
        let settings = settings(&[flags.clone(), owned(&["--cuda-graph=on", "--steps-per-graph=4"])].concat());
        let results = [Steps::Captured, Steps::Eager].map(|steps| train_50(&settings, &data, Kernels::Torch, steps));
        let difference = difference(&results[0], &results[1]);
        eprintln!("{flags:?}: {difference:e}");
        assert!(difference <= 1e-6, "{difference:e} with {flags:?}");
    }
}

/// `train --device cuda` on a slice, into `out`: 2 epochs of 99 steps of 64 images and one of 44.
fn train_on_cuda(out: &Path, args: &[&str]) -> assert_cmd::Command {
    let mut command = tch_mnist(&["train", "--data", DATA, "--device", "cuda", "-q", "--out"]);
    command.arg(out).args(["--limit-train", "6380", "--limit-test", "100", "--batch-size", "64", "--epochs", "2"]);
    command.args(["--schedule", "one-cycle", "--ema-decay", "0.9", "--rotate", "10"]);
    command.args(["--cuda-graph", "on"]).args(args);
    command.process()
}

#[test]
fn captured_runs_are_resumed_exactly() {
    let Some(_) = gpu("captured_runs_are_resumed_exactly") else { return };
    let ((_folder, one), (_other_folder, other)) = (out(), out());
    train_on_cuda(&one, &[]).assert().success();
    assert!(metrics(&one).last().unwrap()["captured"].as_bool().unwrap());
    // Killed after its first checkpoint, among the captured steps.
    let program = assert_cmd::cargo::cargo_bin!("tch-mnist");
    let mut child = std::process::Command::new(program)
        .args(train_on_cuda(&other, &["--checkpoint-every", "3"]).get_args())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .spawn()
        .unwrap();
    while !other.join("checkpoint.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!other.join("model.pt").exists(), "the run ended before it was killed");
    tch_mnist(&["train", "-q", "--checkpoint-every", "0", "--resume"]).arg(&other).assert().success();
    assert_same_run(&one, &other);
}

#[test]
fn a_full_gpu_is_one_sentence() {
    let Some(_) = gpu("a_full_gpu_is_one_sentence") else { return };
    let (_folder, out) = out();
    let mut command = train_on_cuda(&out, &["--limit-train", "20000", "--batch-size", "10000"]);
    let (sentence, code) = failure(command.env("PYTORCH_ALLOC_CONF", "per_process_memory_fraction:0.01"));
    assert!(sentence.contains("too little memory for --batch-size 10000"), "{sentence}");
    assert_eq!(code, 1);
}

#[test]
fn a_graph_that_is_demanded_is_refused_on_a_cpu() {
    let (_folder, run) = out();
    let (sentence, code) = failure(&mut train(&run, &["--cuda-graph", "on"]));
    let expected = "error: --cuda-graph on needs CUDA: use --cuda-graph auto, or --device cuda";
    assert_eq!((sentence.as_str(), code), (expected, 2));
    // What is not captured is not said to be, and a CPU needs nothing before its first step.
    train(&run, &["-q"]).assert().success();
    let environment = std::fs::read_to_string(run.join("environment.json")).unwrap();
    assert!(environment.contains("\"captured\": false"), "{environment}");
    let lines = json_lines(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap());
    let done = lines.last().unwrap();
    assert_eq!(done["captured"], false);
    assert!(done["preparation_seconds"].as_f64().unwrap() < done["seconds"].as_f64().unwrap());
}

#[test]
fn reduced_precision_trains_on_cuda_and_is_refused_elsewhere() {
    for precision in ["tf32", "bf16"] {
        let (_folder, run) = out();
        let (sentence, code) = failure(&mut train(&run, &["--precision", precision]));
        let expected = format!("error: --precision {precision} needs CUDA: use --precision float32, or --device cuda");
        assert_eq!((sentence, code), (expected, 2));
    }
    let Some(_) = gpu("reduced_precision_trains_on_cuda_and_is_refused_elsewhere") else { return };
    for precision in ["tf32", "bf16"] {
        for graph in ["on", "off"] {
            let (_folder, run) = out();
            train_on_cuda(&run, &["--precision", precision, "--cuda-graph", graph]).assert().success().stderr("");
        }
    }
}
