//! `tch-mnist bench`: how fast it trains and evaluates. `scripts/bench.py` sets it beside PyTorch.

mod profile;

use super::session::{self, Backend};
use super::{Outcome, Verbosity};
use crate::data::Data;
use crate::error::{UsageError, either, without_panic};
use crate::evaluate::evaluate;
use crate::libtorch::fused;
use crate::libtorch::profiler::Recording;
use crate::memory;
use crate::model::{Kernels, Net};
use crate::observe::{OutputArgs, OutputFormat, say};
use crate::run_folder;
use crate::settings::{Compute, DeviceChoice, Given, KernelsChoice, Settings, within};
use crate::train::{Event, Observer, Run, Shuffle, steps_per_epoch};
use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use profile::Profile;
use serde::Serialize;
use std::cell::Cell;
use std::path::PathBuf;
use std::time::Instant;
use tch::{Cuda, Device};

/// Steps of an epoch before a round, if steps are not captured: caches fill.
const WARM_UP: i64 = 12;

/// Steps of the round that is recorded, at most. On a CPU the profiler keeps what it records in the memory that steps
/// use, and more would change what it measures.
const RECORDED: i64 = 20;
const RECORDED_ON_GPU: i64 = 100;

/// Measure how fast it trains and evaluates
#[derive(clap::Parser)]
#[command(name = "bench", args_override_self = true)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Given,
    /// What a round is
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    what: What,
    /// How many rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = within("a whole number", 1u32..))]
    rounds: u32,
    /// Training steps per round; with CUDA graphs of several steps perhaps some more
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = within("a whole number", 1i64..))]
    steps: i64,
    /// The fused kernels for this instruction set, not those for the best one that this processor has
    #[arg(long, hide_short_help = true, value_name = "NAME", value_parser = PossibleValuesParser::new(fused::INSTRUCTION_SETS))]
    instruction_set: Option<String>,
    /// After the rounds, record one more (at most 20 steps, on a GPU 100) with libtorch's profiler: a table of what took how long, and
    /// FILE, a trace in JSON for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Wait for a line on stdin before each round, so that a script can alternate programs
    #[arg(long, hide_short_help = true)]
    on_request: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What one round measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// --steps training steps
    #[default]
    Steps,
    /// An epoch of training and its test
    Epoch,
    /// An evaluation of the test images
    Evaluate,
}

/// Runs the command.
pub(super) fn run(args: Args, _: Verbosity) -> Result<Outcome> {
    let mut settings = Settings::resolve(None, &args.settings)?;
    let architecture = settings.training.net.architecture()?;
    if let Some(name) = &args.instruction_set {
        use_instruction_set(name, &mut settings.compute)?;
    }
    let backend = Backend::of_run(&mut settings)?;
    let data = session::load_data(&settings, backend.device)?;
    let teachers = match args.what {
        What::Evaluate => Vec::new(),
        What::Steps | What::Epoch => session::teachers(&settings, &data.train, &backend)?,
    };
    let net = session::initial_net(&settings, &architecture, &backend, &data.train)?;
    let backend = backend.used_by(&net);
    let instruction_set = (backend.kernels == Kernels::Fused).then(fused::instruction_set);
    if let Some(name) = instruction_set {
        tracing::info!("instruction set of the fused kernels: {name}");
    }
    let mut rounds = Rounds {
        args: &args,
        backend,
        instruction_set,
        captured: false,
        done: Vec::new(),
        recording: None,
        profile: None,
    };
    let batch_size = settings.training.batches.batch_size;
    let measured = without_panic(|| match args.what {
        What::Evaluate => rounds.evaluate(&settings, &net, &data),
        What::Steps | What::Epoch => rounds.train(&mut settings, net, &teachers, &data),
    });
    measured.map_err(|error| memory::of_batch_size(error, batch_size))?;
    if args.output.format == OutputFormat::Text {
        say(rounds.summary(&settings, &data))?;
        rounds.print_profile()?;
    }
    Ok(Outcome::Done)
}

