//! A PyTorch MNIST net, layer for layer in Rust on libtorch. This page is the map.
//!
//! Data flows one way: [`cli`] makes a [`config`], [`data`] makes tensors, [`train`] turns both into a
//! [`model::Net`] and a stream of events, [`weights`] and [`report`] write files.
//!
//! | module | one idea |
//! |---|---|
//! | [`cli`] | every flag and its help text, one file a command; errors and exit codes |
//! | [`config`] | the settings of a run: defaults, then a TOML file, then flags; recipes |
//! | [`model`] | the net, layer by layer, named as in PyTorch |
//! | [`summary`] | the torchsummary-style table |
//! | [`data`] | IDX files checked, fetched and put on a device; augmentation |
//! | [`digit`] | any picture of a digit as MNIST would have it |
//! | [`device`] | where to compute, and why |
//! | [`train`] | the loop, a step, SGD, schedules, the average, checkpoints |
//! | [`evaluate`] | loss, accuracy, confusion |
//! | [`weights`] | TorchScript, state_dict and safetensors files, read and written |
//! | [`backprop`] | Part 1: a 2-2-2 network by hand |
//! | [`report`] | who listens to a run: progress bar, JSON lines, log, TensorBoard; pictures and a page of it |
//! | [`files`] | files that are never half-written |
//! | [`libtorch`] | the few libtorch calls that tch lacks; the only `unsafe` |

pub mod backprop;
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod digit;
pub mod evaluate;
pub mod files;
pub mod libtorch;
pub mod model;
pub mod report;
pub mod summary;
pub mod train;
pub mod weights;
