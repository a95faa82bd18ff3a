//! Files of `torch.save`, which libtorch's own pickler writes.

use super::formats::Weights;
use crate::libtorch::jit;
use anyhow::Result;

/// The file of the weights as a state_dict.
pub(super) fn render(weights: &Weights) -> Result<Vec<u8>> {
    jit::pickled_dict(&weights.state_dict.0)
}
