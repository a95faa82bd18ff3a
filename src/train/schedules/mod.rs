//! Learning rates: the schedules of `torch.optim.lr_scheduler`, one file each, rounded as PyTorch rounds.
//!
//! A schedule is a pure function of the settings and of how far the run is. A checkpoint need not hold it, and a resume
//! with more epochs goes on as if they had been asked for at the start.

mod cosine;
mod one_cycle;
mod step;

use crate::settings::{ScheduleKind, Settings};

/// How far a run is.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Steps done in the run, and steps of the whole run.
    step: i64,
    steps: i64,
    /// Epochs done in the run, and epochs of the whole run.
    epoch: i64,
    epochs: i64,
}

/// The learning rate of every step of a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    settings: Settings,
    steps_per_epoch: i64,
}

impl Schedule {
    /// The schedule of a run with `steps_per_epoch` steps per epoch.
    pub fn new(settings: &Settings, steps_per_epoch: i64) -> Schedule {
        Schedule { settings: settings.clone(), steps_per_epoch }
    }

    /// The learning rate of the step number `step` of the run, from 0.
    ///
    /// ```
    /// use tch_mnist::{Schedule, Settings};
    /// let settings = Settings::from_flags(["--lr=0.1", "--step-size=2"]).unwrap();
    /// let schedule = Schedule::new(&settings, 10);
    /// assert_eq!((schedule.lr(0), schedule.lr(19), schedule.lr(20)), (0.1, 0.1, 0.1 * 0.1));
    /// ```
    pub fn lr(&self, step: i64) -> f64 {
        let (lr, schedule) = (self.settings.optimizer.lr, &self.settings.schedule);
        let epochs = self.settings.training.epochs;
        let progress =
            Progress { step, steps: epochs * self.steps_per_epoch, epoch: step / self.steps_per_epoch, epochs };
        match schedule.schedule {
            ScheduleKind::Step => step::lr(lr, schedule.step_size, schedule.gamma, progress),
            ScheduleKind::Cosine => cosine::lr(lr, progress),
            ScheduleKind::OneCycle => one_cycle::lr(lr, schedule.pct_start, progress),
            ScheduleKind::Constant => lr,
        }
    }
}
