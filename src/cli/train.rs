//! `tch-mnist train`: flags in, a run's folder out.

use super::{LogFormat, Outcome, UsageError, Verbosity, say};
use crate::config::{Config, CudaGraph, DeviceChoice, KernelsChoice, Precision, ScheduleKind};
use crate::data::{self, Dataset, Part};
use crate::device;
use crate::files::{remove_temporaries, write_atomically};
use crate::libtorch::allocator;
use crate::model::Net;
use crate::report::console::Console;
use crate::report::folder::{self, Folder};
use crate::report::log;
use crate::train::{Checkpoint, Diverged, Ending, EpochRecord, Event, Measured, Observer, Run};
use crate::weights;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// The flags of `train`. A setting that is not given comes from `--config`, and else from the original.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,

    /// Settings from a TOML file, such as the config.toml of another run; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder that the run writes [default: runs/<date>-<seed>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder (or with this checkpoint file) where it stopped
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "out"])]
    resume: Option<PathBuf>,
    /// What stdout gets: the original's lines, or one JSON object an epoch
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
    /// Check the settings, print them as the config.toml of the run, and train nothing
    #[arg(long)]
    print_config: bool,
}

/// The end of `train --help`: what a script has to know.
pub const HELP: &str = "How a run ends is the exit code, and the `status` of the last line of JSON: 0 for done, \
    target_reached and pruned, 1 for diverged and failed, 2 for a mistake in the command line, 130 or 143 for \
    interrupted. SIGUSR1 prunes a run: it stops after the step under way and writes no weights. Ctrl-C and SIGTERM \
    interrupt it: the checkpoint is written, and --resume goes on from there.";

/// The settings of [`Config`] as flags.
#[derive(clap::Args, Serialize)]
pub(super) struct Settings {
    /// Which dataset [default: mnist]
    #[arg(long, value_enum, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    dataset: Option<Dataset>,
    /// The folder of the four IDX files, or of a folder a dataset [default: data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    /// Passes over the training images [default: 15]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    epochs: Option<i64>,
    /// Images a step, in training and in the test [default: 128]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_size: Option<i64>,
    /// The learning rate; of one-cycle, the highest [default: 0.01]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    lr: Option<f64>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    momentum: Option<f64>,
    /// L2 penalty of SGD [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_decay: Option<f64>,
    /// Nesterov momentum [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nesterov: Option<bool>,
    /// How the learning rate changes [default: step]
    #[arg(long, value_enum, value_name = "KIND")]
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleKind>,
    /// step: epochs between two cuts of the learning rate [default: 6]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    step_size: Option<i64>,
    /// step: the factor of a cut [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    gamma: Option<f64>,
    /// The share of activations that dropout zeroes [default: 0.05]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    dropout: Option<f64>,
    /// The seed of every random number [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    /// auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceChoice>,
    /// CPU threads; 0: one a core [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<i32>,
    /// Whose kernels compute [default: auto]
    #[arg(long, value_enum, value_name = "WHOSE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    kernels: Option<KernelsChoice>,
    /// How precisely convolutions multiply [default: float32]
    #[arg(long, value_enum, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<Precision>,
    /// Whether a step on CUDA is launched as one graph [default: auto]
    #[arg(long, value_enum, value_name = "WHEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cuda_graph: Option<CudaGraph>,
    /// The first N training images only; 0: all [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_train: Option<i64>,
    /// The first N test images only; 0: all [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_test: Option<i64>,
    /// Hold N training images out, chosen by the seed, and measure each epoch on them instead of the test images [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    validation: Option<i64>,
    /// Stop after the epoch that reaches this accuracy (test, or --validation), in percent; 0: never [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    target_accuracy: Option<f64>,
    /// Steps between two checkpoints; 0: one after each epoch [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_every: Option<i64>,
    /// Start from the weights in this .pt, .pth or .safetensors file
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    init: Option<PathBuf>,
}

