//! `torch.optim.Adam(net.parameters(), lr, betas, eps, weight_decay, amsgrad)`, and AdamW with the same arguments.

use super::parameters::{Parameters, zero, zeros_like};
use super::shared::{Averages, Eps};
use super::{Algorithm, Optimizer, Rate, WeightDecay};
use crate::flags::Named;
use crate::libtorch::foreach;
use crate::model::Net;
use anyhow::Result;
use clap::ArgAction;
use serde::Serialize;
use std::hint::black_box;
use tch::Tensor;

/// Adam (Kingma and Ba, 2015)
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(super) struct AdamSettings {
    #[command(flatten)]
    #[serde(flatten)]
    averages: Averages,
    #[command(flatten)]
    #[serde(flatten)]
    eps: Eps,
    /// divide by the largest average of squared gradients so far
    #[arg(long, hide_short_help = true, value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    amsgrad: bool,
}

impl Named for AdamSettings {
    const NAME: &'static str = "adam";
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[("lr", "0.001")];
    const TORCH: Option<&'static str> = Some("Adam");
    const EXAMPLES: &'static [&'static str] =
        &["--lr=0.002 --amsgrad=true --betas=0.8,0.95 --weight-decay=0.01", "--lr=0.002 --eps=0.000001"];
}

impl Algorithm for AdamSettings {
    fn optimizer(&self, net: &Net, decay: &WeightDecay) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Adam::new(net, decay, self, false)?))
    }
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019)
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(super) struct AdamWSettings {
    #[command(flatten)]
    #[serde(flatten)]
    adam: AdamSettings,
}

impl Named for AdamWSettings {
    const NAME: &'static str = "adamw";
    const DEFAULTS: &'static [(&'static str, &'static str)] = &[("lr", "0.001"), ("weight_decay", "0.01")];
    const TORCH: Option<&'static str> = Some("AdamW");
    const EXAMPLES: &'static [&'static str] =
        &["--lr=0.002 --amsgrad=true --eps=0.000001 --weight-decay-norm=false", "--lr=0.002 --betas=0.8,0.95"];
}

impl Algorithm for AdamWSettings {
    fn optimizer(&self, net: &Net, decay: &WeightDecay) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Adam::new(net, decay, &self.adam, true)?))
    }
}

/// Adam or AdamW.
struct Adam {
    /// The greatest average is kept with amsgrad alone.
    parameters: Parameters<4>,
    betas: (f64, f64),
    eps: f64,
    amsgrad: bool,
    /// Whether it is AdamW.
    decoupled_weight_decay: bool,
}

impl Adam {
    fn new(net: &Net, decay: &WeightDecay, settings: &AdamSettings, decoupled_weight_decay: bool) -> Result<Adam> {
        let AdamSettings { averages: Averages { betas }, eps: Eps { eps }, amsgrad } = *settings;
        let names = ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"];
        let parameters = Parameters::new(net, decay, names, |tensor| {
            let zeros = |needed| zeros_like(tensor, needed);
            Ok([zero(tensor.device())?, zeros(true)?, zeros(true)?, zeros(amsgrad)?])
        })?;
        Ok(Adam { parameters, betas: (betas.0, betas.1), eps, amsgrad, decoupled_weight_decay })
    }

