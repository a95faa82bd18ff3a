//! Signals that stop a run.

use crate::observe::{log, owns_process};
use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

/// The signals after which a run saves its checkpoint and ends: from a keyboard, a queue, a terminal that is closed, a
/// queue's warning, a limit on CPU time.
const INTERRUPT: [i32; 5] = [SIGINT, SIGTERM, SIGHUP, SIGUSR2, SIGXCPU];

/// Asks a run to stop after the step under way. The first signal decides how it ends; a second Ctrl-C or SIGTERM ends
/// the program at once.
pub(super) struct StopSignals {
    first: Arc<AtomicI32>,
    /// `None`: signals are another's, who called the program as a function.
    handle: Option<Handle>,
}

impl StopSignals {
    /// Takes note of SIGUSR1 from now on. The others still end the program: there is nothing to save yet.
    pub(super) fn listen() -> Result<StopSignals> {
        let first = Arc::new(AtomicI32::new(0));
        if !owns_process() {
            return Ok(StopSignals { first, handle: None });
        }
        let mut signals = Signals::new([SIGUSR1])?;
        let handle = Some(signals.handle());
        let noted = Arc::clone(&first);
        let listen = move || {
            let mut was_asked = false;
            while !signals.is_closed() {
                let mut arrived: Vec<i32> = signals.wait().collect();
                // Of several at once, SIGUSR1 comes last: its run would not be resumed.
                arrived.sort_by_key(|signal| *signal == SIGUSR1);
                arrived.into_iter().for_each(|signal| note(signal, &noted, &mut was_asked));
            }
        };
        thread::Builder::new().name("signals".into()).spawn(listen).context("no thread for signals")?;
        Ok(StopSignals { first, handle })
    }

    /// Takes note of the others too. A SIGHUP that `nohup` has turned off stays so.
    pub(super) fn listen_to_all(&self) -> Result<()> {
        let Some(handle) = &self.handle else { return Ok(()) };
        let mut wanted = INTERRUPT.into_iter().filter(|signal| *signal != SIGHUP || !is_ignored(SIGHUP));
        wanted.try_for_each(|signal| handle.add_signal(signal)).context("signals cannot be caught")
    }

    /// Whether there was one.
    pub(super) fn asked(&self) -> bool {
        self.signal() != 0
    }

    /// The first one's number; 0 when there was none.
    pub(super) fn signal(&self) -> i32 {
        self.first.load(Ordering::Relaxed)
    }
}

/// Keeps the first signal. `was_asked`: whether Ctrl-C or SIGTERM came before.
fn note(signal: i32, first: &AtomicI32, was_asked: &mut bool) {
    // If there was one before, that one stays.
    let _ = first.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    if [SIGINT, SIGTERM].contains(&signal) {
        if *was_asked {
            log::leave_bar();
            signal_hook::low_level::exit(128 + signal);
        }
        *was_asked = true;
    }
}

/// Whether this process was started with a signal turned off, as Linux says it.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Makes a file that grows beyond the limit on its size (`ulimit -f`) an error of the write, instead of the end of the
/// program.
pub(super) fn survive_file_size_limit() -> Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}
