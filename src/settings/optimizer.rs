//! SGD.

use super::ranges::{above, within};
use crate::error::UsageError;
use clap::ArgAction;
use serde::Serialize;

/// The arguments of `torch.optim.SGD`.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct OptimizerSettings {
    /// The learning rate; of one-cycle, the highest
    #[arg(long, value_name = "X", default_value_t = 0.01, value_parser = within("a number", above(0.0)))]
    pub lr: f64,
    /// Momentum
    #[arg(long, value_name = "X", default_value_t = 0.9, value_parser = within("a number", 0.0..1.0))]
    pub momentum: f64,
    /// L2 penalty
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..))]
    pub weight_decay: f64,
    /// Whether --weight-decay applies to BatchNorm's weights and biases too, as it does in torch.optim.SGD
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub weight_decay_norm: bool,
    /// Nesterov momentum
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    pub nesterov: bool,
}

impl OptimizerSettings {
    /// Refuses settings that exclude each other.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        if self.nesterov && self.momentum == 0.0 {
            return Err(UsageError(
                "--nesterov takes a --momentum above 0, not 0: give one, or --nesterov=false".into(),
            ));
        }
        Ok(())
    }
}
