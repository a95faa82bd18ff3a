//! `ReduceLROnPlateau(factor, patience, threshold, cooldown, min_lr)`, in its mode `min` on the loss.

use super::Progress;
use crate::settings::ScheduleSettings;

/// PyTorch's `eps`: a cut by less than this is not made.
const EPS: f64 = 1e-8;

/// `lr` after the cuts that the losses of the epochs so far lead to.
pub(super) fn lr(lr: f64, settings: &ScheduleSettings, progress: Progress) -> f64 {
    let ScheduleSettings { factor, plateau_patience, threshold, cooldown, min_lr, .. } = *settings;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// The rates of the epochs before and after each of `losses`.
    fn rates(flags: &[&str], losses: &[f64]) -> Vec<f64> {
        let flags = [&["--schedule=reduce-on-plateau", "--validation=1"], flags].concat();
        let settings = Settings::from_flags(flags).unwrap().schedule;
        let epochs = 0..=losses.len() as i64;
        epochs.map(|epoch| lr(0.5, &settings, Progress { losses, ..Progress::at_epoch(epoch, 20) })).collect()
    }

    #[test]
    fn the_rate_is_cut_when_the_loss_has_not_fallen_for_longer_than_the_patience() {
        let losses = [1.0, 0.5, 0.49999, 0.6, 0.4, 0.4, 0.4];
        let rates = rates(&["--plateau-patience=1", "--factor=0.1"], &losses);
        assert_eq!(rates, [0.5, 0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.05 * 0.1]);
    }

    #[test]
    fn nothing_counts_while_it_cools_and_nothing_is_cut_below_the_lowest_rate() {
        let flags = ["--plateau-patience=0", "--factor=0.1", "--cooldown=2", "--min-lr=0.02"];
        let rates = rates(&flags, &[1.0; 9]);
        assert_eq!(rates, [0.5, 0.5, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.02, 0.02]);
    }
}
