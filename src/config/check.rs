//! The ranges of the settings.

use super::{Config, MOST};
use crate::cli::UsageError;

impl Config {
    /// Refuses values that no run can have.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let at_least_0 = |x: f64| x.is_finite() && x >= 0.0;
        let checks: [(bool, &str, &str, String); 23] = [
            ((1..=MOST).contains(&self.epochs), "epochs", "a whole number from 1 to 1000000", self.epochs.to_string()),
            (
                (1..=MOST).contains(&self.batch_size),
                "batch-size",
                "a whole number from 1 to 1000000",
                self.batch_size.to_string(),
            ),
            (positive(self.lr), "lr", "a number above 0", self.lr.to_string()),
            (
                at_least_0(self.momentum) && self.momentum < 1.0,
                "momentum",
                "a number from 0 to below 1",
                self.momentum.to_string(),
            ),
            (at_least_0(self.weight_decay), "weight-decay", "a number from 0 up", self.weight_decay.to_string()),
            (
                !self.nesterov || self.momentum > 0.0,
                "nesterov",
                "a --momentum above 0 beside it",
                "0: give one, or --nesterov=false".into(),
            ),
            (self.step_size >= 1, "step-size", "a whole number of epochs from 1 up", self.step_size.to_string()),
            (
                self.pct_start > 0.0 && self.pct_start < 1.0,
                "pct-start",
                "a share above 0 and below 1",
                self.pct_start.to_string(),
            ),
            (
                at_least_0(self.label_smoothing) && self.label_smoothing < 1.0,
                "label-smoothing",
                "a share from 0 to below 1",
                self.label_smoothing.to_string(),
            ),
            (
                at_least_0(self.ema_decay) && self.ema_decay < 1.0,
                "ema-decay",
                "a number from 0 to below 1",
                self.ema_decay.to_string(),
            ),
            (
                at_least_0(self.rotate) && self.rotate <= 180.0,
                "rotate",
                "degrees from 0 to 180",
                self.rotate.to_string(),
            ),
            (
                at_least_0(self.translate) && self.translate <= 28.0,
                "translate",
                "pixels from 0 to 28",
                self.translate.to_string(),
            ),
            (at_least_0(self.scale) && self.scale < 1.0, "scale", "a share from 0 to below 1", self.scale.to_string()),
            (at_least_0(self.shear) && self.shear <= 45.0, "shear", "degrees from 0 to 45", self.shear.to_string()),
            (positive(self.gamma), "gamma", "a number above 0", self.gamma.to_string()),
            (
                at_least_0(self.dropout) && self.dropout < 1.0,
                "dropout",
                "a share from 0 to below 1",
                self.dropout.to_string(),
            ),
            (self.seed >= 0, "seed", "a whole number from 0 up", self.seed.to_string()),
            (self.threads >= 0, "threads", "a whole number from 0 up", self.threads.to_string()),
            (self.limit_train >= 0, "limit-train", "a whole number from 0 up", self.limit_train.to_string()),
            (self.limit_test >= 0, "limit-test", "a whole number from 0 up", self.limit_test.to_string()),
            (self.validation >= 0, "validation", "a whole number of images from 0 up", self.validation.to_string()),
            (
                at_least_0(self.target_accuracy) && self.target_accuracy <= 100.0,
                "target-accuracy",
                "a percentage from 0 to 100",
                self.target_accuracy.to_string(),
            ),
            (
                self.checkpoint_every >= 0,
                "checkpoint-every",
                "a whole number of steps from 0 up",
                self.checkpoint_every.to_string(),
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, flag, expected, value)) => Err(UsageError(format!("--{flag} takes {expected}, not {value}"))),
            None => Ok(()),
        }
    }
}
