//! `tch-mnist lr-find`: the learning-rate range test of Leslie N. Smith, "Cyclical Learning Rates for Training Neural
//! Networks" (WACV 2017), as fastai's `lr_find` and torch-lr-finder do it.
//!
//! A few hundred steps of a run are made at a rate that rises exponentially. Where the loss falls most steeply, the
//! rate is one to train with; where it rises, the rate is too high.

mod chart;
mod curve;
mod picture;
mod range_test;

use super::session::{self, Backend};
use super::signals::StopSignals;
use super::{Outcome, Verbosity};
use crate::error::{UsageError, without_panic};
use crate::files::write_atomically;
use crate::memory;
use crate::observe::{Bar, OutputArgs, OutputFormat, say};
use crate::report;
use crate::run_folder;
use crate::settings::{Given, Settings, above, within};
use crate::train::{State, steps_per_epoch};
use anyhow::{Context, Result, bail};
use curve::{End, LossCurve, ROSE_TO, Range};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Find a learning rate: the range test, a few hundred steps at a rate that rises
#[derive(clap::Parser)]
#[command(name = "lr-find", args_override_self = true, after_long_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Given,

    /// Settings from a TOML file, such as the config.toml of a run; flags win over it
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    /// The learning rate of the first step
    #[arg(long, value_name = "X", default_value_t = 1e-5, value_parser = within("a number", above(0.0)))]
    min: f64,
    /// The learning rate of the last step, unless the loss rises before
    #[arg(long, value_name = "X", default_value_t = 10.0, value_parser = within("a number", above(0.0)))]
    max: f64,
    /// Training steps from --min to --max
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = within("a whole number", 2i64..=100_000))]
    steps: i64,
    /// Folder for lr_find.json, lr_find.svg and lr_find.png
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The end of `lr-find --help`.
const HELP: &str = "It takes every setting of a run, but neither --lr nor the schedule is used: the rate that \
    it suggests is for --lr, which is the highest rate of one-cycle. Apart from data that it downloads, it writes only the \
    files of --out.";

/// What a test found: the JSON object.
#[derive(Serialize)]
struct Found<'a> {
    /// The suggested rate; `None` if there is none, and then why.
    suggestion: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    ended: End,
    #[serde(flatten)]
    curve: &'a LossCurve,
    settings: &'a Settings,
}

/// Runs the command.
pub(super) fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    let Args { min, max, steps, .. } = args;
    if min >= max {
        bail!(UsageError(format!("--min takes a rate below --max, which is {max}, not {min}")));
    }
    let mut settings = Settings::resolve(args.config.as_deref(), &args.settings)?;
    let mut curve = LossCurve::new(Range { min, max, steps });
    let tested = without_panic(|| test(&mut settings, &mut curve, verbosity.shows_bars()));
    let tested = tested.map_err(|error| memory::of_batch_size(error, settings.training.batches.batch_size));
    if let Some(signal) = tested? {
        tracing::info!("interrupted after {} of {steps} steps", curve.losses.len());
        return Ok(Outcome::Interrupted(signal));
    }
    let ended = curve.end().expect("a test that was not interrupted is over");
    let (suggestion, reason) = match curve.steepest() {
        Ok(step) => (Some(two_digits(curve.rates[step]).clamp(min, max)), None),
        Err(reason) => (None, Some(reason)),
    };
    let found = Found { suggestion, reason, ended, curve: &curve, settings: &settings };
    let json = run_folder::line("lr_find", &found)?;
    if let Some(folder) = &args.out {
        write_files(folder, &json, &picture::draw(&curve, suggestion)?).context("--out was refused")?;
    }
    match args.output.format {
        OutputFormat::Json => say(json)?,
        OutputFormat::Text => print_text(&found)?,
    }
    if let (OutputFormat::Text, Some(folder)) = (args.output.format, &args.out) {
        say(format_args!("Wrote lr_find.json, lr_find.svg and lr_find.png to {}", folder.display()))?;
    }
    Ok(Outcome::Done)
}

/// Makes the steps; returns the number of the signal that ended them early, if one did.
fn test(settings: &mut Settings, curve: &mut LossCurve, show_bar: bool) -> Result<Option<i32>> {
    let architecture = settings.training.net.architecture()?;
    let backend = Backend::of_run(settings)?;
    let images = session::load_training_images(settings, backend.device, show_bar)?;
    let teachers = session::teachers(settings, &images, &backend)?;
    let net = session::initial_net(settings, &architecture, &backend, &images)?;
    backend.used_by(&net).announce(settings.compute.device, None);
    let mut state = State::new(net, settings, steps_per_epoch(settings, &images))?;
    state.learn_from(&teachers, &images, settings)?;
    let stop = StopSignals::listen()?;
    stop.listen_to_all()?;
    let Range { min, max, steps } = curve.range();
    tracing::info!("{} training images, {steps} steps at learning rates from {min} to {max}", images.len());
    let bar = Bar::start(steps, 0, show_bar);
    let watch = |rate, loss| {
        bar.set_message(format!("loss={loss:.4} lr={}", two_digits(rate)));
        bar.step();
    };
    let mut settings = settings.clone();
    settings.cuda.steps_per_graph = 1; // each loss is looked at
    let is_over = range_test::run(&settings, &images, &mut state, curve, watch, || stop.asked())?;
    Ok(if is_over { None } else { Some(stop.signal()) })
}

fn print_text(found: &Found) -> Result<()> {
    let Found { suggestion, reason, ended, curve, .. } = found;
    say("Loss over the learning rate: a line for the smoothed loss, a dot for each step")?;
    for line in chart::lines(curve, *suggestion) {
        say(line)?;
    }
    let last = two_digits(curve.rates[curve.rates.len() - 1]);
    match ended {
        End::LossRose => say(format_args!("Over at {last}: the smoothed loss was {ROSE_TO} times its minimum"))?,
        End::LossNotFinite => say(format_args!("Over at {last}: the loss was no longer finite"))?,
        // The reason below says what to do.
        End::AllSteps if reason.is_some() => {}
        End::AllSteps if curve.still_falls() => say("The loss still fell at the end: a higher --max may show more")?,
        End::AllSteps => {
            say(format_args!(
                "The smoothed loss did not rise to {ROSE_TO} times its minimum: a higher --max may show more"
            ))?;
        }
    }
    if let Some(lowest) = curve.lowest() {
        let (loss, rate) = (curve.smoothed[lowest], two_digits(curve.rates[lowest]));
        say(format_args!("Lowest smoothed loss: {loss:.3}, at {rate}"))?;
    }
    match (suggestion, reason) {
        (Some(rate), _) => {
            say(format_args!("Suggested learning rate: {rate}, where the smoothed loss fell most steeply"))
        }
        (None, reason) => {
            say(format_args!("No learning rate can be suggested: {}", reason.as_deref().unwrap_or_default()))
        }
    }
}

/// Writes what was found into `folder`.
fn write_files(folder: &Path, json: &str, svg: &str) -> Result<()> {
    report::write_plots(folder, &[("lr_find", svg.to_string())])?;
    write_atomically(&folder.join("lr_find.json"), |path| Ok(std::fs::write(path, format!("{json}\n"))?))
}

/// A rate as precisely as such a test can tell it.
fn two_digits(rate: f64) -> f64 {
    format!("{rate:.1e}").parse().unwrap_or(rate)
}