    /// `_single_tensor_adam` of `torch/optim/adam.py`; what it computes in Python's floats is f64 here.
    fn step_on_cpu(&self, lr: f64) -> Result<()> {
        let (beta1, beta2) = self.betas;
        let weight_decay = self.parameters.weight_decay;
        let mut lists = self.parameters.with_gradients();
        if self.decoupled_weight_decay {
            foreach::mul_(&lists.decaying(), 1.0 - lr * weight_decay)?;
        } else {
            lists.add_weight_decay(weight_decay)?;
        }
        let [steps, exp_avgs, exp_avg_sqs, max_exp_avg_sqs] = &lists.state;
        foreach::add_(steps, 1.0)?;
        foreach::lerp_(exp_avgs, &lists.grads, 1.0 - beta1)?;
        foreach::mul_(exp_avg_sqs, beta2)?;
        foreach::addcmul_(exp_avg_sqs, &lists.grads, &lists.grads, 1.0 - beta2)?;
        if self.amsgrad {
            foreach::maximum_(max_exp_avg_sqs, exp_avg_sqs)?;
        }
        let denominators = foreach::sqrt(if self.amsgrad { max_exp_avg_sqs } else { exp_avg_sqs })?;
        let steps = steps.iter().map(|step| Ok(f64::try_from(*step)?)).collect::<Result<Vec<f64>>>()?;
        // Python's x ** 0.5 is C's pow, whose last bit is not always sqrt's. The compiler would take sqrt.
        let bias_correction2_sqrts = steps.iter().map(|&step| (1.0 - beta2.powf(step)).powf(black_box(0.5)));
        foreach::div_(&denominators, bias_correction2_sqrts.collect::<Vec<f64>>())?;
        foreach::add_(&denominators, self.eps)?;
        let step_sizes = steps.iter().map(|&step| -(lr / (1.0 - beta1.powf(step))));
        foreach::addcdiv_(&lists.params, exp_avgs, &denominators, step_sizes.collect::<Vec<f64>>())
    }
}

impl Optimizer for Adam {
    fn step(&mut self, lr: &Rate) -> Result<()> {
        let lr = match lr {
            Rate::Host(lr) => return self.step_on_cpu(*lr),
            Rate::Device(lr) => lr,
        };
        foreach::add_(&self.parameters.with_gradients().state[0], 1.0)?;
        for (weight_decay, lists) in self.parameters.groups() {
            let adam = foreach::Adam {
                betas: self.betas,
                eps: self.eps,
                weight_decay,
                decoupled_weight_decay: self.decoupled_weight_decay,
            };
            let [steps, exp_avgs, exp_avg_sqs, max_exp_avg_sqs] = &lists.state;
            let max_exp_avg_sqs = if self.amsgrad { &max_exp_avg_sqs[..] } else { &[] };
            let state = [exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps];
            foreach::fused_adam_(&lists.params, &lists.grads, state, lr, &adam)?;
        }
        Ok(())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.parameters.state()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rate;
    use super::super::tests::{assert_state, assert_steps, of};
    use crate::model::{Architecture, Kernels, Net};
    use tch::{Device, Kind};

    #[test]
    fn steps_are_those_of_the_definition() {
        assert_steps(&["--optimizer=adam", "--eps=0"], [1.0, 1.0]);
        assert_steps(&["--optimizer=adamw", "--eps=0", "--amsgrad=true", "--weight-decay=0"], [1.0, 1.0]);
    }

    #[test]
    fn state_has_the_names_of_torch_optim() {
        assert_state(&["--optimizer=adam"], &["step", "exp_avg", "exp_avg_sq"]);
        assert_state(&["--optimizer=adamw", "--amsgrad=true"], &["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]);
    }

    #[test]
    fn amsgrad_divides_by_the_greatest_average_so_far() {
        for (amsgrad, falls) in [("false", false), ("true", true)] {
            let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
            let flags =
                ["--optimizer=adam", "--betas=0,0", "--eps=0", &format!("--amsgrad={amsgrad}")].map(String::from);
            let mut optimizer = of(&net, &flags);
            let (_, weight) = net.parameters().next().unwrap();
            for gradient in [1.0, 0.25] {
                let before = weight.detach().copy();
                (weight * gradient).sum(Kind::Float).backward();
                optimizer.step(&Rate::Host(1.0)).unwrap();
                net.zero_grad().unwrap();
                let step = (before - weight.detach()).max().double_value(&[]);
                let expected = if falls { gradient } else { 1.0 };
                assert!((step - expected).abs() < 1e-5, "{step}");
            }
        }
    }
}
