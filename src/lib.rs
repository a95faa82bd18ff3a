//! A PyTorch MNIST net, layer for layer in Rust on libtorch. This page is the map.
//!
//! A module uses only modules below it in this table; `tests/layers.rs` checks that. Folders with a row of their own, such as
//! `train::schedules`, declare settings, so they stand below `settings`.
//!
//! | module | one idea |
//! |---|---|
//! | `commands` | one file per command: flags in, exit code out; `signals` takes Ctrl-C, `session` picks device and kernels |
//! | `report` | pictures and pages of a run that has ended; `run_page` makes report.html |
//! | `observe` | who watches a run: progress bar, what is printed, log, TensorBoard |
//! | `run_folder` | every file name of a run's folder; its `records` and the JSON lines of its `metrics` |
//! | `train` | the loop (`run`), the order of the images (`shuffle`), a step (`step`), its `loss`, its rate (`schedule`), what it changes (`state`), what is measured (`events`), the `checkpoint` |
//! | `settings` | every setting, declared once: flag, key, default, range, help |
//! | `train::optimizers` | one file per optimizer: its settings and its step |
//! | `train::schedules` | one file per schedule: its settings and its formula |
//! | `train::augmentations` | one file per augmentation: its settings and what it does to images |
//! | `evaluate` | loss, accuracy, confusion |
//! | `predict` | which class an image shows, by a net from a file |
//! | [`weights`] | weights files of several formats: written here, read with the crate `torch-weights` |
//! | `page` | the page to draw digits on, before a server or with the net in it |
//! | `data` | datasets: files downloaded, imported, checked, turned white on black (`polarity`), read by tch's `loader`, put on a device |
//! | `model` | any net as tch's `nn::SequentialT`, named as in PyTorch; one file per kind of layer; `units`: which ones the fused kernels take |
//! | `memory` | memory that runs out: explained, and got by with |
//! | `flags` | how flags are declared and read: ranges, lists, kinds with settings of their own |
//! | `error` | what an error looks like: one sentence |
//! | `shape` | 28x28 pixels, ten classes |
//! | `files` | files that are never half-written |
//!
//! What is useful without the program is a crate in `crates/`, which knows nothing of it:
//!
//! | crate | one idea |
//! |---|---|
//! | `digit-images` | any picture of a digit as MNIST would have it: the `ink` found and made to `fit`; here [`digit`] |
//! | `backprop` | backpropagation by hand on a 2-2-2 network |
//! | `torch-weights` | weights files of PyTorch and others as named arrays |
//! | `canvas` | drawing: SVG and PNG |
//! | `torch-extra` | the libtorch calls that tch lacks, here [`libtorch`]; the only `unsafe` and C++ |

#![deny(unreachable_pub)]

mod commands;
mod data;
mod error;
mod evaluate;
mod files;
mod flags;
mod memory;
mod model;
mod observe;
mod page;
mod predict;
mod report;
mod run_folder;
mod settings;
mod shape;
mod train;
pub mod weights;

pub use digit_images as digit;
pub use torch_extra as libtorch;

pub use commands::{call, main};
pub use data::{Data, Dataset, Part, Split};
pub use evaluate::{Evaluation, evaluate};
pub use model::{Architecture, Kernels, Layer, NamedLayer, Net, StateDict, layers};
pub use settings::Settings;
pub use train::{
    Checkpoint, Ending, EpochRecord, Event, History, Measured, Observer, Run, Schedule, Shuffle, State, StepRecord,
    Stepper,
};
