//! How the learning rate changes.

use super::ranges::within;
use clap::ValueEnum;
use serde::Serialize;
use std::fmt::{self, Display};
use std::ops::Bound::Excluded;

/// The schedule and its arguments.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct ScheduleSettings {
    /// How the learning rate changes
    #[arg(long, value_enum, value_name = "KIND", default_value_t = ScheduleKind::Step)]
    pub schedule: ScheduleKind,
    /// step: epochs between two cuts of the learning rate
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = within("a whole number of epochs", 1i64..))]
    pub step_size: i64,
    /// step: the factor of a cut
    #[arg(long, value_name = "X", default_value_t = 0.1, value_parser = within("a number", super::ranges::above(0.0)))]
    pub gamma: f64,
    /// one-cycle: the share of the steps over which the learning rate rises
    #[arg(long, value_name = "X", default_value_t = 0.3, value_parser = within("a share", (Excluded(0.0), Excluded(1.0))))]
    pub pct_start: f64,
}

/// The schedules of `torch.optim.lr_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// StepLR: multiplied by --gamma after every --step-size epochs
    Step,
    /// CosineAnnealingLR: down to 0 over all epochs, once per epoch
    Cosine,
    /// OneCycleLR: up to --lr over the first --pct-start of the steps, then down, once per step
    OneCycle,
    /// The same rate throughout
    Constant,
}

impl ScheduleKind {
    /// Whether the rate of a step depends on the number of epochs of the whole run.
    pub(crate) fn spans_the_run(self) -> bool {
        match self {
            ScheduleKind::Cosine | ScheduleKind::OneCycle => true,
            ScheduleKind::Step | ScheduleKind::Constant => false,
        }
    }
}

impl Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no schedule is hidden").get_name())
    }
}
