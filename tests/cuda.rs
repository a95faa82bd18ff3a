//! The program on a GPU that is not there: what the host does for one, counted and made to fail.

mod common;
mod stand_in;

use common::{DATA, assert_same_run, json_lines, stdout, tch_mnist};
use stand_in::{Event, PROGRAM, Ran, command, in_folder, is_usable, program, python, train};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;
use tch::Tensor;

/// Settings that an epoch of 11 steps does not suit, made to suit it: SOAP's decompositions come once in each.
const SUITED: &[&str] = &["--precondition-frequency=11"];

/// The settings whose runs are looked at, by name: each optimizer, and what else changes a step.
fn variants() -> Vec<(String, Vec<String>)> {
    let report = json_lines(&stdout(&mut tch_mnist(&["doctor", "--log-format", "json", "--data", DATA]))).remove(0);
    let optimizers = report["choices"]["optimizer"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let flags = |optimizer: &str| {
        let suited = if optimizer == "soap" { SUITED } else { &[] };
        [&[format!("--optimizer={optimizer}")], &*suited.iter().map(ToString::to_string).collect::<Vec<_>>()].concat()
    };
    let mut variants: Vec<_> = optimizers.map(|optimizer| (optimizer.to_string(), flags(optimizer))).collect();
    let more: [(&str, &[&str]); 3] = [
        ("sgd, dampening", &["--dampening=0.5"]),
        ("sgd, bf16", &["--precision=bf16"]),
        ("sgd, average, clipping, augmentation", &["--ema-decay=0.9", "--clip-grad-norm=1", "--rotate=10"]),
    ];
    variants.extend(more.map(|(name, flags)| (name.into(), flags.iter().map(ToString::to_string).collect())));
    variants
}

/// Of each variant: a captured run and an eager one, at rates that change with each step.
static RUNS: LazyLock<Vec<(String, [Ran; 2])>> = LazyLock::new(|| {
    let run = |flags: &[String], how: &str| {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        train(&[&["-q", "--schedule=one-cycle", how], &*flags].concat(), &[]).done()
    };
    let runs = variants().into_iter().map(|(name, flags)| {
        let both = ["--cuda-graph=on", "--cuda-graph=off"].map(|how| run(&flags, how));
        (name, both)
    });
    runs.collect()
});

/// What an epoch has the device do, in order. Copies to the host are left out: now and then a loss is read.
fn launches(epoch: &[Event]) -> Vec<(&str, &str, &str)> {
    let counts = |event: &&Event| event.is_launch() || (event.kind == "copy" && event.what != "to host");
    epoch.iter().filter(counts).map(|event| (&*event.kind, &*event.what, &*event.numbers)).collect()
}

/// How many launches an eager step has: from one loss to the next. All steps in the middle of an epoch have as many.
fn eager_step(run: &Ran) -> usize {
    let launches: Vec<&Event> = run.epochs()[1].iter().filter(|event| event.is_launch()).collect();
    let losses: Vec<usize> = (0..launches.len()).filter(|&at| launches[at].is_loss()).collect();
    let steps: Vec<usize> = losses.windows(2).take(10).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(steps, [steps[0]; 10]);
    steps[0]
}

/// The steps in the middle of a captured graph, each from one loss to the next, with the numbers that they have from the host.
fn captured_steps<'a>(graph: &[&'a Event]) -> Vec<Vec<&'a Event>> {
    let losses: Vec<usize> = (0..graph.len()).filter(|&at| graph[at].is_loss()).collect();
    losses.windows(2).map(|pair| graph[pair[0]..pair[1]].to_vec()).collect()
}

#[test]
fn each_epoch_launches_the_same() {
    if !is_usable("each_epoch_launches_the_same") {
        return;
    }
    for (name, runs) in RUNS.iter() {
        for run in runs {
            let epochs = run.epochs();
            assert_eq!(epochs.len(), 3);
            assert!(launches(epochs[1]) == launches(epochs[2]), "{name}");
            assert!(run.events.iter().all(|event| event.kind != "error"), "{name}");
        }
        let [captured, eager] = runs;
        let replays = |run: &Ran| run.epochs()[1].iter().filter(|event| event.kind == "replay").count();
        assert_eq!((replays(captured), replays(eager)), (1, 0), "{name}");
        // The eleventh step is eager.
        assert_eq!(captured.epochs()[1].iter().filter(|event| event.is_loss()).count(), 1 + 1, "{name}");
        assert_eq!(eager.epochs()[1].iter().filter(|event| event.is_loss()).count(), 11 + 1, "{name}");
    }
}

