//! What is printed on stdout.

use anyhow::{Context, Result};
use clap::ValueEnum;
use std::fmt::Display;
use std::io::Write;

/// The form of what is printed on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Prints one line on stdout and flushes it, so that a pipe sees it at once.
pub(crate) fn say(line: impl Display) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("stdout was closed before the program ended")
}
