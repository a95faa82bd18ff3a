//! How the learning rate changes.

use super::choice::{Choice, Of};
use super::name_of;
use super::ranges::{above, any, within};
use crate::error::UsageError;
use clap::ValueEnum;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};
use std::ops::Bound::{Excluded, Included};
use std::str::FromStr;

use ScheduleKind::{
    Constant, Cosine, CosineWarmRestarts, Exponential, Linear, MultiStep, OneCycle, ReduceOnPlateau, Step,
};

/// The longest warm-up in epochs: the rate of each of its steps is kept in memory.
const LONGEST_WARMUP: i64 = 100;

/// The schedule and its arguments, named as PyTorch names them. A default that is not PyTorch's suits 15 epochs.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct ScheduleSettings {
    /// How the learning rate changes; choosing another one resets its settings to their defaults, except for those given too
    #[arg(long, value_enum, value_name = "KIND", default_value_t = ScheduleKind::DEFAULT)]
    pub schedule: ScheduleKind,
    /// Any schedule: over the first N of the --epochs, raise the rate linearly with each step to the schedule's first rate
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within("a whole number of epochs", 0..=LONGEST_WARMUP))]
    pub warmup_epochs: i64,
    /// epochs between two cuts of the learning rate
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = within("a whole number of epochs", 1i64..), add = Of(&[Step]))]
    pub step_size: i64,
    /// the factor by which the rate is multiplied: at each cut, or with exponential after each epoch
    #[arg(long, value_name = "X", default_value_t = 0.1, value_parser = within("a number", above(0.0)), add = Of(&[Step, MultiStep, Exponential]))]
    pub gamma: f64,
    /// the epochs at whose start the learning rate is cut; the default equals --step-size 6
    #[arg(long, value_name = "N,N", default_value = "6,12", value_parser = any::<Milestones>("whole numbers from 1 up that increase, such as 6,12"), add = Of(&[MultiStep]))]
    pub milestones: Milestones,
    /// the share of --lr that it begins with
    #[arg(long, value_name = "X", default_value_t = 1.0 / 3.0, value_parser = within("a share", (Excluded(0.0), Included(1.0))), add = Of(&[Linear]))]
    pub start_factor: f64,
    /// the share of --lr that it ends with
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = within("a share", 0.0..=1.0), add = Of(&[Linear]))]
    pub end_factor: f64,
    /// the epochs from the one share to the other
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = within("a whole number of epochs", 1i64..), add = Of(&[Linear]))]
    pub total_iters: i64,
    /// the lowest learning rate
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..), add = Of(&[Cosine, CosineWarmRestarts]))]
    pub eta_min: f64,
    /// the epochs before the first restart
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = within("a whole number of epochs", 1i64..), add = Of(&[CosineWarmRestarts]))]
    pub t_0: i64,
    /// how many times as long each cycle is as the one before
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within("a whole number", 1i64..), add = Of(&[CosineWarmRestarts]))]
    pub t_mult: i64,
    /// the factor of a cut
    #[arg(long, value_name = "X", default_value_t = 0.1, value_parser = within("a factor", (Excluded(0.0), Excluded(1.0))), add = Of(&[ReduceOnPlateau]))]
    pub factor: f64,
    /// the epochs without a lower loss that it waits before a cut
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = within("a whole number of epochs", 0i64..), add = Of(&[ReduceOnPlateau]))]
    pub plateau_patience: i64,
    /// a loss is lower if it is below the lowest by more than this share of it
    #[arg(long, value_name = "X", default_value_t = 1e-4, value_parser = within("a share", 0.0..1.0), add = Of(&[ReduceOnPlateau]))]
    pub threshold: f64,
    /// the epochs after a cut that do not count as waiting
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within("a whole number of epochs", 0i64..), add = Of(&[ReduceOnPlateau]))]
    pub cooldown: i64,
    /// the lowest learning rate
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..), add = Of(&[ReduceOnPlateau]))]
    pub min_lr: f64,
    /// the share of the steps over which the learning rate rises
    #[arg(long, value_name = "X", default_value_t = 0.3, value_parser = within("a share", (Excluded(0.0), Excluded(1.0))), add = Of(&[OneCycle]))]
    pub pct_start: f64,
}

