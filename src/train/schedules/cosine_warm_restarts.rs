//! `CosineAnnealingWarmRestarts(T_0, T_mult, eta_min)` (Loshchilov and Hutter, 2017).

use super::{EtaMin, Progress, Scheduler};
use crate::flags::{Named, within};
use serde::Serialize;
use std::f64::consts::PI;

/// CosineAnnealingWarmRestarts: down to --eta-min and up again after --t-0 epochs, once per epoch
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct CosineWarmRestarts {
    #[command(flatten)]
    #[serde(flatten)]
    eta_min: EtaMin,
    /// epochs before the first restart
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 5, value_parser = within("a whole number of epochs", 1i64..))]
    t_0: i64,
    /// factor by which each cycle is longer than the last
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 1, value_parser = within("a whole number", 1i64..))]
    t_mult: i64,
}

impl Named for CosineWarmRestarts {
    const NAME: &'static str = "cosine-warm-restarts";
    const TORCH: Option<&'static str> = Some("CosineAnnealingWarmRestarts");
    const EXAMPLES: &'static [&'static str] = &["--t-0=2 --t-mult=2 --eta-min=0.001"];
}

impl Scheduler for CosineWarmRestarts {
    /// Down from `lr` towards `eta_min` along half a cosine over `t_0` epochs, then again over `t_mult` times as many,
    /// and so on.
    fn lr(&self, lr: f64, progress: Progress) -> f64 {
        let EtaMin { eta_min } = self.eta_min;
        let (mut epoch, mut cycle) = (progress.epoch, self.t_0);
        while epoch >= cycle {
            epoch -= cycle;
            cycle = cycle.saturating_mul(self.t_mult);
        }
        eta_min + (lr - eta_min) * (1.0 + (PI * epoch as f64 / cycle as f64).cos()) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cycle_begins_at_the_highest_rate_and_is_longer_than_the_one_before() {
        let schedule = |t_0, t_mult| CosineWarmRestarts { eta_min: EtaMin { eta_min: 0.0 }, t_0, t_mult };
        let at = |epoch| schedule(2, 3).lr(0.5, Progress::at_epoch(epoch, 20));
        assert_eq!([0, 2, 8].map(at), [0.5, 0.5, 0.5]);
        assert!([1, 5, 17].iter().all(|&middle| (at(middle) - 0.25).abs() < 1e-15));
        assert_eq!(schedule(i64::MAX, i64::MAX).lr(0.5, Progress::at_epoch(0, 1)), 0.5);
    }
}
