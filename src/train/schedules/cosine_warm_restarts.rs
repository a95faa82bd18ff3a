//! `CosineAnnealingWarmRestarts(T_0, T_mult, eta_min)` (Loshchilov and Hutter, 2017).

use super::Progress;
use std::f64::consts::PI;

/// Down from `lr` towards `eta_min` along half a cosine over `t_0` epochs, then again over `t_mult` times as many, and
/// so on.
pub(super) fn lr(lr: f64, t_0: i64, t_mult: i64, eta_min: f64, progress: Progress) -> f64 {
    let (mut epoch, mut cycle) = (progress.epoch, t_0);
    while epoch >= cycle {
        epoch -= cycle;
        cycle = cycle.saturating_mul(t_mult);
    }
    eta_min + (lr - eta_min) * (1.0 + (PI * epoch as f64 / cycle as f64).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cycle_begins_at_the_highest_rate_and_is_longer_than_the_one_before() {
        let at = |epoch| lr(0.5, 2, 3, 0.0, Progress::at_epoch(epoch, 20));
        assert_eq!([0, 2, 8].map(at), [0.5, 0.5, 0.5]);
        assert!([1, 5, 17].iter().all(|&middle| (at(middle) - 0.25).abs() < 1e-15));
        assert_eq!(lr(0.5, i64::MAX, i64::MAX, 0.0, Progress::at_epoch(0, 1)), 0.5);
    }
}
