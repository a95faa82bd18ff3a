//! `ReduceLROnPlateau(factor, patience, threshold, cooldown, min_lr)`, in its mode `min` on the loss.

use super::{Progress, Scheduler};
use crate::flags::{Named, within};
use serde::Serialize;
use std::ops::Bound::Excluded;

/// PyTorch's `eps`: a cut by less than this is not made.
const EPS: f64 = 1e-8;

/// ReduceLROnPlateau: multiplied by --factor if the loss on the images of --validation does not fall
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct ReduceOnPlateau {
    /// factor of each cut
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 0.1, value_parser = within("a factor", (Excluded(0.0), Excluded(1.0))))]
    factor: f64,
    /// epochs without a lower loss before a cut
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 2, value_parser = within("a whole number of epochs", 0i64..))]
    plateau_patience: i64,
    /// relative improvement that counts as one
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 1e-4, value_parser = within("a share", 0.0..1.0))]
    threshold: f64,
    /// epochs to ignore after a cut
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 0, value_parser = within("a whole number of epochs", 0i64..))]
    cooldown: i64,
    /// lowest learning rate
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..))]
    min_lr: f64,
}

impl Named for ReduceOnPlateau {
    const NAME: &'static str = "reduce-on-plateau";
    const TORCH: Option<&'static str> = Some("ReduceLROnPlateau");
    const EXAMPLES: &'static [&'static str] =
        &["--validation=16 --factor=0.3 --plateau-patience=0 --cooldown=1 --threshold=0.02 --min-lr=0.002"];
}

impl Scheduler for ReduceOnPlateau {
    /// `lr` after the cuts that the losses of the epochs so far lead to.
    fn lr(&self, lr: f64, progress: Progress) -> f64 {
        let ReduceOnPlateau { factor, plateau_patience, threshold, cooldown, min_lr } = *self;
        let (mut lr, mut lowest, mut waited, mut cooling) = (lr, f64::INFINITY, 0, 0);
        for &loss in progress.losses.iter().take(progress.epoch as usize) {
            if loss < lowest * (1.0 - threshold) {
                (lowest, waited) = (loss, 0);
            } else {
                waited += 1;
            }
            if cooling > 0 {
                (cooling, waited) = (cooling - 1, 0);
            }
            if waited > plateau_patience {
                let cut = (lr * factor).max(min_lr);
                if lr - cut > EPS {
                    lr = cut;
                }
                (cooling, waited) = (cooldown, 0);
            }
        }
        lr
    }

    fn needs_losses(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLATEAU: ReduceOnPlateau =
        ReduceOnPlateau { factor: 0.1, plateau_patience: 0, threshold: 1e-4, cooldown: 0, min_lr: 0.0 };

    /// The rates of the epochs before and after each of `losses`.
    fn rates(schedule: &ReduceOnPlateau, losses: &[f64]) -> Vec<f64> {
        let epochs = 0..=losses.len() as i64;
        epochs.map(|epoch| schedule.lr(0.5, Progress { losses, ..Progress::at_epoch(epoch, 20) })).collect()
    }

    #[test]
    fn the_rate_is_cut_when_the_loss_has_not_fallen_for_longer_than_the_patience() {
        let losses = [1.0, 0.5, 0.49999, 0.6, 0.4, 0.4, 0.4];
        let rates = rates(&ReduceOnPlateau { plateau_patience: 1, ..PLATEAU }, &losses);
        assert_eq!(rates, [0.5, 0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.05 * 0.1]);
    }

    #[test]
    fn nothing_counts_while_it_cools_and_nothing_is_cut_below_the_lowest_rate() {
        let rates = rates(&ReduceOnPlateau { cooldown: 2, min_lr: 0.02, ..PLATEAU }, &[1.0; 9]);
        assert_eq!(rates, [0.5, 0.5, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.02, 0.02]);
    }
}
