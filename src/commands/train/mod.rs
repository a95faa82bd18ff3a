//! `tch-mnist train`: flags in, a run's folder out.

mod finish;

use super::session::{self, Backend};
use super::signals::StopSignals;
use super::{Outcome, Verbosity};
use crate::data::Data;
use crate::error::{UsageError, sentence, without_panic};
use crate::files::remove_temporaries;
use crate::memory;
use crate::model::Architecture;
use crate::observe::{Console, OutputArgs, OutputFormat, Progress, TensorBoard, log, say};
use crate::run_folder::{Environment, RunFolder};
use crate::settings::{Given, Settings};
use crate::train::{Checkpoint, Ending, Observer, Run};
use anyhow::Result;
use finish::Finish;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Train the net (the default command)
#[derive(clap::Parser)]
#[command(name = "train", args_override_self = true, after_long_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Given,

    /// Settings from a TOML file, such as the config.toml of another run; flags win over it
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    /// The folder that the run writes [default: runs/<date>-<seed>]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder, or from this checkpoint file, with --out in another folder; auto: go on with the
    /// run in --out if it has a checkpoint, else begin it
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    /// Check the settings, print them as the config.toml of the run, and train nothing
    #[arg(long, help_heading = "Output")]
    print_config: bool,
}

/// The end of `train --help`: what a script has to know.
const HELP: &str = "The exit code and the `status` of the last JSON line say how the run ended: 0 for done, \
    target_reached, stopped_early and pruned, 1 for diverged and failed, 2 for a mistake in the command line, 130, 143 or \
    another 128 + N for interrupted by a signal. SIGUSR1 prunes a run: it stops after the current step and writes no weights. \
    Ctrl-C, SIGTERM, SIGHUP, SIGUSR2 and SIGXCPU interrupt it: the checkpoint is written, and --resume goes on from there. The \
    first signal counts. A job that may be queued again with the same command line takes --resume auto --out DIR.";

/// Runs the command.
pub(super) fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    let stop = StopSignals::listen()?;
    let mut folder = args.folder()?;
    if args.print_config {
        say(args.plan(&folder)?.settings.to_toml().trim_end())?;
        return Ok(Outcome::Done);
    }
    // The folder is locked before anything in it is read: another process may be writing it.
    let log_file = folder.open()?;
    let plan = args.plan(&folder).inspect_err(|_| folder.leave_nothing())?;
    log::to_file(log_file);
    train(plan, &folder, &stop, args.output.format, verbosity.shows_bars()).inspect_err(|error| {
        tracing::debug!("error: {}", sentence(error));
        folder.remove_unless_begun();
    })
}

/// What `--resume` asks for.
enum Origin<'a> {
    New,
    /// Whatever is in `--out`.
    Auto,
    /// The run in this folder, or this checkpoint.
    Run(&'a Path),
}

/// What to train: a new run, or one that goes on.
struct Plan {
    settings: Settings,
    architecture: Architecture,
    checkpoint: Option<Checkpoint>,
}

impl Args {
    fn origin(&self) -> Origin<'_> {
        match &self.resume {
            None => Origin::New,
            Some(run) if run == Path::new("auto") => Origin::Auto,
            Some(run) => Origin::Run(run),
        }
    }

    /// The folder that the run writes.
    fn folder(&self) -> Result<RunFolder> {
        match (&self.out, self.origin()) {
            (Some(out), _) => Ok(RunFolder::at(out)),
            (None, Origin::Run(run)) => RunFolder::resumed(run),
            (None, Origin::New) => Ok(RunFolder::named_by_date(self.new_settings()?.training.seed)),
            (None, Origin::Auto) => {
                let sentence = "--resume auto needs --out DIR, the folder that the run begins or goes on in";
                Err(UsageError(sentence.into()).into())
            }
        }
    }

    /// The settings of a run that begins.
    fn new_settings(&self) -> Result<Settings> {
        Settings::resolve(self.config.as_deref(), &self.settings)
    }

    /// What to train in `folder`.
    fn plan(&self, folder: &RunFolder) -> Result<Plan> {
        let file = match self.origin() {
            Origin::Run(run) => Some(RunFolder::checkpoint_of(run)?),
            Origin::Auto => Some(folder.checkpoint()).filter(|file| file.exists()),
            Origin::New => None,
        };
        if let Some(file) = file {
            let checkpoint = Checkpoint::read(&file)?;
            folder.check_goes_on(&file, &checkpoint)?;
            let settings = checkpoint.settings().resumed(self.config.as_deref(), &self.settings)?;
            return Ok(Plan { settings, architecture: checkpoint.architecture()?, checkpoint: Some(checkpoint) });
        }
        match self.resume {
            None => folder.check_unused()?,
            Some(_) => folder.check_not_begun()?,
        }
        let settings = self.new_settings()?;
        let architecture = settings.training.net.architecture()?;
        Ok(Plan { settings, architecture, checkpoint: None })
    }
}

