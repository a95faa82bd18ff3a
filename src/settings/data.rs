//! Which images.

use super::Role;
use crate::data::Dataset;
use crate::flags::within;
use serde::Serialize;
use std::path::PathBuf;

/// The folder with the data, if no other is named.
pub(crate) const DATA: &str = "data";

/// Where a dataset is, for every command that reads one.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct Source {
    /// Which dataset
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    pub dataset: Dataset,
    /// The folder with the four IDX files, or with one folder per dataset; `train` downloads what is missing
    #[arg(long, value_name = "DIR", default_value = DATA, add = Role::Incidental)]
    pub data: PathBuf,
}

/// The test images, for every command that measures on them.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct TestImages {
    /// The first N test images only; 0: all
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 0, value_parser = within("a whole number", 0i64..))]
    pub limit_test: i64,
}

/// The images that a run trains on, and those that it measures each epoch on.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct DataSettings {
    #[command(flatten)]
    #[serde(flatten)]
    pub source: Source,
    /// The first N training images only; 0: all
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within("a whole number", 0i64..))]
    pub limit_train: i64,
    #[command(flatten)]
    #[serde(flatten)]
    pub test: TestImages,
    /// Hold out N training images, chosen by the seed, and measure each epoch on them instead of the test set
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within("a whole number of images", 0i64..))]
    pub validation: i64,
}
