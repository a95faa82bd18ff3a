//! Settings of several optimizers.

use crate::error::Expected;
use crate::flags::{list, within};
use clap::ArgAction;
use serde::Serialize;
use std::fmt::{self, Display};

/// Weight decay, which every optimizer has.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args, Serialize)]
pub(crate) struct WeightDecay {
    /// L2 penalty; with adamw and soap decoupled weight decay
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..))]
    pub(super) weight_decay: f64,
    /// Whether --weight-decay applies to BatchNorm's weights and all biases too, as it does in torch.optim
    #[arg(long, hide_short_help = true, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub(super) weight_decay_norm: bool,
}

/// The momentum of an optimizer that has one.
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(super) struct Momentum {
    /// momentum
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..1.0))]
    pub(super) momentum: f64,
}

/// The decays of the two averages of Adam and what is made of it.
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(super) struct Averages {
    /// decays of the averages of gradients and of squared gradients
    #[arg(long, hide_short_help = true, value_name = "X,X", default_value_t = Betas(0.9, 0.999), value_parser = betas)]
    pub(super) betas: Betas,
}

/// What keeps a division by a root from being one by 0.
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(super) struct Eps {
    /// number added to the denominator
    #[arg(long, hide_short_help = true, value_name = "X", default_value = "1e-8", value_parser = within("a number", 0.0..))]
    pub(super) eps: f64,
}

/// Two decays; in text `0.9,0.999`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(into = "String")]
pub(super) struct Betas(pub(super) f64, pub(super) f64);

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
    let numbers: Option<Vec<f64>> = list(text).map(|text| within("a number", 0.0..1.0)(text).ok()).collect();
    let pair = numbers.and_then(|numbers| <[f64; 2]>::try_from(numbers).ok());
    let pair = pair.map(|[one, other]| Betas(one, other));
    pair.ok_or_else(|| Expected("two numbers from 0 to below 1, such as 0.9,0.999".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn betas_are_two_numbers() {
        assert_eq!(betas("0.5, 0.25").unwrap(), Betas(0.5, 0.25));
        assert_eq!(betas("[0.5, 0.25]").unwrap(), Betas(0.5, 0.25));
        assert_eq!(betas(&Betas(0.9, 0.999).to_string()).unwrap(), Betas(0.9, 0.999));
        for wrong in ["0.9", "0.9,1", "0.9,0.99,0.999", "-0.1,0.5", "a,b", "nan,0.5", ""] {
            assert_eq!(betas(wrong).unwrap_err().0, "two numbers from 0 to below 1, such as 0.9,0.999", "{wrong}");
        }
    }
}
