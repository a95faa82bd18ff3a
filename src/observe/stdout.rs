//! What is printed on stdout, and beside the log on stderr.

use anyhow::{Context, Result};
use clap::ValueEnum;
use std::fmt::{self, Display};
use std::io::{ErrorKind, Write};

/// The form of what is printed on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
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

/// Prints one line on stdout and flushes it, so that a pipe sees it at once.
///
/// # Errors
///
/// [`StdoutClosed`], or whatever else keeps it from being written, such as a full disk.
pub(crate) fn say(line: impl Display) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(error).context(StdoutClosed),
        written => written.context("stdout cannot be written to"),
    }
}

/// Prints one line on stderr. If nobody reads that, nobody can be told.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