impl ScheduleSettings {
    /// Refuses settings that the schedule does not have, and a warm-up that leaves it none of the `epochs`.
    pub(super) fn check(&self, epochs: i64) -> Result<(), UsageError> {
        self.schedule.check(self)?;
        if self.warmup_epochs >= epochs {
            return Err(UsageError(format!(
                "--warmup-epochs {} leaves no epoch for the schedule: give fewer than --epochs {epochs}",
                self.warmup_epochs
            )));
        }
        Ok(())
    }
}

/// The schedules of `torch.optim.lr_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// StepLR: multiplied by --gamma after every --step-size epochs
    Step,
    /// MultiStepLR: multiplied by --gamma at each of --milestones
    MultiStep,
    /// ExponentialLR: multiplied by --gamma after every epoch
    Exponential,
    /// LinearLR: from --start-factor to --end-factor of --lr over --total-iters epochs
    Linear,
    /// CosineAnnealingLR: down to --eta-min over all epochs, once per epoch
    Cosine,
    /// CosineAnnealingWarmRestarts: down to --eta-min and up again after --t-0 epochs, once per epoch
    CosineWarmRestarts,
    /// OneCycleLR: up to --lr over the first --pct-start of the steps, then down, once per step
    OneCycle,
    /// ReduceLROnPlateau: multiplied by --factor if the loss on the images of --validation does not fall
    ReduceOnPlateau,
    /// The same rate throughout
    Constant,
}

impl ScheduleKind {
    /// Whether the rate of a step depends on the number of epochs of the whole run.
    pub(crate) fn spans_the_run(self) -> bool {
        match self {
            Cosine | OneCycle => true,
            Step | MultiStep | Exponential | Linear | CosineWarmRestarts | ReduceOnPlateau | Constant => false,
        }
    }

    /// Whether it goes by the losses that were measured after the epochs.
    pub(super) fn looks_at_losses(self) -> bool {
        match self {
            ReduceOnPlateau => true,
            Step | MultiStep | Exponential | Linear | Cosine | CosineWarmRestarts | OneCycle | Constant => false,
        }
    }
}

impl Choice for ScheduleKind {
    type Group = ScheduleSettings;
    const KEY: &'static str = "schedule";
    const SHARED: &'static [&'static str] = &["warmup_epochs"];
    const DEFAULT: ScheduleKind = Step;
}

impl Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name_of(self))
    }
}

/// Epochs in increasing order: `6,12`, or `[6, 12]` as in Python.
#[derive(Clone, Debug, PartialEq)]
pub struct Milestones(pub(crate) Vec<i64>);

impl FromStr for Milestones {
    type Err = ();

    fn from_str(text: &str) -> Result<Milestones, ()> {
        let list = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let epochs: Vec<i64> =
            list.split(',').map(|epoch| epoch.trim().parse()).collect::<Result<_, _>>().map_err(|_| ())?;
        let increase = epochs[0] >= 1 && epochs.windows(2).all(|pair| pair[0] < pair[1]);
        if increase { Ok(Milestones(epochs)) } else { Err(()) }
    }
}

impl Display for Milestones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs: Vec<String> = self.0.iter().map(i64::to_string).collect();
        f.write_str(&epochs.join(","))
    }
}

impl Serialize for Milestones {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_setting_of_another_schedule_is_refused_unless_it_has_its_default() {
        let refused = |flags: &[&str]| Settings::from_flags(flags).unwrap_err().to_string();
        let step_size = "cosine has no --step-size: leave it out; step has it";
        assert_eq!(refused(&["--schedule=cosine", "--step-size=3"]), step_size);
        let gamma = "constant has no --gamma: leave it out; step, multi-step and exponential have it";
        assert_eq!(refused(&["--schedule=constant", "--gamma=0.5"]), gamma);
        let cosine = Settings::from_flags(["--schedule=cosine"]).unwrap();
        assert_eq!(Settings::from_flags(["--schedule=cosine", "--step-size=6"]).unwrap(), cosine);
    }

    #[test]
    fn milestones_are_whole_numbers_that_increase() {
        for text in ["6", "6,12", "[6, 12]", " 1, 2"] {
            let milestones: Milestones = text.parse().unwrap();
            assert_eq!(milestones.to_string().parse(), Ok(milestones));
        }
        for text in ["", "6,", "[6", "0,6", "6,6", "12,6", "6;12", "6.5", "[]"] {
            assert_eq!(text.parse::<Milestones>(), Err(()), "{text}");
        }
    }
}
