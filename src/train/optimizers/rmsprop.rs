//! `torch.optim.RMSprop(net.parameters(), lr, alpha, eps, weight_decay, momentum, centered)`.

use super::parameters::{Parameters, zero, zeros_like};
use super::shared::{Eps, Momentum};
use super::{Algorithm, Optimizer, Rate, WeightDecay};
use crate::flags::{Named, within};
use crate::libtorch::foreach;
use crate::model::Net;
use anyhow::Result;
use clap::ArgAction;
use serde::Serialize;
use tch::Tensor;

/// RMSprop (Hinton, 2012)
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(super) struct RmsPropSettings {
    /// decay of the average of squared gradients
    #[arg(long, hide_short_help = true, value_name = "X", default_value_t = 0.99, value_parser = within("a number", 0.0..1.0))]
    alpha: f64,
    #[command(flatten)]
    #[serde(flatten)]
    eps: Eps,
    #[command(flatten)]
    #[serde(flatten)]
    momentum: Momentum,
    /// divide by an estimate of the gradient's variance
    #[arg(long, hide_short_help = true, value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    centered: bool,
}

impl Named for RmsPropSettings {
    const NAME: &'static str = "rmsprop";
    const TORCH: Option<&'static str> = Some("RMSprop");
    const EXAMPLES: &'static [&'static str] =
        &["--lr=0.002 --alpha=0.9 --eps=0.000001", "--lr=0.001 --momentum=0.9 --centered=true --weight-decay=0.001"];
}

impl Algorithm for RmsPropSettings {
    fn optimizer(&self, net: &Net, decay: &WeightDecay) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(RmsProp::new(net, decay, self)?))
    }
}

/// RMSprop over the parameters of a net.
struct RmsProp {
    parameters: Parameters<4>,
    alpha: f64,
    eps: f64,
    momentum: f64,
    centered: bool,
}

impl RmsProp {
    fn new(net: &Net, decay: &WeightDecay, settings: &RmsPropSettings) -> Result<RmsProp> {
        let RmsPropSettings { alpha, eps: Eps { eps }, momentum: Momentum { momentum }, centered } = *settings;
        let names = ["step", "square_avg", "momentum_buffer", "grad_avg"];
        let parameters = Parameters::new(net, decay, names, |tensor| {
            let zeros = |needed| zeros_like(tensor, needed);
            Ok([zero(tensor.device())?, zeros(true)?, zeros(momentum > 0.0)?, zeros(centered)?])
        })?;
        Ok(RmsProp { parameters, alpha, eps, momentum, centered })
    }
}

impl Optimizer for RmsProp {
    fn step(&mut self, lr: &Rate) -> Result<()> {
        let mut lists = self.parameters.with_gradients();
        lists.add_weight_decay(self.parameters.weight_decay)?;
        let (params, grads) = (&lists.params, &lists.grads);
        let [steps, square_avgs, momentum_buffers, grad_avgs] = &lists.state;
        foreach::add_(steps, 1.0)?;
        foreach::mul_(square_avgs, self.alpha)?;
        foreach::addcmul_(square_avgs, grads, grads, 1.0 - self.alpha)?;
        let avgs = if self.centered {
            foreach::lerp_(grad_avgs, grads, 1.0 - self.alpha)?;
            let avgs = foreach::addcmul(square_avgs, grad_avgs, grad_avgs, -1.0)?;
            foreach::sqrt_(&avgs)?;
            avgs
        } else {
            foreach::sqrt(square_avgs)?
        };
        foreach::add_(&avgs, self.eps)?;
        if self.momentum == 0.0 {
            return lr.subtract_quotients(params, grads, &avgs);
        }
        foreach::mul_(momentum_buffers, self.momentum)?;
        foreach::addcdiv_(momentum_buffers, grads, &avgs, 1.0)?;
        lr.subtract(params, momentum_buffers)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.parameters.state()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_state, assert_steps};

    const QUICK: [&str; 3] = ["--optimizer=rmsprop", "--eps=0", "--alpha=0.75"];

    #[test]
    fn steps_are_those_of_the_definition() {
        let with = |flag| [&QUICK[..], &[flag]].concat();
        // The averages of the squares are 1/4 and 7/16.
        assert_steps(&QUICK, [2.0, 1.511858]);
        assert_steps(&with("--momentum=0.5"), [2.0, 2.511858]);
        // The variances are 1/4 - 1/16 and 7/16 - 49/256.
        assert_steps(&with("--centered=true"), [2.309401, 2.015811]);
    }

    #[test]
    fn state_has_the_names_of_torch_optim() {
        assert_state(&["--optimizer=rmsprop"], &["step", "square_avg"]);
        let all = ["--optimizer=rmsprop", "--momentum=0.9", "--centered=true"];
        assert_state(&all, &["step", "square_avg", "momentum_buffer", "grad_avg"]);
    }
}
