//! The log: on stderr what the flags ask for, in a run's `log.txt` everything.

use super::output::{on_stderr, owns_process};
use indicatif::ProgressBar;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// The bar that is on the terminal now: a line of the log must not be written into it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// The run's `log.txt`, once its folder is known.
type LogFile = Arc<OnceLock<File>>;

thread_local! {
    /// That of the command that this thread runs.
    static FILE: RefCell<LogFile> = RefCell::default();
}

/// Starts logging in the whole process: on stderr from `level` up, or what `RUST_LOG` says; in [`to_file`]'s file from
/// debug up.
pub(crate) fn init(level: LevelFilter) {
    let directives = std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty());
    subscriber(&directives.unwrap_or_else(|| own(level))).init();
}

/// Starts logging what this thread does, until the guard is dropped: on stderr from `level` up, in [`to_file`]'s file from
/// debug up.
pub(crate) fn of_this_thread(level: LevelFilter) -> ThreadLog {
    ThreadLog { _guard: subscriber(&own(level)).set_default() }
}

/// The log of a thread. When it ends its file is closed, whose lock says that a run is under way.
pub(crate) struct ThreadLog {
    _guard: DefaultGuard,
}

impl Drop for ThreadLog {
    fn drop(&mut self) {
        FILE.take();
    }
}

/// The directives for this program from `level` up.
fn own(level: LevelFilter) -> String {
    format!("tch_mnist={level}")
}

fn subscriber(directives: &str) -> impl Subscriber + Send + Sync + use<> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).parse_lossy(directives);
    let log_file = LogFile::default();
    FILE.set(Arc::clone(&log_file));
    let stderr = fmt::layer().with_writer(|| Stderr).without_time().with_target(false).with_ansi(false);
    let file = fmt::layer().with_writer(InFile(log_file)).with_target(false).with_ansi(false);
    let file_filter = tracing_subscriber::filter::Targets::new().with_target("tch_mnist", LevelFilter::DEBUG);
    tracing_subscriber::registry().with(stderr.with_filter(filter)).with(file.with_filter(file_filter))
}

/// Logs to `file` too from now on.
pub(crate) fn to_file(file: File) {
    // A run has one folder.
    let _ = FILE.with_borrow(|log_file| log_file.set(file));
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
        let write = || on_stderr(|stderr| stderr.write(bytes));
        let bar = BAR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match bar.as_ref() {
            Some(bar) if owns_process() => bar.suspend(write),
            _ => write(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        on_stderr(|stderr| stderr.flush())
    }
}

/// The run's `log.txt`; before there is one, nothing.
struct InFile(LogFile);

impl<'a> MakeWriter<'a> for InFile {
    type Writer = Box<dyn Write + 'a>;

    fn make_writer(&'a self) -> Box<dyn Write + 'a> {
        match self.0.get() {
            Some(file) => Box::new(file),
            None => Box::new(io::sink()),
        }
    }
}
