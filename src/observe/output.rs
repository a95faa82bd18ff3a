//! What is printed on stdout, and beside the log on stderr: those of the process, or of whoever called the program as a
//! function.

use anyhow::{Context, Result};
use clap::ValueEnum;
use std::cell::RefCell;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

/// The flag of the commands that print lines or JSON.
#[derive(clap::Args)]
pub(crate) struct OutputArgs {
    /// What stdout gets
    #[arg(long, alias = "log-format", value_enum, default_value_t, value_name = "FORMAT", help_heading = "Output")]
    pub(crate) format: OutputFormat,
}

/// The form of what is printed on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Nobody reads stdout any more, as when `head` has seen enough.
#[derive(Debug)]
pub(crate) struct StdoutClosed;

impl Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout was closed before the program ended")
    }
}

/// Where a command prints that is called as a function, instead of on the process's stdout and stderr.
pub(crate) struct Output {
    pub(crate) stdout: Box<dyn Write>,
    pub(crate) stderr: Box<dyn Write>,
}

thread_local! {
    /// The output of the command that this thread runs; `None`: that of the process.
    static GIVEN: RefCell<Option<Output>> = const { RefCell::new(None) };
}

/// Runs `body`, and sends to `output` what it prints on this thread.
pub(crate) fn printing_to<T>(output: Output, body: impl FnOnce() -> T) -> T {
    /// What was there before, also after a panic.
    struct Before(Option<Output>);
    impl Drop for Before {
        fn drop(&mut self) {
            GIVEN.set(self.0.take());
        }
    }
    let _before = Before(GIVEN.replace(Some(output)));
    body()
}

/// Whether the command that this thread runs has the process for itself: its terminal, its signals, its environment.
pub(crate) fn owns_process() -> bool {
    GIVEN.with_borrow(Option::is_none)
}

/// Lets `write` write on stdout.
fn on_stdout<T>(write: impl FnOnce(&mut dyn Write) -> T) -> T {
    GIVEN.with_borrow_mut(|given| match given {
        Some(output) => write(&mut output.stdout),
        None => write(&mut io::stdout().lock()),
    })
}

/// Lets `write` write on stderr.
pub(super) fn on_stderr<T>(write: impl FnOnce(&mut dyn Write) -> T) -> T {
    GIVEN.with_borrow_mut(|given| match given {
        Some(output) => write(&mut output.stderr),
        None => write(&mut io::stderr().lock()),
    })
}

/// Prints one line on stdout and flushes it, so that a pipe sees it at once.
///
/// # Errors
///
/// [`StdoutClosed`], or whatever else keeps it from being written, such as a full disk.
pub(crate) fn say(line: impl Display) -> Result<()> {
    match on_stdout(|stdout| writeln!(stdout, "{line}").and_then(|()| stdout.flush())) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(error).context(StdoutClosed),
        written => written.context("stdout cannot be written to"),
    }
}

/// Prints one line on stderr. If nobody reads that, nobody can be told.
pub(crate) fn complain(line: impl Display) {
    let _ = on_stderr(|stderr| writeln!(stderr, "{line}"));
}
