//! `tch-mnist train`: flags in, a run's folder out.

mod finish;

use super::session::{self, Backend};
use super::signals::StopSignals;
use super::{Outcome, Verbosity};
use crate::data::Data;
use crate::error::{sentence, without_panic};
use crate::files::remove_temporaries;
use crate::model::Architecture;
use crate::observe::{Console, Files, LogFormat, TensorBoard, log, say};
use crate::run_folder::{Environment, RunFolder};
use crate::settings::{Layer, Settings};
use crate::train::{Checkpoint, Ending, Observer, Run};
use anyhow::Result;
use finish::{Finish, too_little_memory};
use std::path::PathBuf;
use std::time::Instant;

/// The flags of `train`. A setting that is not given comes from `--recipe`, else from `--config`, else from the
/// original.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Layer,

    /// Settings from a TOML file, such as the config.toml of another run; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder that the run writes [default: runs/<date>-<seed>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder, or with this checkpoint file
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "out"])]
    resume: Option<PathBuf>,
    /// What stdout gets: the original's lines, or one JSON object per epoch
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
    /// Check the settings, print them as the config.toml of the run, and train nothing
    #[arg(long)]
    print_config: bool,
}

/// The end of `train --help`: what a script has to know.
pub(super) const HELP: &str = "The exit code and the `status` of the last JSON line say how the run ended: 0 for done, \
    target_reached, stopped_early and pruned, 1 for diverged and failed, 2 for a mistake in the command line, 130 or 143 for \
    interrupted. SIGUSR1 prunes a run: it stops after the current step and writes no weights. Ctrl-C and SIGTERM \
    interrupt it: the checkpoint is written, and --resume goes on from there.";

/// Runs the command.
pub(super) fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let mut plan = Plan::of(&args)?;
    if args.print_config {
        say(plan.settings.to_toml().trim_end())?;
        return Ok(Outcome::Done);
    }
    log::to_file(plan.folder.open()?);
    let folder = plan.folder.clone();
    train(plan, args.log_format, verbosity.is_quiet()).inspect_err(|error| {
        tracing::debug!("error: {}", sentence(error));
        folder.remove_unless_begun();
    })
}

/// Which run: a new one, or one that goes on.
struct Plan {
    settings: Settings,
    architecture: Architecture,
    folder: RunFolder,
    checkpoint: Option<Checkpoint>,
}

impl Plan {
    fn of(args: &Args) -> Result<Plan> {
        if let Some(run) = &args.resume {
            let (folder, checkpoint) = RunFolder::resume(run)?;
            let settings = checkpoint.settings().resumed(&args.settings)?;
            let architecture = checkpoint.architecture()?;
            return Ok(Plan { settings, architecture, folder, checkpoint: Some(checkpoint) });
        }
        let settings = Settings::resolve(args.config.as_deref(), &args.settings)?;
        let architecture = settings.training.net.architecture()?;
        let folder = RunFolder::new(args.out.as_deref(), settings.training.seed)?;
        Ok(Plan { settings, architecture, folder, checkpoint: None })
    }
}

fn train(plan: Plan, format: LogFormat, quiet: bool) -> Result<Outcome> {
    let began = Instant::now();
    let Plan { mut settings, architecture, folder, checkpoint } = plan;
    remove_temporaries(folder.path())?;

    let backend = Backend::of_run(&mut settings)?;
    let data = session::load_run_data(&settings, backend.device, !quiet)?;
    let ready = without_panic(|| start(&settings, &architecture, &data, &backend, checkpoint.as_ref()));
    let mut run = ready.map_err(|error| too_little_memory(error, &settings))?;
    // From here on a signal asks the run to stop. Before, there is nothing to save, and it ends the program.
    let stop = StopSignals::listen()?;
    let preparation = without_panic(|| run.prepare()).map_err(|error| too_little_memory(error, &settings))?;
    let backend = backend.used_by(run.saved_net());
    backend.announce(settings.compute.device, Some(run.is_captured()));
    folder.write_settings(&settings)?;
    let environment = Environment::of(backend.device, backend.kernels, run.is_captured(), &data.checksums)?;
    folder.write_environment(&environment)?;
    if checkpoint.is_some() {
        say_where(&run);
        // What the interrupted process wrote after its last checkpoint is written again.
        folder.write_losses(&run.step_records()?)?;
        folder.write_metrics(&run.history().epochs, None)?;
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
        let (mut files, mut console) = (Files(folder.clone()), Console::new(format, quiet));
        let mut observers: Vec<&mut dyn Observer> = vec![&mut files, &mut console];
        observers.extend(tensorboard.as_mut().map(|tensorboard| tensorboard as &mut dyn Observer));
        without_panic(|| run.train(&folder.checkpoint(), &mut observers, &|| stop.asked()))
    };
    let seconds = began.elapsed().as_secs_f64();
    Finish { settings: &settings, folder: &folder, data: &data, run: &run, format, seconds, tensorboard }
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
    let mut run = Run::new(settings, data, session::initial_net(settings, architecture, backend)?)?;
    run.learn_from(&teachers)?;
    Ok(run)
}
