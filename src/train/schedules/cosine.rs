//! `CosineAnnealingLR(T_max=epochs)`: down to 0 along a cosine (Loshchilov and Hutter, 2017).

use super::Progress;
use std::f64::consts::PI;

/// `lr` times (1 + cos(pi epoch / epochs)) / 2.
pub(super) fn lr(lr: f64, progress: Progress) -> f64 {
    let arc = |epoch: i64| 1.0 + (PI * epoch as f64 / progress.epochs as f64).cos();
    // From one rate to the next, as PyTorch does it: the closed form rounds differently.
    (1..=progress.epoch).fold(lr, |lr, epoch| lr * (arc(epoch) / arc(epoch - 1)))
}