/// The settings that a resumed run may change: none of them changes what a step computes from what.
const CHANGEABLE: [&str; 7] =
    ["epochs", "data", "device", "threads", "cuda_graph", "target_accuracy", "checkpoint_every"];

/// Runs the command.
pub fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let result = start(&args, verbosity);
    if let Err(error) = &result {
        tracing::debug!("error: {}", super::sentence(error));
    }
    result
}

fn start(args: &Args, verbosity: Verbosity) -> Result<Outcome> {
    let began = Instant::now();
    let stop = StopSignals::listen()?;
    let flags = toml::Table::try_from(&args.settings)?;

    let resumed = args.resume.as_deref().map(read_checkpoint).transpose()?;
    let (mut config, out) = match &resumed {
        Some((checkpoint, out)) => (resumed_config(checkpoint.config(), flags)?, out.clone()),
        None => {
            let config = Config::resolve(args.config.as_deref(), flags)?;
            let out = new_out(args.out.as_deref(), &config)?;
            (config, out)
        }
    };
    if args.print_config {
        say(config.to_toml().trim_end())?;
        return Ok(Outcome::Done);
    }
    fs::create_dir_all(&out).with_context(|| format!("--out {} cannot be made", out.display()))?;
    log::to_file(open_log(&out)?);
    remove_temporaries(&out)?;

    let asked = config.device;
    let compute = device::resolve(&mut config)?;
    tracing::info!("device: {}", device::describe(&compute, asked));
    data::fetch::ensure(&config.data, config.dataset, None, !verbosity.is_quiet())?;
    let limit = |n: i64| (n > 0).then_some(n);
    let data =
        data::load(&config.data, config.dataset, compute.device, limit(config.limit_train), limit(config.limit_test))?
            .hold_out(config.validation, config.seed)?;
    allocator::keep_freed_memory();
    tch::manual_seed(config.seed);
    let net = Net::new(compute.device, config.dropout, compute.kernels);
    if let (Some(init), None) = (&config.init, &resumed) {
        weights::load(init, &net).with_context(|| "--init was refused")?;
    }
    let mut run = match &resumed {
        Some((checkpoint, _)) => checkpoint.restore(&config, &data, compute.device, &net)?,
        None => Run::new(&config, &data, compute.device, &net)?,
    };
    write_config(&config, &out)?;
    let folder = Folder(out.clone());
    if resumed.is_some() {
        // What the interrupted process wrote after its last checkpoint is written again.
        folder.write(run.history(), &run.step_records()?)?;
    }
    let measured = data.measured();
    tracing::info!(
        "{} training and {} {} images, run folder {}",
        data.train.len(),
        measured.len(),
        measured.part,
        out.display()
    );
    tracing::debug!("ready to train {:.2} s after the start", began.elapsed().as_secs_f64());

    let ended = {
        let mut observers = Observers(vec![
            Box::new(Folder(out.clone())),
            Box::new(Console::new(args.log_format, verbosity.is_quiet())),
        ]);
        super::without_panic(|| run.train(&out.join("checkpoint.safetensors"), &mut observers, &|| stop.asked()))
    };
    let seconds = began.elapsed().as_secs_f64();
    let finish = Finish { config: &config, out: &out, part: measured.part, format: args.log_format, seconds };
    let ended = ended.and_then(|ending| {
        if ending != Ending::Interrupted {
            finish.write_weights(&net, &run)?;
        }
        Ok(ending)
    });
    let status = match &ended {
        Ok(Ending::Done) => "done",
        Ok(Ending::TargetReached) => "target_reached",
        Ok(Ending::Interrupted) if stop.signal() == SIGUSR1 => "pruned",
        Ok(Ending::Interrupted) => "interrupted",
        Err(error) if error.is::<Diverged>() => "diverged",
        Err(_) => "failed",
    };
    let ended = ended.map_err(|error| if error.is::<Diverged>() { error } else { explained(error, &config, &out) });
    let last = finish.line(status, run.history(), ended.as_ref().err().map(super::sentence))?;
    let written = folder.write_metrics(run.history(), Some(&last));
    let said = finish.say(&last);
    // What ended a run comes before what then went wrong too.
    let ending = ended?;
    written.and(said)?;
    match (ending, status) {
        (Ending::Interrupted, "pruned") => {
            tracing::info!("pruned by SIGUSR1 after {} epochs", run.history().len());
            Ok(Outcome::Done)
        }
        (Ending::Interrupted, _) => {
            tracing::warn!("interrupted; everything is saved, go on with: tch-mnist train --resume {}", out.display());
            Ok(Outcome::Interrupted(stop.signal()))
        }
        (Ending::Done | Ending::TargetReached, _) => {
            tracing::info!("weights: {0}/model.pt, {0}/model.pth, {0}/model.safetensors", out.display());
            Ok(Outcome::Done)
        }
    }
}

