//! Learning rates: the schedules of `torch.optim.lr_scheduler`, one file each, rounded as PyTorch rounds.
//!
//! A schedule is a pure function of the settings, of how far the run is, and of what was measured so far. A checkpoint
//! need not hold it, and a resume with more epochs goes on as if they had been asked for at the start.

mod cosine;
mod cosine_warm_restarts;
mod exponential;
mod linear;
mod multi_step;
mod one_cycle;
mod reduce_on_plateau;
mod step;

use crate::settings::{ScheduleKind, Settings};

/// How far a run is after its warm-up.
#[derive(Clone, Copy, Debug)]
struct Progress<'a> {
    /// Steps done, and all steps.
    step: i64,
    steps: i64,
    /// Epochs done, and all epochs.
    epoch: i64,
    epochs: i64,
    /// The loss that was measured after each epoch that is done, or after the first of them.
    losses: &'a [f64],
}

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
        let top = match settings.schedule.schedule {
            ScheduleKind::OneCycle => one_cycle::initial_lr(settings.optimizer.lr),
            _ => schedule.after_warmup(0, &[]),
        };
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
        let before = self.settings.schedule.warmup_epochs as usize;
        match self.warmup.get(step as usize) {
            Some(&lr) => lr,
            None => self.after_warmup(step - self.warmup.len() as i64, losses.get(before..).unwrap_or_default()),
        }
    }

    /// The rate of a step of a run that begins after its warm-up.
    fn after_warmup(&self, step: i64, losses: &[f64]) -> f64 {
        let (lr, schedule) = (self.settings.optimizer.lr, &self.settings.schedule);
        let epochs = self.settings.training.epochs - schedule.warmup_epochs;
        let (steps, epoch) = (epochs * self.steps_per_epoch, step / self.steps_per_epoch);
        let progress = Progress { step, steps, epoch, epochs, losses };
        match schedule.schedule {
            ScheduleKind::Step => step::lr(lr, schedule.step_size, schedule.gamma, progress),
            ScheduleKind::MultiStep => multi_step::lr(lr, &schedule.milestones.0, schedule.gamma, progress),
            ScheduleKind::Exponential => exponential::lr(lr, schedule.gamma, progress),
            ScheduleKind::Linear => {
                linear::lr(lr, schedule.start_factor, schedule.end_factor, schedule.total_iters, progress)
            }
            ScheduleKind::Cosine => cosine::lr(lr, schedule.eta_min, progress),
            ScheduleKind::CosineWarmRestarts => {
                cosine_warm_restarts::lr(lr, schedule.t_0, schedule.t_mult, schedule.eta_min, progress)
            }
            ScheduleKind::OneCycle => one_cycle::lr(lr, schedule.pct_start, progress),
            ScheduleKind::ReduceOnPlateau => reduce_on_plateau::lr(lr, schedule, progress),
            ScheduleKind::Constant => lr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    impl Progress<'_> {
        /// At the beginning of an epoch of ten steps.
        pub(super) fn at_epoch(epoch: i64, epochs: i64) -> Progress<'static> {
            Progress { step: 10 * epoch, steps: 10 * epochs, epoch, epochs, losses: &[] }
        }
    }

    #[test]
    fn a_schedule_begins_after_the_warm_up_as_if_the_run_began_there() {
        let schedule = |kind: ScheduleKind, flags: [&str; 2]| {
            let own: &[&str] = match kind {
                ScheduleKind::Step => &["--step-size=1"],
                ScheduleKind::MultiStep => &["--milestones=1,3"],
                ScheduleKind::CosineWarmRestarts => &["--t-0=2"],
                // One that looks at losses has a test of its own.
                ScheduleKind::ReduceOnPlateau => &["--validation=1"],
                _ => &[],
            };
            let flags = [flags[0], flags[1], "--lr=0.5", &format!("--schedule={kind}")];
            Schedule::new(&Settings::from_flags(flags.iter().chain(own)).unwrap(), 10)
        };
        for &kind in ScheduleKind::value_variants() {
            let plain = schedule(kind, ["--epochs=4", "--warmup-epochs=0"]);
            let warmed = schedule(kind, ["--epochs=6", "--warmup-epochs=2"]);
            let first = plain.lr(0, &[]);
            for step in 0..20 {
                let rising = first * (step + 1) as f64 / 21.0;
                assert!((warmed.lr(step, &[]) / rising - 1.0).abs() < 1e-12, "{kind}, step {step}");
            }
            for step in 0..40 {
                assert_eq!(warmed.lr(20 + step, &[]), plain.lr(step, &[]), "{kind}, {step} steps after the warm-up");
            }
        }
    }

    #[test]
    fn a_schedule_spans_the_run_if_more_epochs_change_its_rates() {
        for &kind in ScheduleKind::value_variants() {
            let rates = |epochs: &str| {
                let flags = [epochs, &format!("--schedule={kind}"), "--validation=1", "--warmup-epochs=1"];
                let schedule = Schedule::new(&Settings::from_flags(flags).unwrap(), 10);
                (0..60).map(|step| schedule.lr(step, &[1.0; 6])).collect::<Vec<_>>()
            };
            let differ = rates("--epochs=6") != rates("--epochs=9");
            assert_eq!(differ, kind.spans_the_run(), "{kind}: whether rates differ, and what spans_the_run says");
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
