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
mod import;
mod lists;
mod lr_find;
mod predict;
mod report;
mod serve;
mod session;
mod signals;
mod summary;
mod train;

use crate::error::{UsageError, sentence, usage_sentence, without_panic};
use crate::flags::polished;
use crate::libtorch::about;
use crate::memory;
use crate::observe::{StdoutClosed, complain};
use crate::settings::foreign_sentence;
use anyhow::Result;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser};
use signal_hook::consts::SIGPIPE;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;
use tracing::level_filters::LevelFilter;

/// A command: its flags, and what it does with them.
struct Entry {
    command: Command,
    run: Box<Run>,
}

type Run = dyn Fn(&ArgMatches, Verbosity) -> Result<Outcome>;

/// Every command, in the order of `--help`. The first one is the default.
fn all() -> Vec<Entry> {
    vec![
        entry(train::run),
        entry(lr_find::run),
        entry(evaluate::run),
        entry(predict::run),
        entry(serve::run),
        entry(summary::run),
        entry(export::run),
        entry(report::run),
        entry(backprop::run),
        entry(bench::run),
        entry(download::run),
        entry(import::run),
        entry(doctor::run),
        entry(lists::run),
    ]
}

fn entry<A: Parser + 'static>(run: fn(A, Verbosity) -> Result<Outcome>) -> Entry {
    let run = move |matches: &ArgMatches, verbosity| run(A::from_arg_matches(matches)?, verbosity);
    Entry { command: A::command(), run: Box::new(run) }
}

/// A PyTorch MNIST net of 11,392 parameters, layer for layer in Rust on libtorch.
#[derive(Parser)]
#[command(version = version(), max_term_width = 110, subcommand_required = true)]
struct Program {
    #[command(flatten)]
    verbosity: Verbosity,
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
    let commands = all();
    let matches = match parse(&commands) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            let sentence = foreign_sentence(&error).unwrap_or_else(|| usage_sentence(&error));
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
    let (name, flags) = matches.subcommand().expect("clap requires a command");
    let entry = commands.iter().find(|entry| entry.command.get_name() == name).expect("it is one of these");
    let trains = name == commands[0].command.get_name();
    let result = signals::survive_file_size_limit()
        .and_then(|()| without_panic(|| (entry.run)(flags, Verbosity::from_arg_matches(&matches)?)));
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

fn parse(commands: &[Entry]) -> Result<ArgMatches, clap::Error> {
    let program = Program::command().subcommands(commands.iter().map(|entry| entry.command.clone()));
    let program = program.mut_args(polished).mut_subcommands(|command| command.mut_args(polished));
    program.try_get_matches_from(arguments(commands[0].command.get_name()))
}

/// The command line with its command at the front: the `default` one if none is named, and -v and -q behind it.
/// `--no-invert` is short for `--invert=false`.
fn arguments(default: &str) -> Vec<OsString> {
    let spelt_out = |argument: OsString| if argument == "--no-invert" { "--invert=false".into() } else { argument };
    let mut arguments: Vec<OsString> = std::env::args_os().map(spelt_out).collect();
    let rest = arguments.get_mut(1..).unwrap_or_default();
    let is = |argument: &OsString, names: &[&str]| argument.to_str().is_some_and(|text| names.contains(&text));
    let leading = rest.iter().take_while(|word| is(word, &["-q", "-v", "-vv", "--quiet", "--verbose"])).count();
    match rest.get(leading) {
        // What needs no command: help, and the version.
        Some(word) if !word.as_encoded_bytes().starts_with(b"-") || is(word, &["-h", "--help", "-V", "--version"]) => {
            rest[..=leading].rotate_left(leading);
        }
        _ => arguments.insert(arguments.len().min(1), default.into()),
    }
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