/// Uses the fused kernels for the instruction set `name`. What `compute` leaves to the program becomes the CPU.
fn use_instruction_set(name: &str, compute: &mut Compute) -> Result<()> {
    if compute.kernels == KernelsChoice::Torch || matches!(compute.device, DeviceChoice::Cuda(_) | DeviceChoice::Gpu(_))
    {
        let sentence = "--instruction-set is for the fused kernels on a CPU: leave it out, or --kernels and --device";
        bail!(UsageError(sentence.into()));
    }
    (compute.device, compute.kernels) = (DeviceChoice::Cpu, KernelsChoice::Fused);
    check_instruction_set(name, &fused::available_instruction_sets())?;
    fused::use_instruction_set(name);
    Ok(())
}

fn check_instruction_set(name: &str, available: &[&str]) -> Result<()> {
    let others = either(&available.iter().map(ToString::to_string).collect::<Vec<_>>(), "or");
    ensure!(available.contains(&name), "this processor does not have {name}: use --instruction-set {others}");
    Ok(())
}

/// The rounds that were asked for, and what they took.
struct Rounds<'a> {
    args: &'a Args,
    backend: Backend,
    /// Of the fused kernels, if those compute.
    instruction_set: Option<&'static str>,
    /// Whether steps are replayed as a CUDA graph.
    captured: bool,
    /// The seconds of each round that is done; in a round of steps, those of a step.
    done: Vec<f64>,
    /// With --profile, the recording of the last round, and what it says of how many steps.
    recording: Option<Recording>,
    profile: Option<(Profile, i64)>,
}

/// A finished round, or the recorded one: a line of JSON.
#[derive(Serialize)]
struct Round<T> {
    what: What,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<i64>,
    #[serde(flatten)]
    measured: T,
}

#[derive(Serialize)]
struct Seconds {
    seconds: f64,
}

