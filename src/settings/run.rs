//! What a run does beside training: when it stops, what it saves and shows. None of it changes the weights after a
//! step.

use super::Role;
use crate::flags::within;
use clap::{ArgAction, ValueEnum};
use serde::Serialize;

/// When a run stops, and what it leaves in its folder.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct RunSettings {
    /// After the last epoch, also measure the average over nine translations of each image; it changes no other figure
    #[arg(long, hide_short_help = true, help_heading = "Output", value_name = "BOOL", default_value_t = false, action = ArgAction::Set, add = Role::Incidental)]
    pub tta: bool,
    /// Stop after the epoch that reaches this accuracy (test, or --validation), in percent; 0: never
    #[arg(long, hide_short_help = true, value_name = "P", default_value_t = 0.0, value_parser = within("a percentage", 0.0..=100.0), add = Role::MayChange)]
    pub target_accuracy: f64,
    /// Stop after N epochs in a row that are not better on the --validation images, as --monitor compares them; 0: never
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 0, value_parser = within("a whole number of epochs", 0i64..), add = Role::MayChange)]
    pub patience: i64,
    /// Which weights to save
    #[arg(long, hide_short_help = true, help_heading = "Output", value_enum, value_name = "WHICH", default_value_t = Keep::Last)]
    pub keep: Keep,
    /// The metric by which --patience and --keep best compare epochs; the first epoch wins a tie
    #[arg(long, hide_short_help = true, value_enum, value_name = "WHAT", default_value_t = Monitor::Accuracy)]
    pub monitor: Monitor,
    /// Steps between two checkpoints; 0: one checkpoint after each epoch
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 0, value_parser = within("a whole number of steps", 0i64..), add = Role::Incidental)]
    pub checkpoint_every: i64,
    /// Write report.html and plots, and store the statistics by which `predict` marks non-digits
    #[arg(long, help_heading = "Output", value_name = "BOOL", default_value_t = true, action = ArgAction::Set, add = Role::Incidental)]
    pub report: bool,
    /// Write TensorBoard's event file
    #[arg(long, hide_short_help = true, help_heading = "Output", value_name = "BOOL", default_value_t = true, action = ArgAction::Set, add = Role::Incidental)]
    pub tensorboard: bool,
}

impl RunSettings {
    /// After how many more steps `--checkpoint-every` wants a checkpoint, when `step` steps of an epoch are done;
    /// `i64::MAX` if it wants none.
    pub(crate) fn until_checkpoint(&self, step: i64) -> i64 {
        if self.checkpoint_every == 0 { i64::MAX } else { self.checkpoint_every - step % self.checkpoint_every }
    }
}

/// Which weights a run saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Those of the last epoch
    Last,
    /// Those of the best epoch on the images of --validation
    Best,
}

/// By what one epoch is better than another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// A higher accuracy
    Accuracy,
    /// A lower loss
    Loss,
}
