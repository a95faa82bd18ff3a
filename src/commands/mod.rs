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
use crate::observe::{Output, StdoutClosed, can_redraw, complain, log, owns_process, printing_to, say};
use crate::settings::foreign_sentence;
use anyhow::Result;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser};
use signal_hook::consts::SIGPIPE;
use std::ffi::OsString;
use std::io::Write;
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

    /// Whether bars are shown.
    fn shows_bars(self) -> bool {
        !self.quiet && can_redraw()
    }
}

/// How a command ended that did not fail.
enum Outcome {
    /// It did what it was asked.
    Done,
    /// A signal stopped it, and it saved what it had: the exit code is 128 plus this number.
    Interrupted(i32),
}

/// The program as a process.
pub fn main() -> ExitCode {
    let prepare = |level| {
        // A panic is reported in one line, as every error is; its place in the source goes to the log.
        std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
        log::init(level);
        signals::survive_file_size_limit().map(|()| None)
    };
    ExitCode::from(run(std::env::args_os().collect(), prepare))
}

/// The program as a function: what it prints goes to `stdout` and `stderr`, and its exit code is returned. `arguments` are
/// those behind the program's name.
///
/// It leaves alone what belongs to the process: signals, the panic hook, the log of other threads, the terminal. The random
/// numbers and the number of threads of libtorch are the process's: calls that train do so one after the other.
pub fn call(
    arguments: impl IntoIterator<Item = OsString>,
    stdout: impl Write + 'static,
    stderr: impl Write + 'static,
) -> u8 {
    let arguments = [OsString::from("tch-mnist")].into_iter().chain(arguments).collect();
    let output = Output { stdout: Box::new(stdout), stderr: Box::new(stderr) };
    printing_to(output, || run(arguments, |level| Ok(Some(log::of_this_thread(level)))))
}

/// The whole program: parses the arguments, runs the command, prints an error as one line, returns the exit code.
/// `prepare` starts the log at a level; a guard ends it after the command.
fn run(arguments: Vec<OsString>, prepare: impl FnOnce(LevelFilter) -> Result<Option<log::ThreadLog>>) -> u8 {
    let commands = all();
    let matches = match parse(&commands, arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            let sentence = foreign_sentence(&error).unwrap_or_else(|| usage_sentence(&error));
            complain(format_args!("error: {sentence}"));
            return 2;
        }
        Err(help_or_version) => {
            // On a terminal it has colours.
            let _ = match owns_process() {
                true => help_or_version.print().map_err(Into::into),
                false => say(help_or_version.to_string().trim_end()),
            };
            return 0;
        }
    };
    let (name, flags) = matches.subcommand().expect("clap requires a command");
    let entry = commands.iter().find(|entry| entry.command.get_name() == name).expect("it is one of these");
    let trains = name == commands[0].command.get_name();
    let verbosity = Verbosity::from_arg_matches(&matches).expect("clap has parsed it");
    let result = prepare(verbosity.level()).and_then(|_log| without_panic(|| (entry.run)(flags, verbosity)));
    match result {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Interrupted(signal)) => 128 + signal as u8,
        // As if by SIGPIPE. A training has more to do than to print, so that it says what became of it.
        Err(error) if error.is::<StdoutClosed>() && !trains => 128 + SIGPIPE as u8,
        Err(error) => {
            let error = memory::of_anything(error);
            complain(format_args!("error: {}", sentence(&error)));
            if error.is::<UsageError>() { 2 } else { 1 }
        }
    }
}

fn parse(commands: &[Entry], arguments: Vec<OsString>) -> Result<ArgMatches, clap::Error> {
    let program = Program::command().subcommands(commands.iter().map(|entry| entry.command.clone()));
    let program = program.mut_args(polished).mut_subcommands(|command| command.mut_args(polished));
    program.try_get_matches_from(normalised(arguments, commands[0].command.get_name()))
}

/// The command line with its command at the front: the `default` one if none is named, and -v and -q behind it.
/// `--no-invert` is short for `--invert=false`.
fn normalised(arguments: Vec<OsString>, default: &str) -> Vec<OsString> {
    let spelt_out = |argument: OsString| if argument == "--no-invert" { "--invert=false".into() } else { argument };
    let mut arguments: Vec<OsString> = arguments.into_iter().map(spelt_out).collect();
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
