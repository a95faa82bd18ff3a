//! Signals that stop a run.

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Ctrl-C, SIGTERM and SIGUSR1 ask the run to stop after the step under way; a second Ctrl-C or SIGTERM ends it at
/// once.
pub(super) struct StopSignals(Arc<AtomicUsize>);

impl StopSignals {
    /// Takes note of signals from now on.
    pub(super) fn listen() -> Result<StopSignals> {
        let signal = Arc::new(AtomicUsize::new(0));
        let second = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // The order matters: the handler that ends at once looks at what an earlier signal left.
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&second))?;
            signal_hook::flag::register(number, Arc::clone(&second))?;
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        signal_hook::flag::register_usize(SIGUSR1, Arc::clone(&signal), SIGUSR1 as usize)?;
        Ok(StopSignals(signal))
    }

    /// Whether there was one.
    pub(super) fn asked(&self) -> bool {
        self.signal() != 0
    }

    /// The last one's number; 0 when there was none.
    pub(super) fn signal(&self) -> i32 {
        self.0.load(Ordering::Relaxed) as i32
    }
}
