//! libtorch's profiler, as `torch.profiler.profile` uses it: which operations run, and for how long.

use super::{allocator, check};
use anyhow::{Context, Result};
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tch::Device;

/// `Recorded` of `profiler.cpp`.
#[repr(C)]
struct RawEvent {
    name: *const c_char,
    on_gpu: bool,
    thread: u64,
    start: u64,
    duration: u64,
}

unsafe extern "C" {
    fn tm_profiler_start(cuda: bool) -> *mut c_char;
    fn tm_profiler_stop(
        trace: *const c_char,
        context: *mut c_void,
        each: extern "C" fn(*mut c_void, *const RawEvent),
    ) -> *mut c_char;
    fn tm_profiler_cancel() -> *mut c_char;
}

/// An operation of libtorch on the CPU, which may contain others, or a kernel on a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub on_gpu: bool,
    /// The thread that ran it, for operations on the CPU.
    pub thread: u64,
    /// In nanoseconds, since some moment.
    pub start: u64,
    pub duration: u64,
}

/// A recording under way, of this thread and of one GPU if there is one.
pub struct Recording {
    is_over: bool,
}

impl Recording {
    /// Begins to record. A program has one recording at a time.
    pub fn start(device: Device) -> Result<Recording> {
        allocator::touch_memory();
        // SAFETY: takes a number, and returns why it failed.
        unsafe { check(tm_profiler_start(device.is_cuda()))? };
        Ok(Recording { is_over: false })
    }

    /// Ends it, and writes it to `trace` as JSON for Perfetto or `chrome://tracing`. The GPU must have done what is to
    /// be recorded.
    pub fn stop(mut self, trace: &Path) -> Result<Vec<Event>> {
        extern "C" fn push(events: *mut c_void, raw: *const RawEvent) {
            // SAFETY: `tm_profiler_stop` passes on the vector below, which nothing else uses meanwhile, and an event
            // whose name is a NUL-terminated string.
            let (events, raw) = unsafe { (&mut *events.cast::<Vec<Event>>(), &*raw) };
            let name = unsafe { CStr::from_ptr(raw.name) }.to_string_lossy().into_owned();
            let RawEvent { on_gpu, thread, start, duration, .. } = *raw;
            events.push(Event { name, on_gpu, thread, start, duration });
        }
        let trace = CString::new(trace.as_os_str().as_bytes()).context("a path with a NUL byte")?;
        let mut events = Vec::new();
        self.is_over = true;
        // SAFETY: the path lives through the call, and so does the vector that `push` gets.
        unsafe { check(tm_profiler_stop(trace.as_ptr(), (&raw mut events).cast(), push))? };
        Ok(events)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.is_over {
            // SAFETY: ends what `start` began; whatever it says, nothing is recorded any more.
            let _ = unsafe { check(tm_profiler_cancel()) };
        }
    }
}