impl Rounds<'_> {
    fn finished(&self) -> bool {
        self.are_measured() && (self.args.profile.is_none() || self.profile.is_some())
    }

    fn are_measured(&self) -> bool {
        self.done.len() as u32 >= self.args.rounds
    }

    /// How many steps the next round has, or the one under way.
    fn steps_of_round(&self) -> i64 {
        let most = if self.backend.device.is_cuda() { RECORDED_ON_GPU } else { RECORDED };
        if self.are_measured() { self.args.steps.min(most) } else { self.args.steps }
    }

    /// Starts a round, as soon as it may begin; `None` if stdin has ended.
    fn begin(&mut self) -> Result<Option<Instant>> {
        if self.args.on_request && std::io::stdin().read_line(&mut String::new())? == 0 {
            return Ok(None);
        }
        self.synchronize();
        if self.are_measured() {
            self.recording = Some(Recording::start(self.backend.device)?);
        }
        Ok(Some(Instant::now()))
    }

    /// Ends a round; one of steps has made `steps` of them.
    fn end(&mut self, began: Instant, steps: Option<i64>) -> Result<()> {
        self.synchronize();
        let (what, seconds) = (self.args.what, began.elapsed().as_secs_f64());
        if let (Some(recording), Some(trace)) = (self.recording.take(), &self.args.profile) {
            let unrecorded = median(&self.done) * steps.unwrap_or(1) as f64;
            let profile = Profile::finish(recording, trace, seconds, unrecorded, self.backend.device)?;
            self.say("profile", &Round { what, steps, measured: &profile })?;
            self.profile = Some((profile, steps.unwrap_or(1)));
            return Ok(());
        }
        self.done.push(seconds / steps.unwrap_or(1) as f64);
        self.say("round", &Round { what, steps, measured: Seconds { seconds } })
    }

    /// Waits until a GPU has done everything that was launched.
    fn synchronize(&self) {
        if let Device::Cuda(index) = self.backend.device {
            Cuda::synchronize(index as i64);
        }
    }

    fn say(&self, event: &str, fields: &impl Serialize) -> Result<()> {
        match self.args.output.format {
            OutputFormat::Json => say(run_folder::line(event, fields)?),
            OutputFormat::Text => Ok(()),
        }
    }

    /// Says that a round comes next: a script that measures the start-up waits for it.
    fn say_ready(&self) -> Result<()> {
        #[derive(Serialize)]
        struct Ready {
            instruction_set: Option<&'static str>,
            captured: bool,
        }
        self.synchronize();
        self.say("ready", &Ready { instruction_set: self.instruction_set, captured: self.captured })
    }

    fn evaluate(&mut self, settings: &Settings, net: &Net, data: &Data) -> Result<()> {
        self.backend.announce(settings.compute.device, None);
        let batch_size = settings.training.batches.batch_size;
        let batches = Shuffle::draw()?.batches(data.measured().len(), batch_size, self.backend.device)?;
        evaluate(net, data.measured(), &batches[..1], || true)?;
        self.say_ready()?;
        while !self.finished() {
            let Some(began) = self.begin()? else { break };
            evaluate(net, data.measured(), &batches, || true)?;
            self.end(began, None)?;
        }
        Ok(())
    }

    /// An ordinary training, which an observer holds between the rounds.
    fn train(&mut self, settings: &mut Settings, net: Net, teachers: &[Net], data: &Data) -> Result<()> {
        let epoch = steps_per_epoch(settings, &data.train);
        // An epoch holds at least one round of steps.
        settings.training.epochs = i64::from(self.args.rounds) + i64::from(self.args.profile.is_some());
        let stop = Cell::new(false);
        let folder = tempfile::tempdir()?;
        let checkpoint = folder.path().join("checkpoint");
        if !self.backend.device.is_cuda() {
            self.check_steps(settings, epoch, WARM_UP)?; // before teachers are asked, which takes long
        }
        let mut run = Run::new(settings, data, net)?;
        run.learn_from(teachers)?;
        run.prepare()?;
        self.captured = run.is_captured();
        // What graphs launch ran before it was captured: the first one in an epoch is all that no round has.
        let (warm_up, at_most) = if self.captured { (1, run.at_once()) } else { (WARM_UP, WARM_UP) };
        self.check_steps(settings, epoch, at_most)?;
        self.backend.announce(settings.compute.device, Some(self.captured));
        let mut held = Held { rounds: self, epoch, warm_up, is_ready: false, began: None, first: 0, stop: &stop };
        run.train(&checkpoint, &mut held, &|| stop.get())?;
        Ok(())
    }

    /// Refuses a round of more steps than an epoch of `epoch` steps has after the first `warm_up`.
    fn check_steps(&self, settings: &Settings, epoch: i64, warm_up: i64) -> Result<(), UsageError> {
        let (steps, most) = (self.args.steps, (epoch - warm_up).max(0));
        if self.args.what != What::Steps || steps <= most {
            return Ok(());
        }
        if most > 0 {
            return Err(UsageError(format!(
                "--steps takes at most {most}, not {steps}: an epoch has {epoch} steps, and the first {warm_up} warm up"
            )));
        }
        let (limit, batch_size) = (settings.data.limit_train, settings.training.batches.batch_size);
        let too_few = match limit {
            0 => format!("there are too few training images for --batch-size {batch_size}"),
            _ => format!("--limit-train {limit} is too small"),
        };
        let needed = (i128::from(warm_up) + i128::from(steps)) * i128::from(settings.training.images_per_step());
        Err(UsageError(format!("{too_few}: {warm_up} warm-up and {steps} measured steps need {needed} images")))
    }

    /// What the recorded round says, if there was one.
    fn print_profile(&self) -> Result<()> {
        let (Some((profile, count)), Some(trace)) = (&self.profile, &self.args.profile) else { return Ok(()) };
        let unit = match self.args.what {
            What::Steps => "step",
            What::Epoch => "epoch",
            What::Evaluate => "evaluation",
        };
        profile.lines(*count, unit).into_iter().try_for_each(say)?;
        say(format_args!("Wrote {}: open it in Perfetto or chrome://tracing", trace.display()))
    }

    /// The rounds as one line: the median, and the quickest and slowest.
    fn summary(&self, settings: &Settings, data: &Data) -> String {
        let seconds = &self.done;
        if seconds.is_empty() {
            return "no round was finished".into();
        }
        let median = median(seconds);
        let (least, most) =
            (seconds.iter().copied().fold(median, f64::min), seconds.iter().copied().fold(median, f64::max));
        let spread = |unit: f64| format!("{:.2} to {:.2} in {} rounds", least * unit, most * unit, seconds.len());
        match self.args.what {
            What::Steps => {
                let images = settings.training.images_per_step() as f64 / median;
                format!("{:.2} ms per step ({}), {images:.0} images per second", 1e3 * median, spread(1e3))
            }
            What::Epoch => format!("{median:.2} s per epoch with its test ({})", spread(1.0)),
            What::Evaluate => {
                let images = data.measured().len() as f64 / median;
                format!("{:.1} ms per evaluation ({}), {images:.0} images per second", 1e3 * median, spread(1e3))
            }
        }
    }
}

