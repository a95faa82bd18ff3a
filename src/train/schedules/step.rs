//! `StepLR(step_size, gamma)`.

use super::Progress;

/// `lr` times `gamma` for every `step_size` epochs that are done.
pub(super) fn lr(lr: f64, step_size: i64, gamma: f64, progress: Progress) -> f64 {
    // One multiplication after the other, as PyTorch does it: a power rounds differently.
    (0..progress.epoch / step_size).fold(lr, |lr, _| lr * gamma)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_cut_after_every_step_size_epochs() {
        let at = |epoch| lr(0.5, 2, 0.1, Progress::at_epoch(epoch, 5));
        assert_eq!([0, 1, 2, 3, 4].map(at), [0.5, 0.5, 0.05, 0.05, 0.05 * 0.1]);
    }
}
