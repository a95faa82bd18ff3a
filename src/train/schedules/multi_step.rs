//! `MultiStepLR(milestones, gamma)`.

use super::Progress;

/// `lr` times `gamma` for each of the `milestones` that is reached.
pub(super) fn lr(lr: f64, milestones: &[i64], gamma: f64, progress: Progress) -> f64 {
    milestones.iter().filter(|&&milestone| milestone <= progress.epoch).fold(lr, |lr, _| lr * gamma)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_cut_at_each_milestone() {
        let at = |epoch| lr(0.5, &[1, 3], 0.1, Progress::at_epoch(epoch, 5));
        assert_eq!([0, 1, 2, 3, 4].map(at), [0.5, 0.05, 0.05, 0.05 * 0.1, 0.05 * 0.1]);
    }
}