#[test]
fn a_graph_holds_no_copy_and_nothing_waits_while_it_is_captured() {
    if !is_usable("a_graph_holds_no_copy_and_nothing_waits_while_it_is_captured") {
        return;
    }
    for (name, [captured, eager]) in RUNS.iter() {
        let graphs = captured.graphs();
        assert_eq!(graphs.len(), 2, "{name}");
        for nodes in &graphs {
            let strange = nodes.iter().find(|node| !["captured kernel", "captured library"].contains(&&*node.kind));
            assert!(strange.is_none(), "{name}: {strange:?}");
        }
        // Beside its nodes, a capture has memory allocated, and nothing else happens.
        let captures = captured.events.split(|event| event.kind == "begin").skip(1);
        for event in captures.flat_map(|events| events.iter().take_while(|event| event.kind != "end")) {
            assert!(event.is_node() || event.kind == "malloc", "{name}: {event:?}");
        }
        assert!(eager.graphs().is_empty(), "{name}");
    }
}

#[test]
fn no_number_of_the_host_that_changes_is_frozen_in_a_graph() {
    if !is_usable("no_number_of_the_host_that_changes_is_frozen_in_a_graph") {
        return;
    }
    for ((name, [captured, _]), (_, flags)) in RUNS.iter().zip(variants()) {
        // From step to step: the rate changes with each. Which variant of a kernel is taken may differ: it depends on how
        // the numbers in memory are aligned.
        let graphs = captured.graphs();
        let numbers = |nodes: &[&Event]| nodes.iter().map(|node| node.numbers.clone()).collect::<Vec<_>>();
        let steps = captured_steps(&graphs[1]);
        assert_eq!(steps.len(), 9, "{name}");
        for step in &steps[1..] {
            assert_eq!(numbers(step), numbers(&steps[0]), "{name}");
        }
        // From run to run: the rate is another one.
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let other = train(&[&["-q", "--lr=0.025", "--epochs=1"], &*flags].concat(), &[]).done();
        for (graph, other) in graphs.iter().zip(other.graphs()) {
            assert_eq!(numbers(graph), numbers(&other), "{name}");
        }
    }
}

#[test]
fn the_stand_in_sees_frozen_numbers_copies_and_waits() {
    if !is_usable("the_stand_in_sees_frozen_numbers_copies_and_waits") {
        return;
    }
    let script = "
import torch
x, y = torch.zeros(2, 8, device='cuda')
def capture(body):
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        body()
capture(lambda: [x.mul_(rate) for rate in (0.25, 0.5)])
capture(lambda: [torch._foreach_add_([x, y], rate) for rate in (0.25, 0.5)])
capture(lambda: x.copy_(y))
capture(lambda: x.sum().item())";
    let ran = python(&["-c", script], &[]);
    let graphs = ran.graphs();
    let numbers = |graph: usize| graphs[graph].iter().map(|node| node.numbers.as_str()).collect::<Vec<_>>();
    assert_eq!(numbers(0), ["8 0.25 ", "8 0.5 "]);
    assert_eq!(numbers(1), ["0.25 ", "0.5 "]);
    assert_eq!((graphs[2][0].kind.as_str(), numbers(2)), ("captured copy", vec!["32"]));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("operation not permitted when stream is capturing"), "{}", ran.stderr);
}

/// The states of the generators in the checkpoint of a run.
fn generators(run: &Path) -> Vec<Tensor> {
    let tensors = Tensor::read_safetensors(run.join("checkpoint.safetensors")).unwrap();
    let state =
        |name| tensors.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name}")).1.shallow_clone();
    ["rng.cpu", "rng.cuda"].map(state).into()
}

#[test]
fn captured_and_eager_runs_leave_the_generators_in_the_same_state() {
    if !is_usable("captured_and_eager_runs_leave_the_generators_in_the_same_state") {
        return;
    }
    let mut states = Vec::new();
    for (name, [captured, eager]) in RUNS.iter() {
        assert_eq!(generators(&captured.out()), generators(&eager.out()), "{name}");
        states.push(generators(&captured.out()).remove(1));
    }
    // Augmentation draws numbers too.
    assert!(states.first() != states.last());
}

