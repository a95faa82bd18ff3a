//! `StepLR(step_size, gamma)`.

use super::{Gamma, Progress, Scheduler};
use crate::flags::{Named, within};
use serde::Serialize;

/// StepLR: multiplied by --gamma after every --step-size epochs
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct Step {
    /// epochs between two cuts of the learning rate
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = within("a whole number of epochs", 1i64..))]
    step_size: i64,
    #[command(flatten)]
    #[serde(flatten)]
    gamma: Gamma,
}

impl Named for Step {
    const NAME: &'static str = "step";
    const TORCH: Option<&'static str> = Some("StepLR");
    const EXAMPLES: &'static [&'static str] = &["--step-size=2 --gamma=0.5"];
}

impl Scheduler for Step {
    fn lr(&self, lr: f64, progress: Progress) -> f64 {
        // One multiplication after the other, as PyTorch does it: a power rounds differently.
        (0..progress.epoch / self.step_size).fold(lr, |lr, _| lr * self.gamma.gamma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_cut_after_every_step_size_epochs() {
        let step = Step { step_size: 2, gamma: Gamma { gamma: 0.1 } };
        let at = |epoch| step.lr(0.5, Progress::at_epoch(epoch, 5));
        assert_eq!([0, 1, 2, 3, 4].map(at), [0.5, 0.5, 0.05, 0.05, 0.05 * 0.1]);
    }
}
