//! What a run does beside training: when it stops, what it saves and shows. None of it changes the weights after a step.

use super::Role;
use super::ranges::within;
use clap::ArgAction;
use serde::Serialize;

/// When a run stops, and what it leaves in its folder.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct RunSettings {
    /// After the last epoch, also measure the average over nine translations of each image; it changes no other figure
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set, add = Role::Incidental)]
    pub tta: bool,
    /// Stop after the epoch that reaches this accuracy (test, or --validation), in percent; 0: never
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = within("a percentage", 0.0..=100.0), add = Role::MayChange)]
    pub target_accuracy: f64,
    /// Steps between two checkpoints; 0: one checkpoint after each epoch
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within("a whole number of steps", 0i64..), add = Role::Incidental)]
    pub checkpoint_every: i64,
    /// Make report.html and the plots at the end
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, add = Role::Incidental)]
    pub report: bool,
    /// Write TensorBoard's event file
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, add = Role::Incidental)]
    pub tensorboard: bool,
}
