//! `CosineAnnealingLR(T_max=epochs, eta_min)`: down along half a cosine (Loshchilov and Hutter, 2017).

use super::Progress;
use std::f64::consts::PI;

/// `eta_min` plus (`lr` - `eta_min`) times (1 + cos(pi epoch / epochs)) / 2.
pub(super) fn lr(lr: f64, eta_min: f64, progress: Progress) -> f64 {
    let arc = |epoch: i64| 1.0 + (PI * epoch as f64 / progress.epochs as f64).cos();
    // From one rate to the next, as PyTorch does it: the closed form rounds differently.
    (1..=progress.epoch).fold(lr, |lr, epoch| arc(epoch) / arc(epoch - 1) * (lr - eta_min) + eta_min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_along_half_a_cosine() {
        let at = |epoch| lr(0.5, 0.1, Progress::at_epoch(epoch, 4));
        assert_eq!(at(0), 0.5);
        assert!((at(1) - (0.1 + 0.2 * (1.0 + 0.5f64.sqrt()))).abs() < 1e-15);
        assert!((at(2) - 0.3).abs() < 1e-15);
    }
}