fn train(plan: Plan, folder: &RunFolder, stop: &StopSignals, format: OutputFormat, show_bars: bool) -> Result<Outcome> {
    let began = Instant::now();
    let Plan { mut settings, architecture, checkpoint } = plan;
    remove_temporaries(folder.path())?;

    let backend = Backend::of_run(&mut settings)?;
    let data = session::load_run_data(&settings, backend.device, show_bars)?;
    let ready = without_panic(|| start(&settings, &architecture, &data, &backend, checkpoint.as_ref()));
    let batch_size = settings.training.batches.batch_size;
    let mut run = ready.map_err(|error| memory::of_batch_size(error, batch_size))?;
    // From here on any signal asks the run to stop.
    stop.listen_to_all()?;
    let preparation = without_panic(|| run.prepare()).map_err(|error| memory::of_batch_size(error, batch_size))?;
    let backend = backend.used_by(run.saved_net());
    backend.announce(settings.compute.device, Some(run.is_captured()));
    folder.write_settings(&settings)?;
    let environment = Environment::of(backend.device, backend.kernels, run.is_captured(), &data.checksums)?;
    folder.write_environment(&environment)?;
    let mut records = folder.records();
    if let Some(checkpoint) = &checkpoint {
        say_where(&run);
        if !folder.checkpoint().exists() {
            // The run goes on in another folder.
            checkpoint.write(&folder.checkpoint())?;
        }
        // The files may lack the last epoch, or have the end of an earlier process.
        records.write(&run.history().epochs, &run.step_records()?)?;
    }
    let (images, measured) = (data.train.len(), data.measured());
    let (tested, part) = (measured.len(), measured.part);
    tracing::info!("{images} training and {tested} {part} images, run folder {}", folder.path().display());
    let (ready, prepared) = (began.elapsed().as_secs_f64(), preparation.as_secs_f64());
    tracing::debug!(
        "ready to train {ready:.2} s after the start, {prepared:.2} s of them for the first use of the device"
    );

    let mut tensorboard = settings.run.tensorboard.then(|| TensorBoard::new(folder.path(), &settings));
    let ended = {
        let (mut console, mut progress) = (Console(format), Progress::new(settings.training.epochs, show_bars));
        // The bar is drawn below the lines of the console.
        let mut observers: Vec<&mut dyn Observer> = vec![&mut records, &mut console, &mut progress];
        observers.extend(tensorboard.as_mut().map(|tensorboard| tensorboard as &mut dyn Observer));
        without_panic(|| run.train(&folder.checkpoint(), &mut observers, &|| stop.asked()))
    };
    let seconds = began.elapsed().as_secs_f64();
    Finish { settings: &settings, folder, records, data: &data, run: &run, format, seconds, tensorboard }
        .end(ended, stop.signal())
}

/// Says where a run goes on.
fn say_where(run: &Run) {
    match (run.ending(), run.position()) {
        (Some(Ending::TargetReached), _) => tracing::info!("resumed: it has reached --target-accuracy already"),
        (Some(Ending::StoppedEarly), _) => tracing::info!("resumed: it has run out of --patience already"),
        (Some(_), _) => tracing::info!("resumed: all of its epochs are done already"),
        (None, (epoch, 0)) => tracing::info!("resumed: it goes on with epoch {epoch}"),
        (None, (epoch, step)) => tracing::info!("resumed: it goes on within epoch {epoch}, after {step} steps"),
    }
}

/// The run at its start, or where its checkpoint left it.
fn start<'a>(
    settings: &'a Settings,
    architecture: &Architecture,
    data: &'a Data,
    backend: &Backend,
    checkpoint: Option<&Checkpoint>,
) -> Result<Run<'a>> {
    if let Some(checkpoint) = checkpoint {
        let net = session::draw_net(settings, architecture, backend)?;
        return Run::resume(settings, data, net, checkpoint);
    }
    let teachers = session::teachers(settings, &data.train, backend)?;
    let mut run = Run::new(settings, data, session::initial_net(settings, architecture, backend, &data.train)?)?;
    run.learn_from(&teachers)?;
    Ok(run)
}
