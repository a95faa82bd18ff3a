//! The commands, one file each, and the list of them.
//!
//! Exit codes: 0 done, or pruned by SIGUSR1; 1 failed; 2 the command line is wrong; 130, 143 or another 128 + N
//! interrupted by Ctrl-C, SIGTERM or the signal N with the checkpoint saved; 141 the reader of stdout has seen enough.

mod backprop;
mod bench;
mod doctor;
mod download;
mod evaluate;
mod export;
mod foreign;
mod import;
mod lr_find;
mod predict;
mod report;
mod serve;
mod session;
mod signals;
mod summary;
mod train;

use crate::error::{UsageError, sentence, usage_sentence, without_panic};
use crate::libtorch::about;
use crate::memory;
use crate::observe::{StdoutClosed, complain};
use anyhow::Result;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use signal_hook::consts::SIGPIPE;
use std::any::TypeId;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;
use tracing::level_filters::LevelFilter;

/// A PyTorch MNIST net of 11,392 parameters, layer for layer in Rust on libtorch.
#[derive(Parser)]
#[command(version = version(), max_term_width = 110, args_conflicts_with_subcommands = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    train: train::Args,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Subcommand)]
enum Command {
    /// Train the net (the default command)
    #[command(args_override_self = true, after_help = train::HELP)]
    Train(Box<train::Args>),
    /// Find a learning rate: the range test, a few hundred steps at a rate that rises
    #[command(args_override_self = true, after_help = lr_find::HELP)]
    LrFind(Box<lr_find::Args>),
    /// Measure a weights file on the test set
    Evaluate(evaluate::Args),
    /// Predict which digit a picture shows
    Predict(predict::Args),
    /// Serve a page to draw digits on, and an HTTP interface to the net
    Serve(serve::Args),
    /// Print the layers, their output shapes, parameters and receptive fields
    Summary(summary::Args),
    /// Convert a weights file to another format
    Export(export::Args),
    /// Make the report of a run again, or compare several runs on one page
    Report(report::Args),
    /// Show backpropagation by hand on a 2-2-2 network
    Backprop(backprop::Args),
    /// Measure how fast it trains and evaluates
    #[command(args_override_self = true)]
    Bench(Box<bench::Args>),
    /// Download a dataset and check it
    Download(download::Args),
    /// Turn pictures, CSV, .npz, parquet or IDX files into a dataset to train on
    Import(import::Args),
    /// Show which libtorch, CUDA devices and data files are found
    Doctor(doctor::Args),
}

/// How much is logged on stderr.
#[derive(clap::Args, Clone, Copy)]
struct Verbosity {
    /// Log more on stderr (-v: debug, -vv: trace)
    #[arg(short, long, action = clap::ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,
    /// Log only errors on stderr, and show no progress bar
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl Verbosity {
    /// The least important level that is logged.
    fn level(self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::ERROR,
            (_, 0) => LevelFilter::INFO,
            (_, 1) => LevelFilter::DEBUG,
            (_, _) => LevelFilter::TRACE,
        }
    }

    /// Whether only errors are to be logged.
    fn is_quiet(self) -> bool {
        self.quiet
    }
}

/// How a command ended that did not fail.
enum Outcome {
    /// It did what it was asked.
    Done,
    /// A signal stopped it, and it saved what it had: the exit code is 128 plus this number.
    Interrupted(i32),
}

/// The whole program: parses the arguments, runs the command, prints an error as one line, returns the exit code.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let sentence = foreign::sentence(&error).unwrap_or_else(|| usage_sentence(&error));
            complain(format_args!("error: {sentence}"));
            return ExitCode::from(2);
        }
        Err(help_or_version) => {
            let _ = help_or_version.print();
            return ExitCode::SUCCESS;
        }
    };
    // A panic is reported in one line, as every error is; its place in the source goes to the log.
    std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
    let verbosity = cli.verbosity;
    let command = cli.command.unwrap_or_else(|| Command::Train(Box::new(cli.train)));
    let trains = matches!(command, Command::Train(_));
    let result = signals::survive_file_size_limit().and_then(|()| {
        without_panic(|| match command {
            Command::Train(args) => train::run(*args, verbosity),
            Command::LrFind(args) => lr_find::run(*args, verbosity),
            Command::Evaluate(args) => evaluate::run(args, verbosity),
            Command::Summary(args) => summary::run(args),
            Command::Export(args) => export::run(args, verbosity),
            Command::Predict(args) => predict::run(args, verbosity),
            Command::Serve(args) => serve::run(args, verbosity),
            Command::Report(args) => report::run(args, verbosity),
            Command::Backprop(args) => backprop::run(args),
            Command::Bench(args) => bench::run(*args, verbosity),
            Command::Download(args) => download::run(args, verbosity),
            Command::Import(args) => import::run(args, verbosity),
            Command::Doctor(args) => doctor::run(args),
        })
    });
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted(signal)) => ExitCode::from(128 + signal as u8),
        // As if by SIGPIPE. A training has more to do than to print, so that it says what became of it.
        Err(error) if error.is::<StdoutClosed>() && !trains => ExitCode::from(128 + SIGPIPE as u8),
        Err(error) => {
            let error = memory::of_anything(error);
            complain(format_args!("error: {}", sentence(&error)));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

fn parse() -> Result<Cli, clap::Error> {
    let mut command = Cli::command().mut_args(polished).mut_subcommands(|command| command.mut_args(polished));
    let matches = command.try_get_matches_from_mut(arguments())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// What holds for every flag: `--lr -1` is a wrong value, not an unknown flag `-1`; `--nesterov` is `--nesterov=true`.
fn polished(arg: Arg) -> Arg {
    if arg.is_positional() || !arg.get_action().takes_values() {
        return arg;
    }
    match arg.get_value_parser().type_id() == TypeId::of::<bool>() {
        true => arg.num_args(0..=1).require_equals(true).default_missing_value("true").hide_possible_values(true),
        false => arg.allow_negative_numbers(true),
    }
}

/// The command line, with a leading -v or -q moved behind the command: clap would take it for a flag of the default
/// command.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let rest = arguments.get_mut(1..).unwrap_or_default();
    let is_verbosity = |argument: &&OsString| {
        argument.to_str().is_some_and(|text| matches!(text, "-q" | "-v" | "-vv" | "--quiet" | "--verbose"))
    };
    let leading = rest.iter().take_while(is_verbosity).count();
    // Just behind the command: what follows `--` is never a flag.
    let is_command = rest.get(leading).is_some_and(|argument| !argument.as_encoded_bytes().starts_with(b"-"));
    let end = if is_command { leading + 1 } else { rest.len() };
    rest[..end].rotate_left(leading);
    arguments
}

/// `0.1.0 (tch 0.24.0, libtorch 2.11.0)`: tch as Cargo.lock has it, libtorch as it is loaded.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let libtorch = about::version().unwrap_or_else(|_| "unknown".into());
        format!("{} (tch {}, libtorch {libtorch})", env!("CARGO_PKG_VERSION"), env!("TCH_MNIST_TCH_VERSION"))
    });
    &VERSION
}
