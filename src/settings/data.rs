//! Which images.

use super::Role;
use crate::data::{DEFAULT_FOLDER, Dataset, Place};
use crate::flags::within;
use clap::ArgAction;
use serde::Serialize;
use std::path::PathBuf;

/// Where a dataset is, for every command that reads one.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct Source {
    /// Which dataset
    #[arg(long, value_enum, value_name = "NAME", default_value_t)]
    pub dataset: Dataset,
    /// The folder with the four IDX files, or with one folder per dataset; `train` downloads what is missing
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER, add = Role::Incidental)]
    pub data: PathBuf,
}

/// Whether images are turned to white on black, for every command that reads images.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize)]
pub struct Inversion {
    /// Turn all images, from black on white to white on black; --no-invert: none. Default: turn them if the border of the
    /// dataset's images is lighter than their ink, unless they were imported or are the published ones
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invert: Option<bool>,
}

impl Inversion {
    /// Where the images of `source` are, and whether they are turned.
    pub(crate) fn of<'a>(&self, source: &'a Source) -> Place<'a> {
        Place { polarity: self.invert.into(), ..Place::new(&source.data, source.dataset) }
    }
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
    #[command(flatten)]
    #[serde(flatten)]
    pub inversion: Inversion,
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