#[test]
fn a_run_that_was_killed_and_resumed_ends_as_one_that_was_not() {
    if !is_usable("a_run_that_was_killed_and_resumed_ends_as_one_that_was_not") {
        return;
    }
    let flags = ["-q", "--ema-decay=0.9", "--rotate=10"];
    // Two replays try the graphs, then an epoch has four; a step has 23 convolutions, forward and backward.
    for (how, kill) in [("--cuda-graph=on", "cudaGraphLaunch:9:-9"), ("--cuda-graph=off", "cudnnBackendExecute:430:-9")]
    {
        let straight = train(&[&flags, &[how][..]].concat(), &[]).done();
        let killed = train(&[&flags, &[how, "--checkpoint-every=3"][..]].concat(), &[("FAKE_FAIL", kill)]);
        assert_eq!(killed.code, None, "{}", killed.stderr);
        let out = killed.out();
        let resume = ["train", "--checkpoint-every=0", "--resume", out.to_str().unwrap()];
        let resumed = in_folder(killed.folder, &resume, &[]).done();
        assert!(resumed.stderr.contains("resumed: it goes on within epoch 1, after "), "{}", resumed.stderr);
        assert_eq!(generators(&out), generators(&straight.out()), "{how}");
        assert_same_run(&out, &straight.out());
    }
}

#[test]
fn a_capture_that_fails_is_one_warning_and_the_steps_are_eager() {
    if !is_usable("a_capture_that_fails_is_one_warning_and_the_steps_are_eager") {
        return;
    }
    let eager = train(&["-q", "--cuda-graph=off"], &[]).done();
    for fail in [
        "cudaStreamBeginCapture:1:900", // at its beginning
        "cudaStreamBeginCapture:2:900", // that of the second graph
        "captured kernel:1:900",
        "captured kernel:30:900", // in the middle, forward and backward
        "captured kernel:60:900",
        "captured kernel:400:900", // in the second graph
        "captured cudaMalloc:1:2",
        "cudaStreamEndCapture:1:900", // at its end
        "cudaStreamEndCapture:2:900",
        "cudaGraphInstantiateWithFlags:1:2",
        "cudaGraphInstantiateWithFlags:2:2",
        "cudaGraphLaunch:1:2",
    ] {
        let run = train(&[], &[("FAKE_FAIL", fail)]).done();
        let warnings = run.warnings();
        assert_eq!(warnings.len(), 1, "{fail}: {warnings:?}");
        let warning = " WARN steps are launched one kernel at a time, not as a CUDA graph: ";
        assert!(warnings[0].starts_with(warning), "{fail}: {warnings:?}");
        assert!(launches(run.epochs()[2]) == launches(eager.epochs()[2]), "{fail}");
        assert_eq!(generators(&run.out()), generators(&eager.out()), "{fail}");
    }
    // Where it is demanded, it is an error.
    let run = train(&["--cuda-graph=on"], &[("FAKE_FAIL", "captured kernel:30:900")]);
    assert!(
        run.error().contains("steps cannot be captured as CUDA graphs, which --cuda-graph on asks for"),
        "{}",
        run.error()
    );
}

#[test]
fn memory_that_runs_out_in_a_step_is_one_sentence_that_names_the_batch_size() {
    if !is_usable("memory_that_runs_out_in_a_step_is_one_sentence_that_names_the_batch_size") {
        return;
    }
    let advice = |flags: &[&str], environment| {
        let run = train(&[&["--cuda-graph=off"], flags].concat(), &[environment]);
        assert!(run.error().contains("too little memory for --batch-size "), "{}", run.error());
        run.error().to_string()
    };
    let large = ["--batch-size=10000", "--limit-train=20000"];
    assert!(advice(&large, ("FAKE_MEMORY", "700")).contains("--batch-size 10000, try a smaller one"));
    // What the libraries say, in the middle of an epoch.
    advice(&[], ("FAKE_FAIL", "cudnnBackendExecute:150:4004"));
    advice(&["--optimizer=soap"], ("FAKE_FAIL", "cublasCreate_v2:1:3"));
    advice(&["--optimizer=soap"], ("FAKE_FAIL", "cublasCreate_v2:1:1"));
}

