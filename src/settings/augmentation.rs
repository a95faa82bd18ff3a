//! How training images are distorted.

use super::ranges::within;
use crate::shape::SIDE;
use serde::Serialize;

/// The most that each training image is distorted by, every time it is used.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct AugmentationSettings {
    /// Rotate each training image by up to this many degrees
    #[arg(long, value_name = "D", default_value_t = 0.0, value_parser = within("degrees", 0.0..=180.0))]
    pub rotate: f64,
    /// Move each training image by up to this many pixels, across and down
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = within("pixels", 0.0..=SIDE as f64))]
    pub translate: f64,
    /// Scale each training image by a factor between 1 - X and 1 + X
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a share", 0.0..1.0))]
    pub scale: f64,
    /// Shear each training image by up to this many degrees
    #[arg(long, value_name = "D", default_value_t = 0.0, value_parser = within("degrees", 0.0..=45.0))]
    pub shear: f64,
}
