//! `StepLR(step_size, gamma)`.

use super::Progress;

/// `lr` times `gamma` for every `step_size` epochs that are done.
pub(super) fn lr(lr: f64, step_size: i64, gamma: f64, progress: Progress) -> f64 {
    // One multiplication after the other, as PyTorch does it: a power rounds differently.
    (0..progress.epoch / step_size).fold(lr, |lr, _| lr * gamma)
}