#[test]
fn a_test_that_does_not_fit_into_memory_takes_smaller_batches() {
    if !is_usable("a_test_that_does_not_fit_into_memory_takes_smaller_batches") {
        return;
    }
    let run = train(&["--limit-test=2000", "--batch-size=32", "--tta"], &[("FAKE_MEMORY", "600")]).done();
    let warnings = run.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("the test takes "), "{warnings:?}");
    assert!(warnings[0].contains(" images at a time: the device has too little memory for 2000"), "{warnings:?}");
    assert!(run.stdout.contains("/2000 ("), "{}", run.stdout);
}

/// What a server answers to a picture.
fn post(address: &str, picture: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /predict HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        picture.len()
    )
    .unwrap();
    stream.write_all(picture).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn commands_without_enough_memory_say_what_helps() {
    if !is_usable("commands_without_enough_memory_say_what_helps") {
        return;
    }
    let trained = train(&["-q", "--epochs=1"], &[]).done();
    let weights = trained.out().join("model.safetensors");
    let images = Path::new(DATA).join("mnist/t10k-images-idx3-ubyte");
    let (weights, images) = (weights.to_str().unwrap(), images.to_str().unwrap());
    let evaluate = ["evaluate", "--data", DATA, "--device=cuda", "--weights", weights, "--batch-size=10000"];
    let error = program(&evaluate, &[("FAKE_MEMORY", "600")]).error().to_string();
    assert!(error.contains("too little memory for --batch-size 10000, try a smaller one"), "{error}");

    let predict = ["predict", "--device=cuda", "--weights", weights, "--data", "/nowhere", images];
    let predicted = program(&predict, &[("FAKE_MEMORY", "420")]).done();
    assert_eq!(predicted.stdout.lines().count(), 10_000);
    let warnings = predicted.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains(" images at a time"), "{warnings:?}");
    let error = program(&predict, &[("FAKE_MEMORY", "305")]).error().to_string();
    assert!(error.contains("too little memory") && error.contains("choose another --device"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let serve = ["serve", "--port=0", "--device=cuda", "--weights", weights, "--data", "/nowhere"];
    let mut server = command(PROGRAM, &serve, folder.path(), &[("FAKE_MEMORY", "305")]);
    let mut server = server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let answer = post(address, &std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/seven.jpg")).unwrap());
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("choose another --device"), "{answer}");

    // Before anything is computed: the images alone do not fit.
    let error = program(&evaluate, &[("FAKE_MEMORY", "303")]).error().to_string();
    assert!(error.contains("too little memory") && error.contains("to cuda:0"), "{error}");
}

#[test]
fn of_two_devices_the_one_that_was_not_chosen_stays_untouched() {
    if !is_usable("of_two_devices_the_one_that_was_not_chosen_stays_untouched") {
        return;
    }
    for how in ["--cuda-graph=on", "--cuda-graph=off"] {
        let flags = ["--device=cuda:1", "--rotate=10", "--optimizer=soap", how];
        let run = train(&flags, &[("FAKE_DEVICES", "2")]).done();
        assert!(run.stderr.contains("device: cuda:1, Imaginary GPU 1, steps "), "{}", run.stderr);
        let elsewhere = run.events.iter().find(|event| event.device != 1 && event.kind != "file");
        assert!(elsewhere.is_none(), "{elsewhere:?}");
    }
    let error = train(&["--device=cuda:2"], &[("FAKE_DEVICES", "2")]).error().to_string();
    assert_eq!(error, "error: --device cuda:2: the last of 2 GPUs is cuda:1");
}

/// Where the table of counts is in docs/gpu.md: between these lines.
const TABLE: [&str; 2] = ["<!-- counts: tests/cuda.rs writes them -->\n", "<!-- end of the counts -->\n"];

/// What an epoch of all images does, with the original's settings and captured steps.
fn whole_epoch() -> String {
    let run = train(&["-q", "--limit-train=0", "--limit-test=0", "--epochs=2"], &[]).done();
    let epoch = run.epochs()[1];
    let nodes = |graph: &str| run.graphs()[graph.parse::<usize>().unwrap() - 1].len();
    let replays: Vec<&Event> = epoch.iter().filter(|event| event.kind == "replay").collect();
    let replayed: usize = replays.iter().map(|event| nodes(&event.what)).sum();
    let others = epoch.iter().filter(|event| event.is_launch()).count() - replays.len();
    // While steps are made, a loss is read now and then: that depends on how long they take, and is not counted.
    let first = epoch.iter().position(|event| event.kind == "replay").unwrap();
    let last = epoch.iter().rposition(|event| event.what.contains("nll_loss_backward")).unwrap();
    let is_read = |event: &Event| event.kind == "sync" || event.what == "to host";
    let steady =
        || epoch.iter().enumerate().filter(|(at, event)| *at < first || *at > last || !is_read(event)).map(|it| it.1);
    let copies = |way: &str| {
        let bytes: Vec<f64> = steady()
            .filter(|event| event.kind == "copy" && event.what == way)
            .map(|event| event.numbers.parse().unwrap())
            .collect();
        format!("{} copies {way}, {:.1} MB", bytes.len(), bytes.iter().sum::<f64>() / 1e6)
    };
    let waits = steady().filter(|event| event.kind == "sync").count();
    let ways = ["to device", "within device", "to host"].map(copies).join("; ");
    format!(
        "An epoch of 60,000 images and its test: {} replays of {replayed} nodes, {others} other launches, {waits} \
         synchronisations; {ways}.\n",
        replays.len()
    )
}

/// The table: what a step has a GPU do, of each variant.
fn counts() -> String {
    let mut table = String::from(
        "| step | launches, eager | nodes, in a graph of one step | nodes per step, in a graph of ten |\n|---|---|---|---|\n",
    );
    for (name, [captured, eager]) in RUNS.iter() {
        let graphs = captured.graphs();
        let (one, ten) = (graphs[0].len(), graphs[1].len() as f64 / 10.0);
        table += &format!("| {name} | {} | {one} | {ten} |\n", eager_step(eager));
    }
    format!("{table}\n{}", whole_epoch())
}

#[test]
fn the_counts_in_the_docs_are_those_that_are_counted() {
    if !is_usable("the_counts_in_the_docs_are_those_that_are_counted") {
        return;
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gpu.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(TABLE[0]).unwrap();
    let (written, after) = rest.split_once(TABLE[1]).unwrap();
    let counted = counts();
    if std::env::var_os("WRITE_COUNTS").is_some() {
        std::fs::write(&page, [before, TABLE[0], &counted, TABLE[1], after].concat()).unwrap();
    } else {
        assert!(written == counted, "WRITE_COUNTS=1 cargo test --release --test cuda counts writes them:\n{counted}");
    }
}

#[test]
fn the_checks_for_a_gpu_run_and_find_that_its_kernels_compute_nothing() {
    if !is_usable("the_checks_for_a_gpu_run_and_find_that_its_kernels_compute_nothing") {
        return;
    }
    // All but those of speed.
    let checks = ["--only", "doctor", "steps", "resume", "recipes", "weights", "memory", "precision"];
    let command = [&["scripts/gpu-check", "--quick", "--threads=1", "--data", DATA], &checks[..]].concat();
    let checked = python(&command, &[("FAKE_MEMORY", "40000")]);
    assert_eq!(checked.code, Some(1), "{}{}", checked.stdout, checked.stderr);
    let rows = |promise: &str| -> Vec<&str> {
        let rows = checked.stdout.lines().filter(|row| row.ends_with(&format!("| {promise} |")));
        rows.map(|row| row.split(" | ").nth(1).unwrap()).collect()
    };
    let broken = [
        "a replay takes each step's own learning rate",
        "model.pth opens in Python",
        "model.pt opens in Python",
        "model.pt2 opens in Python",
        "tf32: captured, at least 90 % after an epoch on 25,600 images",
        "bf16: captured, at least 90 % after an epoch on 25,600 images",
    ];
    assert_eq!(rows("BROKEN"), broken, "{}", checked.stdout);
    for kept in
        ["the GPU is the one that PyTorch sees", "best: steps are captured", "too little memory is one sentence"]
    {
        assert!(rows("kept").contains(&kept), "{kept}: {}", checked.stdout);
    }
}

#[test]
fn doctor_finds_a_gpu_that_can_be_used() {
    if !is_usable("doctor_finds_a_gpu_that_can_be_used") {
        return;
    }
    let found = program(&["doctor", "--data", DATA], &[("FAKE_DEVICES", "2")]).done().stdout;
    assert!(found.contains("\nCUDA           usable\n"), "{found}");
    assert!(found.contains("\ncuda:1         Imaginary GPU 1, 3.0 GiB, compute capability 9.2\n"), "{found}");
    let none = program(&["doctor", "--data", DATA], &[("FAKE_DEVICES", "0")]).done().stdout;
    assert!(none.contains("\nCUDA           not usable: driver found, no device\n"), "{none}");
}
