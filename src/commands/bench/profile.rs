//! What a round spent its time on: operations of libtorch on a CPU, kernels on a GPU.

use crate::files::write_atomically;
use crate::libtorch::profiler::{Event, Recording};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;
use tch::Device;

/// The share of the time below which an operation is one of the "others" in the table.
const LEAST: f64 = 0.005;

/// How much of a name the table shows.
const LONGEST_NAME: usize = 120;

/// A recorded round.
#[derive(Serialize)]
pub(super) struct Profile {
    /// Whether `operations` are kernels of a GPU.
    on_gpu: bool,
    /// How long it took, with the profiler on.
    seconds: f64,
    /// How long nothing of `operations` ran. On a GPU, where the profiler delays the launches, but not the kernels, this
    /// is what is left of a round that was not recorded.
    idle_seconds: f64,
    /// Those that took longest first.
    operations: Vec<Operation>,
}

/// All calls of an operation, without the time of the operations that it calls; or all runs of a kernel.
#[derive(Debug, PartialEq, Serialize)]
struct Operation {
    name: String,
    calls: usize,
    seconds: f64,
}

impl Profile {
    /// Of a round on `device` that took `seconds` and is over; without the profiler it would take `unrecorded`. The
    /// recording is written to the file `trace`.
    pub(super) fn finish(
        recording: Recording,
        trace: &Path,
        seconds: f64,
        unrecorded: f64,
        device: Device,
    ) -> Result<Profile> {
        let mut events = Vec::new();
        let write = |path: &Path| {
            events = recording.stop(path)?;
            Ok(())
        };
        write_atomically(trace, write).context("--profile was refused")?;
        let profile = Profile::of(events, seconds, unrecorded);
        ensure!(
            profile.on_gpu == device.is_cuda(),
            "the profiler saw no kernel on the GPU: with KINETO_LOG_LEVEL=2 in the environment it says why"
        );
        Ok(profile)
    }

    /// Of a round's kernels if there are any, else of its operations on the CPU.
    fn of(mut events: Vec<Event>, seconds: f64, unrecorded: f64) -> Profile {
        let on_gpu = events.iter().any(|event| event.on_gpu);
        if on_gpu {
            events.retain(|event| event.on_gpu);
        } else {
            subtract_inner(&mut events);
        }
        let operations = by_name(&events);
        let busy: f64 = operations.iter().map(|operation| operation.seconds).sum();
        let whole = if on_gpu { unrecorded } else { seconds };
        Profile { on_gpu, seconds, idle_seconds: (whole - busy).max(0.0), operations }
    }

    /// The table for people: times and calls in each of the `count` things, each a `unit`, that the round did.
    pub(super) fn lines(&self, count: i64, unit: &str) -> Vec<String> {
        let (count, milliseconds) = (count as f64, 1e3 / count as f64);
        let what = if self.on_gpu { "kernel" } else { "operation" };
        let whole = self.operations.iter().map(|operation| operation.seconds).sum::<f64>() + self.idle_seconds;
        let line = |seconds: f64, calls: usize, name: &str| {
            let share = 100.0 * seconds / whole;
            // The name of a kernel holds all its template arguments.
            let name: String = name.trim_start_matches("void ").chars().take(LONGEST_NAME).collect();
            format!("{:>11.3}  {share:>5.1} %  {:>9.1}  {name}", seconds * milliseconds, calls as f64 / count)
        };
        let long = self.operations.iter().take_while(|operation| operation.seconds >= LEAST * whole).count();
        let (long, short) = self.operations.split_at(long);
        let mut lines = vec![
            format!("Recorded: {:.3} ms per {unit}, with the profiler on", self.seconds * milliseconds),
            format!("{:>11}  {:>7}  {:>9}  {what}", "ms", "share", "calls"),
        ];
        lines.extend(long.iter().map(|operation| line(operation.seconds, operation.calls, &operation.name)));
        let (seconds, calls) =
            (short.iter().map(|other| other.seconds).sum(), short.iter().map(|other| other.calls).sum());
        lines.push(line(seconds, calls, &format!("({} others)", short.len())));
        lines.push(line(self.idle_seconds, 0, &format!("(no {what})")));
        lines
    }
}