/// The middle one of some numbers; of an even number of them, the mean of the middle two.
fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    let lower = (sorted.len() - 1) / 2;
    (sorted[lower] + sorted[upper]) / 2.0
}

/// Starts and ends rounds at the events of a training.
struct Held<'a, 'b> {
    rounds: &'a mut Rounds<'b>,
    /// Steps of an epoch, and how many at its start, at least, no round has.
    epoch: i64,
    warm_up: i64,
    /// Whether a first step was made.
    is_ready: bool,
    /// When the round under way began, and the steps of the epoch that were done then.
    began: Option<Instant>,
    first: i64,
    stop: &'a Cell<bool>,
}

impl Held<'_, '_> {
    /// Begins a round when `done` steps of the epoch are done.
    fn begin(&mut self, done: i64) -> Result<()> {
        self.first = done;
        self.began = if self.rounds.finished() { None } else { self.rounds.begin()? };
        self.stop.set(self.began.is_none());
        Ok(())
    }

    fn end(&mut self, steps: Option<i64>) -> Result<()> {
        self.began.take().map_or(Ok(()), |began| self.rounds.end(began, steps))
    }

    /// When `done` steps of an epoch are done: rounds of steps lie within an epoch, after its first few. With graphs of
    /// several steps a round may have some more than were asked for.
    fn steps_done(&mut self, done: i64) -> Result<()> {
        let round = self.rounds.steps_of_round();
        if !self.is_ready {
            self.is_ready = true;
            self.rounds.say_ready()?;
        }
        let made = done - self.first;
        if self.began.is_some() && made >= round {
            self.end(Some(made))?;
        }
        let fits = done >= self.warm_up && done + round <= self.epoch;
        if self.began.is_none() && (fits || self.rounds.finished()) {
            self.begin(done)?;
        }
        Ok(())
    }
}

impl Observer for Held<'_, '_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        match (self.rounds.args.what, event) {
            (What::Epoch, Event::EpochStarted { epoch, .. }) => {
                if *epoch == 0 {
                    self.rounds.say_ready()?;
                }
                self.begin(0)
            }
            (What::Epoch, Event::EpochEnded) => self.end(None),
            (What::Steps, Event::Steps { done, .. }) => self.steps_done(*done),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(
            [&[3.0][..], &[1.0, 4.0], &[9.0, 1.0, 2.0], &[4.0, 1.0, 2.0, 3.0]].map(median),
            [3.0, 2.5, 2.0, 2.5]
        );
    }

    #[test]
    fn an_instruction_set_that_the_processor_lacks_is_refused_with_those_that_it_has() {
        assert!(check_instruction_set("portable", &["x86_64_v3", "portable"]).is_ok());
        let error = check_instruction_set("avx512", &["x86_64_v3", "portable"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this processor does not have avx512: use --instruction-set x86_64_v3 or portable"
        );
        // Exit code 1, not 2: on another processor the same command line works.
        assert!(!error.is::<UsageError>());
    }
}
