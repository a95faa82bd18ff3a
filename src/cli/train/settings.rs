//! The settings of a run as flags, for `train` and `bench`.

use crate::config::{CudaGraph, DeviceChoice, KernelsChoice, Precision, Recipe, ScheduleKind};
use crate::data::Dataset;
use serde::Serialize;
use std::path::PathBuf;

/// The settings of [`Config`](crate::config::Config) as flags: those that were given are the keys of a TOML table.
#[derive(clap::Args, Serialize)]
pub struct Settings {
    /// A preset of settings; it wins over --config, and other flags win over it [default: original]
    #[arg(long, value_enum, value_name = "NAME")]
    recipe: Option<Recipe>,
    /// Which dataset [default: mnist]
    #[arg(long, value_enum, value_name = "NAME")]
    dataset: Option<Dataset>,
    /// The folder of the four IDX files, or of a folder a dataset [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Passes over the training images [default: 15]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<i64>,
    /// Images a step, in training and in the test [default: 128]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    batch_size: Option<i64>,
    /// The learning rate; of one-cycle, the highest [default: 0.01]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// L2 penalty of SGD [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Whether --weight-decay is on BatchNorm's parameters too [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    weight_decay_norm: Option<bool>,
    /// Nesterov momentum [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    nesterov: Option<bool>,
    /// How the learning rate changes [default: step]
    #[arg(long, value_enum, value_name = "KIND")]
    schedule: Option<ScheduleKind>,
    /// step: epochs between two cuts of the learning rate [default: 6]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    step_size: Option<i64>,
    /// step: the factor of a cut [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    gamma: Option<f64>,
    /// one-cycle: the share of the steps over which the rate rises [default: 0.3]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pct_start: Option<f64>,
    /// The share of the target's probability that is spread over all classes; 0: none [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    label_smoothing: Option<f64>,
    /// Measure and save an exponential moving average of the weights, of this decay a step; 0: none [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    ema_decay: Option<f64>,
    /// Turn each training image by up to so many degrees [default: 0]
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    rotate: Option<f64>,
    /// Move each training image by up to so many pixels, across and down [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    translate: Option<f64>,
    /// Scale each training image by 1 minus to 1 plus this [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    scale: Option<f64>,
    /// Shear each training image by up to so many degrees [default: 0]
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    shear: Option<f64>,
    /// The share of activations that dropout zeroes [default: 0.05]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    dropout: Option<f64>,
    /// The seed of every random number [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,
    /// CPU threads; 0: one a core [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<i32>,
    /// Whose kernels compute [default: auto]
    #[arg(long, value_enum, value_name = "WHOSE")]
    kernels: Option<KernelsChoice>,
    /// How precisely convolutions multiply [default: float32]
    #[arg(long, value_enum, value_name = "FORMAT")]
    precision: Option<Precision>,
    /// Whether a step on CUDA is launched as one graph [default: auto]
    #[arg(long, value_enum, value_name = "WHEN")]
    cuda_graph: Option<CudaGraph>,
    /// The first N training images only; 0: all [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    limit_train: Option<i64>,
    /// The first N test images only; 0: all [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    limit_test: Option<i64>,
    /// Hold N training images out, chosen by the seed, and measure each epoch on them instead of the test images [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    validation: Option<i64>,
    /// At the end, measure also the average over nine translations of each image; it changes no other figure [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tta: Option<bool>,
    /// Stop after the epoch that reaches this accuracy (test, or --validation), in percent; 0: never [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    target_accuracy: Option<f64>,
    /// Steps between two checkpoints; 0: one after each epoch [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    checkpoint_every: Option<i64>,
    /// Make report.html and the plots at the end [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    report: Option<bool>,
    /// Write TensorBoard's event file [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tensorboard: Option<bool>,
    /// Start from the weights in this .pt, .pth or .safetensors file
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
}
