//! `ExponentialLR(gamma)`.

use super::{Gamma, Progress, Scheduler};
use crate::flags::Named;
use serde::Serialize;

/// ExponentialLR: multiplied by --gamma after every epoch
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct Exponential {
    #[command(flatten)]
    #[serde(flatten)]
    gamma: Gamma,
}

impl Named for Exponential {
    const NAME: &'static str = "exponential";
    const TORCH: Option<&'static str> = Some("ExponentialLR");
    const EXAMPLES: &'static [&'static str] = &["--gamma=0.8"];
}

impl Scheduler for Exponential {
    fn lr(&self, lr: f64, progress: Progress) -> f64 {
        // One multiplication after the other, as PyTorch does it: a power rounds differently.
        (0..progress.epoch).fold(lr, |lr, _| lr * self.gamma.gamma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_cut_after_every_epoch() {
        let exponential = Exponential { gamma: Gamma { gamma: 0.7 } };
        let at = |epoch| exponential.lr(0.5, Progress::at_epoch(epoch, 5));
        assert_eq!([0, 1, 2].map(at), [0.5, 0.5 * 0.7, 0.5 * 0.7 * 0.7]);
    }
}
