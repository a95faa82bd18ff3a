//! Learning rates over a run: the schedules of `torch.optim.lr_scheduler`, in its arithmetic.

use crate::config::{Config, ScheduleKind};
use std::f64::consts::PI;

/// The learning rate of every step of a run.
///
/// It is a function of the settings and of how far the run is, so that a resume replays it and a checkpoint need not
/// hold it; a resume with more epochs goes on as if they had been asked for at the start.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: ScheduleKind,
    initial: f64,
    lr: f64,
    step_size: i64,
    gamma: f64,
    pct_start: f64,
    epochs: i64,
    epoch: i64,
    /// Steps of the whole run, and how many are done.
    total_steps: i64,
    step: i64,
}

impl Schedule {
    /// The schedule of `config` at its start.
    pub fn new(config: &Config, steps_per_epoch: i64) -> Schedule {
        let mut schedule = Schedule {
            kind: config.schedule,
            initial: config.lr,
            lr: config.lr,
            step_size: config.step_size,
            gamma: config.gamma,
            pct_start: config.pct_start,
            epochs: config.epochs,
            epoch: 0,
            total_steps: config.epochs * steps_per_epoch,
            step: 0,
        };
        if schedule.kind == ScheduleKind::OneCycle {
            schedule.lr = schedule.one_cycle();
        }
        schedule
    }

    /// The learning rate of the next step.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// `scheduler.step()` after a step, where PyTorch steps a schedule once a batch.
    pub fn step_taken(&mut self) {
        self.step += 1;
        if self.kind == ScheduleKind::OneCycle {
            self.lr = self.one_cycle();
        }
    }

    /// `scheduler.step()` after an epoch's training, where PyTorch steps a schedule once an epoch.
    pub fn epoch_trained(&mut self) {
        self.epoch += 1;
        match self.kind {
            // StepLR and CosineAnnealingLR go from one rate to the next, which rounds otherwise than a closed form.
            ScheduleKind::Step if self.epoch % self.step_size == 0 => self.lr *= self.gamma,
            ScheduleKind::Cosine => {
                let arc = |epoch: i64| 1.0 + (PI * epoch as f64 / self.epochs as f64).cos();
                self.lr *= arc(self.epoch) / arc(self.epoch - 1);
            }
            ScheduleKind::Step | ScheduleKind::OneCycle | ScheduleKind::Constant => {}
        }
    }

    /// `OneCycleLR(max_lr=lr, total_steps=.., pct_start=.., cycle_momentum=False)`: cosines up over the first steps, from
    /// lr / 25, and down to a 10,000th of where it began (Smith and Topin, 2017, as PyTorch has it).
    fn one_cycle(&self) -> f64 {
        let (start, floor) = (self.initial / 25.0, self.initial / 25.0 / 1e4);
        let (top, end) = (self.pct_start * self.total_steps as f64 - 1.0, self.total_steps as f64 - 1.0);
        let anneal = |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * ((PI * share).cos() + 1.0);
        let step = self.step as f64;
        if top > 0.0 && step <= top {
            anneal(start, self.initial, step / top)
        } else {
            anneal(self.initial, floor, (step - top) / (end - top))
        }
    }
}