/// The checkpoint of `--resume`, and the folder that the run goes on in.
fn read_checkpoint(run: &Path) -> Result<(Checkpoint, PathBuf)> {
    let file = if run.is_dir() { run.join("checkpoint.safetensors") } else { run.to_path_buf() };
    ensure!(
        file.exists(),
        "--resume {}: there is no {}; give the folder of a run that has finished an epoch or was interrupted",
        run.display(),
        file.display()
    );
    let checkpoint = Checkpoint::read(&file)?;
    Ok((checkpoint, crate::files::folder_of(&file).to_path_buf()))
}

/// The settings of a checkpoint with the flags that may change; the others may only repeat them.
fn resumed_config(saved: &Config, flags: toml::Table) -> Result<Config> {
    let mut table = toml::Table::try_from(saved)?;
    for (key, value) in &flags {
        if !CHANGEABLE.contains(&key.as_str()) && table.get(key) != Some(value) {
            let flag = key.replace('_', "-");
            return Err(UsageError(format!(
                "--{flag} cannot change when a run is resumed: it was {}; start a new run for another one",
                table.get(key).map_or("not given".into(), ToString::to_string)
            ))
            .into());
        }
    }
    table.extend(flags);
    Config::resolve(None, table)
}

/// The folder of a new run: `--out`, or one of its own below `runs`. One that holds a run already is refused.
fn new_out(out: Option<&Path>, config: &Config) -> Result<PathBuf> {
    let Some(out) = out else {
        let date = jiff::ZonedDateTime::now().strftime("%Y%m%d-%H%M%S");
        let name = format!("runs/{date}-{}", config.seed);
        let free = |path: &PathBuf| !path.exists();
        let mut names = (1..).map(|n| if n == 1 { PathBuf::from(&name) } else { PathBuf::from(format!("{name}-{n}")) });
        return Ok(names.find(free).expect("one of infinitely many names is free"));
    };
    let holds_run = ["metrics.jsonl", "checkpoint.safetensors", "model.pt"].iter().find(|name| out.join(name).exists());
    if let Some(name) = holds_run {
        return Err(UsageError(format!(
            "--out {0} already holds a run ({name}): choose another folder, or go on with it by --resume {0}",
            out.display()
        ))
        .into());
    }
    Ok(out.to_path_buf())
}

