//! The optimizer, and what every optimizer has.

use crate::error::UsageError;
use crate::flags::{Chosen, above, within};
use crate::model::Net;
use crate::train::optimizers::{Algorithm, Optimizer, WeightDecay};
use anyhow::Result;
use serde::Serialize;

/// The optimizer, its arguments by PyTorch's names, and `torch.nn.utils.clip_grad_norm_`.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct OptimizerSettings {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) chosen: Chosen<dyn Algorithm>,
    /// The learning rate, for one-cycle its peak
    #[arg(long, value_name = "X", default_value_t = 0.01, value_parser = within("a number", above(0.0)))]
    pub lr: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) decay: WeightDecay,
    /// Scale the gradients of a step down to this total norm, if it is larger; 0: never
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..))]
    pub clip_grad_norm: f64,
}

impl OptimizerSettings {
    /// The optimizer over the parameters of `net`, before its first step.
    pub(crate) fn over(&self, net: &Net) -> Result<Box<dyn Optimizer>> {
        self.chosen.kind().optimizer(net, &self.decay)
    }

    /// Refuses settings that the optimizer does not have, and those that exclude each other.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        self.chosen.check()?;
        self.chosen.kind().check()
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    #[test]
    fn a_setting_that_the_optimizer_does_not_have_keeps_its_neutral_value() {
        let refused = |flags: &[&str]| Settings::from_flags(flags).unwrap_err().to_string();
        let momentum = "adam has no --momentum: leave it out; sgd and rmsprop have it";
        assert_eq!(refused(&["--optimizer=adam", "--momentum=0.5"]), momentum);
        assert_eq!(refused(&["--alpha=0.9"]), "sgd has no --alpha: leave it out; rmsprop has it");
        let amsgrad = "rmsprop has no --amsgrad: leave it out; adam and adamw have it";
        assert_eq!(refused(&["--optimizer=rmsprop", "--amsgrad=true"]), amsgrad);
        assert!(refused(&["--optimizer=adamw", "--nesterov=true"]).starts_with("adamw has no --nesterov"));
        let neutral = ["--optimizer=adam", "--momentum=0", "--nesterov=false", "--dampening=0", "--alpha=0.99"];
        let adam = Settings::from_flags(["--optimizer=adam"]).unwrap();
        assert_eq!(Settings::from_flags(neutral).unwrap(), adam);
    }
}
