//! `tch-mnist train`: flags in, a run's folder out.

mod finish;
mod settings;
mod signals;

pub use settings::Settings;

use super::{LogFormat, Outcome, UsageError, Verbosity, say};
use crate::config::Config;
use crate::data;
use crate::device;
use crate::files::{remove_temporaries, write_atomically};
use crate::libtorch::{allocator, without_panic};
use crate::model::Net;
use crate::report::console::Console;
use crate::report::environment::Environment;
use crate::report::folder::Folder;
use crate::report::log;
use crate::report::tensorboard::TensorBoard;
use crate::train::{Checkpoint, Diverged, Ending, Event, Observer, Run};
use crate::weights;
use anyhow::{Context, Result, ensure};
use finish::Finish;
use signal_hook::consts::SIGUSR1;
use signals::StopSignals;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The flags of `train`. A setting that is not given comes from `--recipe`, else from `--config`, else from the original.
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

/// The settings that a resumed run may change: none of them changes what a step computes from what.
const CHANGEABLE: [&str; 10] = [
    "epochs",
    "data",
    "device",
    "threads",
    "cuda_graph",
    "target_accuracy",
    "tta",
    "checkpoint_every",
    "report",
    "tensorboard",
];

/// Runs the command.
pub fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let mut begun = None;
    let result = start(&args, verbosity, &mut begun);
    if let Err(error) = &result {
        tracing::debug!("error: {}", super::sentence(error));
        if let Some(out) = begun {
            remove_unbegun(&out);
        }
    }
    result
}

/// Removes the folder of a run that failed before it began, when there is nothing in it but its log.
fn remove_unbegun(out: &Path) {
    if !out.join("config.toml").exists() {
        let _ = fs::remove_file(out.join("log.txt"));
        // Of a folder with anything else in it this does nothing.
        let _ = fs::remove_dir(out);
    }
}

/// `begun` becomes the folder of a new run when it is made.
fn start(args: &Args, verbosity: Verbosity, begun: &mut Option<PathBuf>) -> Result<Outcome> {
    let began = Instant::now();
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
    if out.to_str().is_none() {
        return Err(UsageError(format!("--out {}: its name is no UTF-8; give another folder", out.display())).into());
    }
    if !out.exists() {
        *begun = Some(out.clone());
    }
    fs::create_dir_all(&out).with_context(|| format!("--out {} cannot be made", out.display()))?;
    log::to_file(open_log(&out)?);
    remove_temporaries(&out)?;

    let asked = config.device;
    let compute = device::resolve(&mut config)?;
    tracing::info!("device: {}", device::describe(&compute, asked));
    data::fetch::ensure(&config.data, config.dataset, None, !verbosity.is_quiet())?;
    // From here on a signal asks; before, while there is nothing to save, it ends the program.
    let stop = StopSignals::listen()?;
    let data = data::load_for(&config, compute.device)?.hold_out(config.validation, config.seed)?;
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
    Environment::of(&compute, &data.checksums)?.write(&out)?;
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

    let mut tensorboard = config.tensorboard.then(|| TensorBoard::new(out.clone(), &config));
    let ended = {
        let (mut files, mut console) = (Folder(out.clone()), Console::new(args.log_format, verbosity.is_quiet()));
        let mut observers = Observers(vec![&mut files, &mut console]);
        observers.0.extend(tensorboard.as_mut().map(|tensorboard| tensorboard as &mut dyn Observer));
        without_panic(|| run.train(&out.join("checkpoint.safetensors"), &mut observers, &|| stop.asked()))
    };
    let seconds = began.elapsed().as_secs_f64();
    let mut finish =
        Finish { config: &config, out: &out, part: measured.part, format: args.log_format, seconds, tta: None };
    let ended = ended.and_then(|ending| {
        if ending != Ending::Interrupted {
            finish.write_weights(&run)?;
            finish.tta = if config.tta { finish.test_tta(&run) } else { None };
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
    let ended = ended.map_err(|error| explained(error, &config, &out));
    let last = finish.line(status, run.history(), ended.as_ref().err().map(super::sentence))?;
    let written = folder.write_metrics(run.history(), Some(&last));
    let said = finish.say(&last);
    if let (Err(_), Some(tensorboard)) = (&ended, &mut tensorboard) {
        // As far as possible: the reader is told what ended the run.
        let _ = tensorboard.finish(&[], false);
    }
    // What ended a run comes before what then went wrong too.
    let ending = ended?;
    if ending != Ending::Interrupted {
        written.and(said)?;
    }
    // Of a run that is interrupted the reader may be gone too, as when Ctrl-C ends a whole pipe.
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
            finish.look(run.trained(), &data, tensorboard.as_mut());
            finish.summary(run.history());
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
    Config::merge([table])
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
    let mut text = super::sentence(&error);
    if text.contains("out of memory") {
        text = format!(
            "the device has too little memory for --batch-size {}, try a smaller one: {text}",
            config.batch_size
        );
    }
    if out.join("checkpoint.safetensors").exists() {
        let out = out.display();
        text += &match error.is::<Diverged>() {
            // The settings that led there cannot change in a resume.
            true => format!("; the last good weights are kept, start from them by --init {out}/checkpoint.safetensors"),
            false => format!("; the last checkpoint is kept, go on with: tch-mnist train --resume {out}"),
        };
    }
    anyhow::anyhow!(text)
}

/// Several observers as one.
struct Observers<'a>(Vec<&'a mut dyn Observer>);

impl Observer for Observers<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        self.0.iter_mut().try_for_each(|observer| observer.event(event))
    }
}