/// Takes from the duration of each event that of the events within it, on the same thread.
fn subtract_inner(events: &mut [Event]) {
    events.sort_by_key(|event| (event.thread, event.start, Reverse(event.duration)));
    // The events around the current one, each with its end.
    let mut around: Vec<(usize, u64)> = Vec::new();
    for index in 0..events.len() {
        let Event { thread, start, duration, .. } = events[index];
        while around.last().is_some_and(|&(outer, end)| events[outer].thread != thread || end <= start) {
            around.pop();
        }
        if let Some(&(outer, _)) = around.last() {
            events[outer].duration = events[outer].duration.saturating_sub(duration);
        }
        around.push((index, start + duration));
    }
}

/// The events of each name together, those that took longest first.
fn by_name(events: &[Event]) -> Vec<Operation> {
    let mut sums: HashMap<&str, (usize, u64)> = HashMap::new();
    for event in events {
        let (calls, nanoseconds) = sums.entry(&event.name).or_default();
        *calls += 1;
        *nanoseconds += event.duration;
    }
    let operation = |(name, (calls, nanoseconds)): (&str, (usize, u64))| Operation {
        name: name.into(),
        calls,
        seconds: nanoseconds as f64 * 1e-9,
    };
    let mut operations: Vec<Operation> = sums.into_iter().map(operation).collect();
    operations.sort_by(|one, other| other.seconds.total_cmp(&one.seconds).then_with(|| one.name.cmp(&other.name)));
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, on_gpu: bool, thread: u64, start: u64, duration: u64) -> Event {
        Event { name: name.into(), on_gpu, thread, start, duration }
    }

    /// Name, calls and nanoseconds of each operation.
    fn rows(profile: &Profile) -> Vec<(&str, usize, i64)> {
        let nanoseconds = |seconds: f64| (1e9 * seconds).round() as i64;
        profile.operations.iter().map(|each| (each.name.as_str(), each.calls, nanoseconds(each.seconds))).collect()
    }

    #[test]
    fn the_time_of_an_operation_is_without_those_that_it_calls() {
        let events = vec![
            event("inner", false, 1, 20, 30),
            event("outer", false, 1, 10, 60),
            event("innermost", false, 1, 25, 5),
            event("inner", false, 1, 50, 10),
            event("after", false, 1, 70, 10),
            // At the same time, and not within.
            event("elsewhere", false, 2, 20, 7),
        ];
        let profile = Profile::of(events, 1e-7, 0.9e-7);
        let expected = [("inner", 2, 35), ("outer", 1, 20), ("after", 1, 10), ("elsewhere", 1, 7), ("innermost", 1, 5)];
        assert_eq!(rows(&profile), expected);
        assert_eq!((profile.idle_seconds * 1e9).round(), 23.0);
    }

    #[test]
    fn on_a_gpu_its_kernels_count_and_not_what_launched_them() {
        let events =
            vec![event("launch", false, 1, 0, 90), event("kernel", true, 0, 5, 40), event("kernel", true, 0, 50, 10)];
        let profile = Profile::of(events, 1e-7, 0.9e-7);
        assert_eq!(rows(&profile), [("kernel", 2, 50)]);
        // Of a round that was not recorded.
        assert_eq!((profile.idle_seconds * 1e9).round(), 40.0);
    }

    #[test]
    fn the_table_adds_up() {
        let mut events = vec![event("long", false, 1, 0, 5_000_000)];
        events.extend((0..30).map(|i| event(&format!("short{i}"), false, 1, 5_000_000 + 20_000 * i, 10_000)));
        let lines = Profile::of(events, 0.01, 0.009).lines(2, "step");
        let expected = [
            "Recorded: 5.000 ms per step, with the profiler on",
            "         ms    share      calls  operation",
            "      2.500   50.0 %        0.5  long",
            "      0.150    3.0 %       15.0  (30 others)",
            "      2.350   47.0 %        0.0  (no operation)",
        ];
        assert_eq!(lines, expected);
    }
}
