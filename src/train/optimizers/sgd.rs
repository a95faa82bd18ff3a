//! `torch.optim.SGD(net.parameters(), lr, momentum, dampening, weight_decay, nesterov)`.

use super::parameters::{Parameters, zero, zeros_like};
use super::shared::Momentum;
use super::{Algorithm, Optimizer, Rate, WeightDecay};
use crate::error::UsageError;
use crate::flags::{Named, within};
use crate::libtorch::foreach;
use crate::model::Net;
use anyhow::Result;
use clap::ArgAction;
use serde::Serialize;
use tch::Tensor;

/// Stochastic gradient descent
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(super) struct SgdSettings {
    #[command(flatten)]
    #[serde(flatten)]
    momentum: Momentum,
    /// dampening of the momentum: the buffer adds 1 - X times the gradient
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 0.0, value_parser = within("a number", 0.0..=1.0))]
    dampening: f64,
    /// Nesterov momentum
    #[arg(long, hide_short_help = true, value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    nesterov: bool,
}

impl Named for SgdSettings {
    const NAME: &'static str = "sgd";
    /// The original's.
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[("momentum", "0.9")];
    const TORCH: Option<&'static str> = Some("SGD");
    const EXAMPLES: &'static [&'static str] = &[
        "--momentum=0",
        "--momentum=0.9 --nesterov=true --weight-decay=0.001",
        "--momentum=0.9 --dampening=0.4 --weight-decay=0.01 --weight-decay-norm=false",
    ];
}

impl Algorithm for SgdSettings {
    fn optimizer(&self, net: &Net, decay: &WeightDecay) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Sgd::new(net, decay, self)?))
    }

    fn check(&self) -> Result<(), UsageError> {
        if self.nesterov && self.momentum.momentum == 0.0 {
            return Err(UsageError(
                "--nesterov takes a --momentum above 0, not 0: give one, or --nesterov=false".into(),
            ));
        }
        if self.nesterov && self.dampening != 0.0 {
            let dampening = self.dampening;
            return Err(UsageError(format!(
                "--nesterov takes a --dampening of 0, not {dampening}: leave one of them out"
            )));
        }
        Ok(())
    }
}

/// SGD over the parameters of a net.
struct Sgd {
    /// The momentum buffer begins as zeros. Steps are counted for dampening alone.
    parameters: Parameters<2>,
    momentum: f64,
    dampening: f64,
    nesterov: bool,
}

impl Sgd {
    fn new(net: &Net, decay: &WeightDecay, settings: &SgdSettings) -> Result<Sgd> {
        let SgdSettings { momentum: Momentum { momentum }, dampening, nesterov } = *settings;
        let counts = momentum > 0.0 && dampening > 0.0;
        let parameters = Parameters::new(net, decay, ["momentum_buffer", "step"], |tensor| {
            let step = if counts { zero(tensor.device())? } else { Tensor::new() };
            Ok([zeros_like(tensor, momentum > 0.0)?, step])
        })?;
        Ok(Sgd { parameters, momentum, dampening, nesterov })
    }

    /// `buf.add_(grad, alpha=1 - dampening)`, and at the first step `buf.add_(grad)`: PyTorch's first buffer is a copy of
    /// the gradient. All parameters have made as many steps as the first one, for a sequential net has no branches.
    fn add_dampened(&self, bufs: &[&Tensor], grads: &[Tensor], steps: &[&Tensor], lr: &Rate) -> Result<()> {
        let Some(step) = steps.first().filter(|_| self.dampening > 0.0) else {
            return foreach::add_scaled_(bufs, grads, 1.0);
        };
        match lr {
            Rate::Host(_) => {
                let share = if f64::try_from(*step)? == 0.0 { 1.0 } else { 1.0 - self.dampening };
                foreach::add_scaled_(bufs, grads, share)?;
            }
            Rate::Device(_) => {
                let share = step.f_clamp_max(1.0)?.f_mul_scalar(-self.dampening)?.f_add_scalar(1.0)?;
                foreach::add_(bufs, &foreach::mul(grads, &share)?)?;
            }
        }
        foreach::add_(steps, 1.0)
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, lr: &Rate) -> Result<()> {
        let mut lists = self.parameters.with_gradients();
        lists.add_weight_decay(self.parameters.weight_decay)?;
        let (params, grads, [bufs, steps]) = (&lists.params, &lists.grads, &lists.state);
        if self.momentum == 0.0 {
            return lr.subtract(params, grads);
        }
        foreach::mul_(bufs, self.momentum)?;
        self.add_dampened(bufs, grads, steps, lr)?;
        if self.nesterov {
            lr.subtract(params, &foreach::add_scaled(grads, bufs, self.momentum)?)
        } else {
            lr.subtract(params, bufs)
        }
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.parameters.state()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_state, assert_steps};
    use crate::settings::Settings;

    #[test]
    fn steps_are_those_of_the_definition() {
        assert_steps(&["--momentum=0"], [1.0, 1.0]);
        assert_steps(&["--momentum=0.5"], [1.0, 1.5]);
        assert_steps(&["--momentum=0.5", "--dampening=0.75"], [1.0, 0.75]);
        assert_steps(&["--momentum=0.5", "--nesterov=true"], [1.5, 1.75]);
    }

    #[test]
    fn state_has_the_names_of_torch_optim() {
        assert_state(&["--momentum=0"], &[]);
        assert_state(&["--momentum=0.9"], &["momentum_buffer"]);
    }

    #[test]
    fn nesterov_takes_what_torch_optim_takes() {
        let refused = |flags: [&str; 2]| Settings::from_flags(flags).unwrap_err().to_string();
        assert!(refused(["--nesterov=true", "--momentum=0"]).contains("--momentum above 0, not 0"));
        assert!(refused(["--nesterov=true", "--dampening=0.5"]).contains("--dampening of 0, not 0.5"));
    }
}
