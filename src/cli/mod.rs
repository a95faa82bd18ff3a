//! Every flag and its help text, one file a command; and what an error looks like.
//!
//! Exit codes: 0 done, or pruned by SIGUSR1; 1 the run failed; 2 the command line is wrong; 130 and 143 interrupted by
//! Ctrl-C or SIGTERM with the checkpoint saved.

mod backprop;
mod bench;
mod compute;
mod doctor;
mod download;
mod evaluate;
mod export;
mod predict;
mod report;
mod summary;
mod train;

use crate::libtorch::without_panic;
use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
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
    /// Measure a weights file on the test images
    Evaluate(evaluate::Args),
    /// Say which digit a picture shows
    Predict(predict::Args),
    /// Print the layers, their output shapes and parameters; with --recipe its settings too
    Summary(summary::Args),
    /// Turn a weights file into another format
    Export(export::Args),
    /// Make the report of a run again, or compare several runs on one page
    Report(report::Args),
    /// Show backpropagation by hand on a 2-2-2 network
    Backprop(backprop::Args),
    /// Measure how fast it trains and evaluates
    #[command(args_override_self = true)]
    Bench(Box<bench::Args>),
    /// Fetch a dataset and check it
    Download(download::Args),
    /// Say what is found of libtorch, CUDA and the data
    Doctor(doctor::Args),
}

/// How much is said on stderr.
#[derive(clap::Args, Clone, Copy)]
pub struct Verbosity {
    /// Say more on stderr (-v: debug, -vv: trace)
    #[arg(short, long, action = clap::ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl Verbosity {
    /// The least important level that stderr gets.
    fn level(self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::ERROR,
            (_, 0) => LevelFilter::INFO,
            (_, 1) => LevelFilter::DEBUG,
            (_, _) => LevelFilter::TRACE,
        }
    }

    /// Whether only errors are to be said.
    fn is_quiet(self) -> bool {
        self.quiet
    }
}

/// The form of what is printed on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// How a command ended, when it did not fail.
pub enum Outcome {
    /// It did what it was asked.
    Done,
    /// A signal stopped it, and it saved what it had: the exit code is 128 plus this number.
    Interrupted(i32),
}

/// A mistake in the command line: exit code 2.
#[derive(Debug)]
pub struct UsageError(pub String);

impl Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The whole program: parses the arguments, runs the command, prints an error as one line, returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            eprintln!("error: {}", usage_sentence(&error));
            return ExitCode::from(2);
        }
        Err(help_or_version) => {
            let _ = help_or_version.print();
            return ExitCode::SUCCESS;
        }
    };
    // A panic is reported as any error is, in one line; where it came from goes to the log.
    std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
    let verbosity = cli.verbosity;
    let command = cli.command.unwrap_or_else(|| Command::Train(Box::new(cli.train)));
    let result = without_panic(|| match command {
        Command::Train(args) => train::run(*args, verbosity),
        Command::Evaluate(args) => evaluate::run(args, verbosity),
        Command::Summary(args) => summary::run(args),
        Command::Export(args) => export::run(args, verbosity),
        Command::Predict(args) => predict::run(args, verbosity),
        Command::Report(args) => report::run(args, verbosity),
        Command::Backprop(args) => backprop::run(args),
        Command::Bench(args) => bench::run(*args, verbosity),
        Command::Download(args) => download::run(args, verbosity),
        Command::Doctor(args) => doctor::run(args),
    });
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted(signal)) => ExitCode::from(128 + signal as u8),
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

/// The command line, with -v and -q behind the command where they stand before it: clap would take them for flags of
/// the default command.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let rest = arguments.get_mut(1..).unwrap_or_default();
    let is_verbosity = |argument: &&OsString| {
        argument.to_str().is_some_and(|text| matches!(text, "-q" | "-v" | "-vv" | "--quiet" | "--verbose"))
    };
    let leading = rest.iter().take_while(is_verbosity).count();
    rest.rotate_left(leading);
    arguments
}

/// An error and its causes on one line: `what is wrong: why`.
fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = crate::libtorch::first_line(&cause.to_string()).trim().to_string();
        // Some errors repeat their cause in their own text.
        if !parts.last().is_some_and(|last| last.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// What clap says over several lines, on one: its message, its tip, and where help is.
fn usage_sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_string();
    let tip = paragraphs.find_map(|part| part.strip_prefix("tip: ").map(|tip| format!(" ({tip})"))).unwrap_or_default();
    format!("{message}{tip}; tch-mnist --help lists the commands, tch-mnist COMMAND --help their flags")
}

/// Prints one line on stdout and flushes it, so that a pipe sees it at once.
///
/// # Errors
///
/// When stdout is closed, as by `| head -1`.
pub fn say(line: impl Display) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("stdout was closed before the program ended")
}

/// `0.1.0 (tch 0.24.0, libtorch 2.11.0)`: tch as Cargo.lock has it, libtorch as it is loaded.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let libtorch = crate::libtorch::about::version().unwrap_or_else(|_| "unknown".into());
        format!("{} (tch {}, libtorch {libtorch})", env!("CARGO_PKG_VERSION"), env!("TCH_MNIST_TCH_VERSION"))
    });
    &VERSION
}
