//! `LinearLR(start_factor, end_factor, total_iters)`, which is also the warm-up in front of any schedule.

use super::{Progress, Scheduler};
use crate::flags::{Named, within};
use serde::Serialize;
use std::iter::successors;
use std::ops::Bound::{Excluded, Included};

/// LinearLR: from --start-factor to --end-factor of --lr over --total-iters epochs
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct Linear {
    /// first learning rate, as a share of --lr
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 1.0 / 3.0, value_parser = within("a share", (Excluded(0.0), Included(1.0))))]
    start_factor: f64,
    /// last learning rate, as a share of --lr
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 1.0, value_parser = within("a share", 0.0..=1.0))]
    end_factor: f64,
    /// epochs from --start-factor to --end-factor
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 5, value_parser = within("a whole number of epochs", 1i64..))]
    total_iters: i64,
}

impl Named for Linear {
    const NAME: &'static str = "linear";
    const TORCH: Option<&'static str> = Some("LinearLR");
    const EXAMPLES: &'static [&'static str] = &["--start-factor=0.9 --end-factor=0.05 --total-iters=3"];
}

impl Scheduler for Linear {
    fn lr(&self, lr: f64, progress: Progress) -> f64 {
        let mut rates = rates(lr, self.start_factor, self.end_factor, self.total_iters);
        rates.nth(progress.epoch as usize).expect("the rates have no end")
    }
}

/// The rates from `lr` times `start_factor` to `lr` times `end_factor`, in `total_iters` equal parts; then it stays.
pub(crate) fn rates(lr: f64, start_factor: f64, end_factor: f64, total_iters: i64) -> impl Iterator<Item = f64> {
    let (change, total) = (end_factor - start_factor, total_iters as f64);
    // From one rate to the next, as PyTorch does it: the closed form rounds differently.
    let next = move |&(done, lr): &(i64, f64)| {
        let factor = 1.0 + change / (total * start_factor + done as f64 * change);
        Some((done + 1, if done < total_iters { lr * factor } else { lr }))
    };
    successors(Some((0, lr * start_factor)), next).map(|(_, lr)| lr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_changes_in_equal_parts_and_then_stays() {
        let rates: Vec<f64> = rates(0.8, 0.25, 1.0, 3).take(6).collect();
        for (rate, expected) in rates.iter().zip([0.2, 0.4, 0.6, 0.8, 0.8, 0.8]) {
            assert!((rate - expected).abs() < 1e-15, "{rates:?}");
        }
        assert_eq!(super::rates(0.5, 1.0, 0.0, 2).take(4).collect::<Vec<_>>(), [0.5, 0.25, 0.0, 0.0]);
    }
}
