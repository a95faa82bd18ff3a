//! The training itself: how long, on how many images at a time, towards which loss, from which weights.

use super::{NetSettings, Role};
use crate::flags::within;
use serde::Serialize;
use std::path::PathBuf;

/// The most epochs, and images per batch: no run needs more, and no product of the two overflows.
const MOST: i64 = 1_000_000;

/// How long to train and on how many images at a time.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct TrainingSettings {
    /// Passes over the training set
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = within("a whole number", 1..=MOST), add = Role::MayChange)]
    pub epochs: i64,
    #[command(flatten)]
    #[serde(flatten)]
    pub batches: Batches,
    /// Share of the target's probability that is spread over all classes; 0: none
    #[arg(long, help_heading = "Optimizer", value_name = "X", default_value_t = 0.0, value_parser = within("a share", 0.0..1.0))]
    pub label_smoothing: f64,
    /// Measure and save an exponential moving average of the weights, with this decay per step; 0: none
    #[arg(long, hide_short_help = true, help_heading = "Optimizer", value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..1.0))]
    pub ema_decay: f64,
    #[command(flatten, next_help_heading = "Net")]
    #[serde(flatten)]
    pub net: NetSettings,
    /// The seed of every random number
    #[arg(long, help_heading = "Run", value_name = "N", default_value_t = 1, value_parser = within("a whole number", 0..=i64::MAX))]
    pub seed: i64,
    /// Start from the weights in this file
    #[arg(long, help_heading = "Net", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Which weights, if the file of --init holds several sets
    #[arg(long, hide_short_help = true, help_heading = "Net", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl TrainingSettings {
    /// How many images a step is made on; the last step of an epoch may have fewer.
    pub(crate) fn images_per_step(&self) -> i64 {
        self.batches.batch_size
    }
}

/// How images are batched, for every command that runs the net on a split.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct Batches {
    /// Images per batch, in training and in the test
    #[arg(long, help_heading = "Data", value_name = "N", default_value_t = 128, value_parser = within("a whole number", 1..=MOST))]
    pub batch_size: i64,
}
