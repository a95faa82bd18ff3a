//! The optimizer and its arguments.

use super::choice::{Choice, Of};
use super::name_of;
use super::ranges::{above, within};
use crate::error::{Expected, UsageError};
use clap::{ArgAction, Args, ValueEnum};
use serde::Serialize;
use std::fmt::{self, Display};

use OptimizerKind::{Adam, AdamW, RmsProp, Sgd, Soap};

/// The optimizer, its arguments by PyTorch's names, and `torch.nn.utils.clip_grad_norm_`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct OptimizerSettings {
    /// The optimizer; choosing another one resets its settings to their defaults, except for those given too
    #[arg(long, value_enum, value_name = "NAME", default_value_t = OptimizerKind::DEFAULT)]
    pub optimizer: OptimizerKind,
    /// The learning rate, for one-cycle its peak; by default 0.001 with adam and adamw, 0.003 with soap
    #[arg(long, value_name = "X", default_value_t = 0.01, value_parser = within("a number", above(0.0)))]
    pub lr: f64,
    /// momentum, with rmsprop 0 by default
    #[arg(long, value_name = "X", default_value_t = 0.9, value_parser = within("a number", 0.0..1.0), add = Of(&[Sgd, RmsProp]))]
    pub momentum: f64,
    /// dampening of the momentum: the buffer adds 1 - X times the gradient
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..=1.0), add = Of(&[Sgd]))]
    pub dampening: f64,
    /// Nesterov momentum
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set, add = Of(&[Sgd]))]
    pub nesterov: bool,
    /// the decays of the averages of gradients and of squared gradients; with soap 0.95,0.95 by default
    #[arg(long, value_name = "X,X", default_value_t = Betas(0.9, 0.999), value_parser = betas, add = Of(&[Adam, AdamW, Soap]))]
    pub betas: Betas,
    /// the decay of the average of squared gradients
    #[arg(long, value_name = "X", default_value_t = 0.99, value_parser = within("a number", 0.0..1.0), add = Of(&[RmsProp]))]
    pub alpha: f64,
    /// what is added to the denominator
    #[arg(long, value_name = "X", default_value = "1e-8", value_parser = within("a number", 0.0..), add = Of(&[Adam, AdamW, RmsProp, Soap]))]
    pub eps: f64,
    /// divide by the greatest average of squared gradients so far
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set, add = Of(&[Adam, AdamW]))]
    pub amsgrad: bool,
    /// divide by an estimate of the gradient's variance
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set, add = Of(&[RmsProp]))]
    pub centered: bool,
    /// steps between two updates of the preconditioner's eigenbases
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = within("a whole number of steps", 1i64..), add = Of(&[Soap]))]
    pub precondition_frequency: i64,
    /// L2 penalty; with adamw and soap decoupled weight decay, 0.01 by default
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..))]
    pub weight_decay: f64,
    /// Whether --weight-decay applies to BatchNorm's weights and all biases too, as it does in torch.optim
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub weight_decay_norm: bool,
    /// Scale the gradients of a step down to this total norm, if it is larger; 0: never
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..))]
    pub clip_grad_norm: f64,
}

/// The optimizers of `torch.optim`, and SOAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "lower")]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent
    Sgd,
    /// Adam (Kingma and Ba, 2015)
    Adam,
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019)
    AdamW,
    /// RMSprop (Hinton, 2012)
    RmsProp,
    /// SOAP: Adam in the eigenbases of Shampoo's preconditioner (Vyas et al., 2024)
    Soap,
}

impl Display for OptimizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name_of(self))
    }
}

