//! `OneCycleLR(max_lr=lr, total_steps=.., pct_start=.., cycle_momentum=False)` (Smith and Topin, 2017).

use super::{Progress, Scheduler};
use crate::flags::{Named, within};
use serde::Serialize;
use std::f64::consts::PI;
use std::ops::Bound::Excluded;

/// PyTorch's `div_factor` and `final_div_factor`: the first rate is lr / 25, the last a 10,000th of the first.
const DIV_FACTOR: f64 = 25.0;
const FINAL_DIV_FACTOR: f64 = 1e4;

/// OneCycleLR: up to --lr over the first --pct-start of the steps, then down, once per step
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct OneCycle {
    /// share of the steps over which the learning rate rises
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 0.3, value_parser = within("a share", (Excluded(0.0), Excluded(1.0))))]
    pct_start: f64,
}

impl Named for OneCycle {
    const NAME: &'static str = "one-cycle";
    const TORCH: Option<&'static str> = Some("OneCycleLR");
    const EXAMPLES: &'static [&'static str] = &["--pct-start=0.2"];
}

impl Scheduler for OneCycle {
    /// A cosine up to `lr` over the first `pct_start` of the steps, then a cosine down.
    fn lr(&self, lr: f64, progress: Progress) -> f64 {
        let (step, steps) = (progress.step as f64, progress.steps as f64);
        let start = self.initial_lr(lr, progress);
        let (top, end) = (self.pct_start * steps - 1.0, steps - 1.0);
        let anneal = |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * ((PI * share).cos() + 1.0);
        match top > 0.0 && step <= top {
            true => anneal(start, lr, step / top),
            false => anneal(lr, start / FINAL_DIV_FACTOR, (step - top) / (end - top)),
        }
    }

    /// PyTorch's `initial_lr`; the rate of step 0 is the same, but may be rounded otherwise.
    fn initial_lr(&self, lr: f64, _start: Progress) -> f64 {
        lr / DIV_FACTOR
    }

    fn spans_the_run(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_almost_nothing() {
        let at = |step| OneCycle { pct_start: 0.3 }.lr(0.5, Progress { step, ..Progress::at_epoch(0, 10) });
        for (step, expected) in [(0, 0.5 / 25.0), (29, 0.5), (99, 0.5 / 25.0 / 1e4)] {
            assert!((at(step) - expected).abs() < 1e-15, "step {step}: {}", at(step));
        }
        assert!((1..30).all(|step| at(step) > at(step - 1)) && (30..100).all(|step| at(step) < at(step - 1)));
    }
}