/// Opens the folder's `log.txt`, and keeps it locked as long as the process lives, so that no two train in one folder.
fn open_log(out: &Path) -> Result<fs::File> {
    let file = fs::File::options().append(true).create(true).open(out.join("log.txt"));
    let file = file.with_context(|| format!("--out {} cannot be written to", out.display()))?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => anyhow::bail!("another process is training in {}", out.display()),
        // A file system without locks is no reason not to train.
        Err(fs::TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

fn write_config(config: &Config, out: &Path) -> Result<()> {
    write_atomically(&out.join("config.toml"), |path| Ok(fs::write(path, config.to_toml())?))
}

/// An error in the middle of a run, with what can be done about it.
fn explained(error: anyhow::Error, config: &Config, out: &Path) -> anyhow::Error {
    let text = super::sentence(&error);
    let text = if text.contains("out of memory") {
        format!("the device has too little memory for --batch-size {}, try a smaller one: {text}", config.batch_size)
    } else {
        text
    };
    match out.join("checkpoint.safetensors").exists() {
        true => anyhow::anyhow!(
            "{text}; the last checkpoint is kept, go on with: tch-mnist train --resume {}",
            out.display()
        ),
        false => anyhow::anyhow!(text),
    }
}

/// What is written and said at the end of a run.
struct Finish<'a> {
    config: &'a Config,
    out: &'a Path,
    /// What each epoch was measured on.
    part: Part,
    format: LogFormat,
    seconds: f64,
}

impl Finish<'_> {
    /// The last line of `metrics.jsonl` and of `--log-format json`: how the run ended, and why if it failed.
    fn line(&self, status: &str, epochs: &[EpochRecord], error: Option<String>) -> Result<String> {
        let last = epochs.last().map(|record| &record.measured);
        let best = epochs.iter().rev().max_by_key(|record| record.measured.correct);
        let part = self.part;
        let mut done = json!({
            "status": status,
            "epochs": epochs.len(),
            (format!("{part}_loss")): last.map(|measured| measured.loss),
            (format!("{part}_accuracy")): last.map(|measured| measured.accuracy),
            "correct": last.map(|measured| measured.correct),
            (format!("best_{part}_accuracy")): best.map(|record| record.measured.accuracy),
            "best_epoch": best.map(|record| record.epoch),
            "seconds": self.seconds,
            "out": self.out,
        });
        if let Some(error) = error {
            done["error"] = error.into();
        }
        folder::line("done", &done)
    }

    fn say(&self, line: &str) -> Result<()> {
        match self.format {
            LogFormat::Json => say(line),
            LogFormat::Text => Ok(()),
        }
    }

    /// `model.pt`, `model.pth` and `model.safetensors`: the same tensors in three formats.
    fn write_weights(&self, net: &Net, run: &Run) -> Result<()> {
        let mut metadata =
            BTreeMap::from([("format".into(), "pt".into()), ("config".to_string(), self.config.to_toml())]);
        if let Some(last) = run.history().last() {
            metadata.insert("epochs".into(), run.history().len().to_string());
            let Measured { part, loss, accuracy, correct } = last.measured;
            metadata.insert(format!("{part}_loss"), loss.to_string());
            metadata.insert(format!("{part}_accuracy"), accuracy.to_string());
            metadata.insert("correct".into(), correct.to_string());
        }
        for name in ["model.pt", "model.pth", "model.safetensors"] {
            weights::write(&self.out.join(name), &net.state_dict(), self.config.dropout, &metadata)?;
        }
        Ok(())
    }
}

/// Several observers as one.
struct Observers(Vec<Box<dyn Observer>>);

impl Observer for Observers {
    fn event(&mut self, event: &Event) -> Result<()> {
        self.0.iter_mut().try_for_each(|observer| observer.event(event))
    }
}

/// Ctrl-C, SIGTERM and SIGUSR1 ask the run to stop after the step under way; a second Ctrl-C or SIGTERM ends it at once.
struct StopSignals(Arc<AtomicUsize>);

impl StopSignals {
    fn listen() -> Result<StopSignals> {
        let signal = Arc::new(AtomicUsize::new(0));
        let second = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // The order matters: the handler that ends at once looks at what an earlier signal left.
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&second))?;
            signal_hook::flag::register(number, Arc::clone(&second))?;
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        signal_hook::flag::register_usize(SIGUSR1, Arc::clone(&signal), SIGUSR1 as usize)?;
        Ok(StopSignals(signal))
    }

    fn asked(&self) -> bool {
        self.signal() != 0
    }

    fn signal(&self) -> i32 {
        self.0.load(Ordering::Relaxed) as i32
    }
}
