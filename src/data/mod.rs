//! Datasets.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The datasets that come as four IDX files of 28x28 images in ten classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dataset {
    /// Handwritten digits (LeCun, Cortes, Burges)
    #[default]
    Mnist,
    /// Pictures of clothes (Zalando)
    FashionMnist,
    /// Cursive Japanese characters (CODH)
    Kmnist,
}