impl Choice for OptimizerKind {
    type Group = OptimizerSettings;
    const KEY: &'static str = "optimizer";
    const SHARED: &'static [&'static str] = &["weight_decay_norm", "clip_grad_norm"];
    const DEFAULT: OptimizerKind = Sgd;

    fn own_defaults(self) -> &'static str {
        match self {
            Sgd => "",
            Adam => "lr = 0.001\nmomentum = 0.0",
            AdamW => "lr = 0.001\nmomentum = 0.0\nweight_decay = 0.01",
            RmsProp => "momentum = 0.0",
            Soap => "lr = 0.003\nmomentum = 0.0\nbetas = '0.95,0.95'\nweight_decay = 0.01",
        }
    }
}

/// `betas` of Adam; in text `0.9,0.999`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(into = "String")]
pub struct Betas(pub f64, pub f64);

impl Display for Betas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.0, self.1)
    }
}

impl From<Betas> for String {
    fn from(betas: Betas) -> String {
        betas.to_string()
    }
}

fn betas(text: &str) -> Result<Betas, Expected> {
    let beta = |text: &str| within("a number", 0.0..1.0)(text.trim()).ok();
    let pair = text.split_once(',').and_then(|(one, other)| Some(Betas(beta(one)?, beta(other)?)));
    pair.ok_or_else(|| Expected("two numbers from 0 to below 1, such as 0.9,0.999".into()))
}

impl OptimizerSettings {
    /// Refuses settings that the optimizer does not have, and those that exclude each other.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        self.optimizer.check(self)?;
        if self.nesterov && self.momentum == 0.0 {
            return Err(UsageError(
                "--nesterov takes a --momentum above 0, not 0: give one, or --nesterov=false".into(),
            ));
        }
        if self.nesterov && self.dampening != 0.0 {
            return Err(UsageError(format!(
                "--nesterov takes a --dampening of 0, not {}: leave one of them out",
                self.dampening
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn refused(flags: &[&str]) -> String {
        Settings::from_flags(flags).unwrap_err().to_string()
    }

    #[test]
    fn a_setting_that_the_optimizer_does_not_have_keeps_its_neutral_value() {
        let momentum = "adam has no --momentum: leave it out; sgd and rmsprop have it";
        assert_eq!(refused(&["--optimizer=adam", "--momentum=0.5"]), momentum);
        assert_eq!(refused(&["--alpha=0.9"]), "sgd has no --alpha: leave it out; rmsprop has it");
        assert_eq!(refused(&["--eps=0"]), "sgd has no --eps: leave it out; adam, adamw, rmsprop and soap have it");
        let amsgrad = "rmsprop has no --amsgrad: leave it out; adam and adamw have it";
        assert_eq!(refused(&["--optimizer=rmsprop", "--amsgrad=true"]), amsgrad);
        assert!(refused(&["--optimizer=adamw", "--nesterov=true"]).starts_with("adamw has no --nesterov"));
        let neutral = ["--optimizer=adam", "--momentum=0", "--nesterov=false", "--dampening=0", "--alpha=0.99"];
        let adam = Settings::from_flags(["--optimizer=adam"]).unwrap();
        assert_eq!(Settings::from_flags(neutral).unwrap(), adam);
    }

    #[test]
    fn nesterov_takes_what_torch_optim_takes() {
        assert!(refused(&["--nesterov=true", "--momentum=0"]).contains("--momentum above 0, not 0"));
        assert!(refused(&["--nesterov=true", "--dampening=0.5"]).contains("--dampening of 0, not 0.5"));
    }

    #[test]
    fn betas_are_two_numbers() {
        assert_eq!(betas("0.5, 0.25").unwrap(), Betas(0.5, 0.25));
        assert_eq!(betas(&Betas(0.9, 0.999).to_string()).unwrap(), Betas(0.9, 0.999));
        for wrong in ["0.9", "0.9,1", "0.9,0.99,0.999", "-0.1,0.5", "a,b", "nan,0.5"] {
            let sentence = format!("--betas takes two numbers from 0 to below 1, such as 0.9,0.999, not {wrong}");
            assert_eq!(refused(&["--optimizer=adam", &format!("--betas={wrong}")]), sentence);
        }
    }
}
