//! The learning rate of every step of a run: the warm-up, then the schedule.

use super::schedules::{Progress, linear};
use crate::settings::Settings;

/// The learning rate of every step of a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    settings: Settings,
    steps_per_epoch: i64,
    /// The rates of the steps before the schedule.
    warmup: Vec<f64>,
}

impl Schedule {
    /// The schedule of a run with `steps_per_epoch` steps per epoch.
    pub fn new(settings: &Settings, steps_per_epoch: i64) -> Schedule {
        let mut schedule = Schedule { settings: settings.clone(), steps_per_epoch, warmup: Vec::new() };
        let steps = settings.schedule.warmup_epochs * steps_per_epoch;
        let start = schedule.progress(0, &[]);
        let top = settings.schedule.chosen.kind().initial_lr(settings.optimizer.lr, start);
        let rise = linear::rates(top, 1.0 / (steps + 1) as f64, 1.0, steps);
        schedule.warmup = rise.take(steps as usize).collect();
        schedule
    }

    /// The learning rate of the step number `step` of the run, from 0. `losses` are those that were measured after each
    /// epoch so far, for `--schedule reduce-on-plateau`.
    ///
    /// ```
    /// use tch_mnist::{Schedule, Settings};
    /// let settings = Settings::from_flags(["--lr=0.1", "--step-size=2"]).unwrap();
    /// let schedule = Schedule::new(&settings, 10);
    /// assert_eq!([0, 19, 20].map(|step| schedule.lr(step, &[])), [0.1, 0.1, 0.1 * 0.1]);
    /// ```
    pub fn lr(&self, step: i64, losses: &[f64]) -> f64 {
        if let Some(&lr) = self.warmup.get(step as usize) {
            return lr;
        }
        let losses = losses.get(self.settings.schedule.warmup_epochs as usize..).unwrap_or_default();
        let progress = self.progress(step - self.warmup.len() as i64, losses);
        self.settings.schedule.chosen.kind().lr(self.settings.optimizer.lr, progress)
    }

    /// How far a run is that began after its warm-up and has made `step` steps.
    fn progress<'a>(&self, step: i64, losses: &'a [f64]) -> Progress<'a> {
        let epochs = self.settings.training.epochs - self.settings.schedule.warmup_epochs;
        let (steps, epoch) = (epochs * self.steps_per_epoch, step / self.steps_per_epoch);
        Progress { step, steps, epoch, epochs, losses }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::List;
    use crate::train::schedules::Scheduler;

    #[test]
    fn a_schedule_begins_after_the_warm_up_as_if_the_run_began_there() {
        let schedule = |kind: &str, flags: [&str; 2]| {
            let flags = [flags[0], flags[1], "--lr=0.5", "--validation=1", &format!("--schedule={kind}")];
            Schedule::new(&Settings::from_flags(flags).unwrap(), 10)
        };
        for kind in <dyn Scheduler>::all().iter().map(|entry| entry.name) {
            let plain = schedule(kind, ["--epochs=16", "--warmup-epochs=0"]);
            let warmed = schedule(kind, ["--epochs=18", "--warmup-epochs=2"]);
            let first = plain.lr(0, &[]);
            for step in 0..20 {
                let rising = first * (step + 1) as f64 / 21.0;
                assert!((warmed.lr(step, &[]) / rising - 1.0).abs() < 1e-12, "{kind}, step {step}");
            }
            for step in 0..160 {
                assert_eq!(warmed.lr(20 + step, &[]), plain.lr(step, &[]), "{kind}, {step} steps after the warm-up");
            }
        }
    }

    #[test]
    fn a_schedule_spans_the_run_if_more_epochs_change_its_rates() {
        for kind in <dyn Scheduler>::all().iter().map(|entry| entry.name) {
            let settings = |epochs: &str| {
                let flags = [epochs, &format!("--schedule={kind}"), "--validation=1", "--warmup-epochs=1"];
                Settings::from_flags(flags).unwrap()
            };
            let rates = |settings: &Settings| {
                let schedule = Schedule::new(settings, 10);
                (0..60).map(|step| schedule.lr(step, &[1.0; 6])).collect::<Vec<_>>()
            };
            let (short, long) = (settings("--epochs=6"), settings("--epochs=9"));
            let spans = short.schedule.chosen.kind().spans_the_run();
            assert_eq!(
                rates(&short) != rates(&long),
                spans,
                "{kind}: whether rates differ, and what spans_the_run says"
            );
        }
    }

    #[test]
    fn a_plateau_in_the_warm_up_is_not_one() {
        let flags = ["--schedule=reduce-on-plateau", "--plateau-patience=0", "--validation=1", "--warmup-epochs=2"];
        let schedule = Schedule::new(&Settings::from_flags(flags).unwrap(), 10);
        let losses = [1.0; 4];
        assert_eq!([20, 30, 40].map(|step| schedule.lr(step, &losses)), [0.01, 0.01, 0.01 * 0.1]);
    }
}
