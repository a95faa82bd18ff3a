//! `ExponentialLR(gamma)`.

use super::Progress;

/// `lr` times `gamma` for every epoch that is done.
pub(super) fn lr(lr: f64, gamma: f64, progress: Progress) -> f64 {
    // One multiplication after the other, as PyTorch does it: a power rounds differently.
    (0..progress.epoch).fold(lr, |lr, _| lr * gamma)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_cut_after_every_epoch() {
        let at = |epoch| lr(0.5, 0.7, Progress::at_epoch(epoch, 5));
        assert_eq!([0, 1, 2].map(at), [0.5, 0.5 * 0.7, 0.5 * 0.7 * 0.7]);
    }
}
