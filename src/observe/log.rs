//! The log: on stderr what the flags ask for, in a run's `log.txt` everything.

use indicatif::ProgressBar;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// The bar that is on the terminal now: a line of the log must not be written into it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// The run's `log.txt`, once its folder is known.
static FILE: OnceLock<File> = OnceLock::new();

/// Starts logging: on stderr from `level` up, or what `RUST_LOG` says; in [`to_file`]'s file from debug up.
pub(crate) fn init(level: LevelFilter) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => filter.parse_lossy(directives),
        _ => filter.parse_lossy(format!("tch_mnist={level}")),
    };
    let stderr = fmt::layer().with_writer(Stderr).without_time().with_target(false).with_ansi(false);
    let file = fmt::layer().with_writer(LogFile).with_target(false).with_ansi(false);
    let file_filter = tracing_subscriber::filter::Targets::new().with_target("tch_mnist", LevelFilter::DEBUG);
    tracing_subscriber::registry().with(stderr.with_filter(filter)).with(file.with_filter(file_filter)).init();
}

/// Logs to `file` too from now on.
pub(crate) fn to_file(file: File) {
    let _ = FILE.set(file);
}

/// Says which bar is on the terminal.
pub(crate) fn set_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = bar;
}

/// Ends the line that the bar is on, if nobody is drawing it: the program is about to end.
pub(crate) fn leave_bar() {
    if let Some(bar) = BAR.try_lock().ok().and_then(|mut bar| bar.take()) {
        bar.abandon();
    }
}

/// stderr, with the bar out of the way.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bar = BAR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match bar.as_ref() {
            Some(bar) => bar.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Stderr;

    fn make_writer(&self) -> Stderr {
        Stderr
    }
}

/// The run's `log.txt`; before there is one, nothing.
struct LogFile;

impl MakeWriter<'_> for LogFile {
    type Writer = Box<dyn Write>;

    fn make_writer(&self) -> Box<dyn Write> {
        match FILE.get() {
            Some(file) => Box::new(file),
            None => Box::new(io::sink()),
        }
    }
}
