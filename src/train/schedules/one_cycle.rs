//! `OneCycleLR(max_lr=lr, total_steps=.., pct_start=.., cycle_momentum=False)` (Smith and Topin, 2017).

use super::Progress;
use std::f64::consts::PI;

/// PyTorch's `div_factor` and `final_div_factor`: the first rate is lr / 25, the last a 10,000th of the first.
const DIV_FACTOR: f64 = 25.0;
const FINAL_DIV_FACTOR: f64 = 1e4;

/// PyTorch's `initial_lr`, to which a warm-up rises. The rate of step 0 is the same, but may be rounded otherwise.
pub(super) fn initial_lr(lr: f64) -> f64 {
    lr / DIV_FACTOR
}

/// A cosine up to `lr` over the first `pct_start` of the steps, then a cosine down.
pub(super) fn lr(lr: f64, pct_start: f64, progress: Progress) -> f64 {
    let (step, steps) = (progress.step as f64, progress.steps as f64);
    let (start, floor) = (initial_lr(lr), initial_lr(lr) / FINAL_DIV_FACTOR);
    let (top, end) = (pct_start * steps - 1.0, steps - 1.0);
    let anneal = |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * ((PI * share).cos() + 1.0);
    if top > 0.0 && step <= top { anneal(start, lr, step / top) } else { anneal(lr, floor, (step - top) / (end - top)) }
}
