//! Schedules of the learning rate, those of `torch.optim.lr_scheduler`: one file each, rounded as PyTorch rounds.
//!
//! A schedule is a pure function of its settings, of how far the run is, and of the losses so far. A checkpoint need not
//! hold it, and a resume with more epochs goes on as if they had been asked for at the start.

mod constant;
mod cosine;
mod cosine_warm_restarts;
mod exponential;
pub(super) mod linear;
mod multi_step;
mod one_cycle;
mod reduce_on_plateau;
mod step;

use crate::flags::{self, Choice, Entry, List, Named, above, within};
use serde::Serialize;
use std::fmt::Debug;
use std::sync::Arc;

/// Every schedule. The first is the default.
const ALL: &[Entry<dyn Scheduler>] = &[
    entry::<step::Step>(),
    entry::<multi_step::MultiStep>(),
    entry::<exponential::Exponential>(),
    entry::<linear::Linear>(),
    entry::<cosine::Cosine>(),
    entry::<cosine_warm_restarts::CosineWarmRestarts>(),
    entry::<one_cycle::OneCycle>(),
    entry::<reduce_on_plateau::ReduceOnPlateau>(),
    entry::<constant::Constant>(),
];

/// A schedule with its settings.
pub(crate) trait Scheduler: Debug + Send + Sync {
    /// The learning rate of a step; `lr` is `--lr`.
    fn lr(&self, lr: f64, progress: Progress) -> f64;

    /// The rate that a warm-up rises to, at the `start` of the schedule.
    fn initial_lr(&self, lr: f64, start: Progress) -> f64 {
        self.lr(lr, start)
    }

    /// Whether the rate of a step depends on the number of epochs of the whole run.
    fn spans_the_run(&self) -> bool {
        false
    }

    /// Whether it goes by the losses that were measured after the epochs.
    fn needs_losses(&self) -> bool {
        false
    }
}

/// How far a run is after its warm-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress<'a> {
    /// Steps done, and all steps.
    pub(crate) step: i64,
    pub(crate) steps: i64,
    /// Epochs done, and all epochs.
    pub(crate) epoch: i64,
    pub(crate) epochs: i64,
    /// The losses of the epochs so far.
    pub(crate) losses: &'a [f64],
}

impl List for dyn Scheduler {
    fn all() -> &'static [Entry<dyn Scheduler>] {
        ALL
    }
}

impl Choice for dyn Scheduler {
    const KEY: &'static str = "schedule";
    const VALUE_NAME: &'static str = "KIND";
    const HELP: &'static str = "How the learning rate changes; its settings start from their defaults";
}

const fn entry<K: Named + Scheduler>() -> Entry<dyn Scheduler> {
    Entry::of::<K>(|matches| {
        flags::read::<K>(matches).map(|(kind, table)| (Arc::new(kind) as Arc<dyn Scheduler>, table))
    })
}

/// A setting of the schedules that cut the rate.
#[derive(Debug, clap::Args, Serialize)]
struct Gamma {
    /// factor of each cut; with exponential, of each epoch
    #[arg(long, value_name = "X", default_value_t = 0.1, value_parser = within("a number", above(0.0)))]
    gamma: f64,
}

/// A setting of the schedules along a cosine.
#[derive(Debug, clap::Args, Serialize)]
struct EtaMin {
    /// lowest learning rate
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..))]
    eta_min: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Progress<'_> {
        /// At the beginning of an epoch of ten steps.
        pub(super) fn at_epoch(epoch: i64, epochs: i64) -> Progress<'static> {
            Progress { step: 10 * epoch, steps: 10 * epochs, epoch, epochs, losses: &[] }
        }
    }
}
