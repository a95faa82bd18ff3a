//! `CosineAnnealingLR(T_max=epochs, eta_min)`: down along half a cosine (Loshchilov and Hutter, 2017).

use super::{EtaMin, Progress, Scheduler};
use crate::flags::Named;
use serde::Serialize;
use std::f64::consts::PI;

/// CosineAnnealingLR: down to --eta-min over all epochs, once per epoch
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct Cosine {
    #[command(flatten)]
    #[serde(flatten)]
    eta_min: EtaMin,
}

impl Named for Cosine {
    const NAME: &'static str = "cosine";
    const TORCH: Option<&'static str> = Some("CosineAnnealingLR");
    const EXAMPLES: &'static [&'static str] = &["--eta-min=0.001"];
}

impl Scheduler for Cosine {
    /// `eta_min` plus (`lr` - `eta_min`) times (1 + cos(pi epoch / epochs)) / 2.
    fn lr(&self, lr: f64, progress: Progress) -> f64 {
        let EtaMin { eta_min } = self.eta_min;
        let arc = |epoch: i64| 1.0 + (PI * epoch as f64 / progress.epochs as f64).cos();
        // From one rate to the next, as PyTorch does it: the closed form rounds differently.
        (1..=progress.epoch).fold(lr, |lr, epoch| arc(epoch) / arc(epoch - 1) * (lr - eta_min) + eta_min)
    }

    fn spans_the_run(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_along_half_a_cosine() {
        let cosine = Cosine { eta_min: EtaMin { eta_min: 0.1 } };
        let at = |epoch| cosine.lr(0.5, Progress::at_epoch(epoch, 4));
        assert_eq!(at(0), 0.5);
        assert!((at(1) - (0.1 + 0.2 * (1.0 + 0.5f64.sqrt()))).abs() < 1e-15);
        assert!((at(2) - 0.3).abs() < 1e-15);
    }
}
