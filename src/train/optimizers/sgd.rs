//! `torch.optim.SGD(net.parameters(), lr, momentum, dampening, weight_decay, nesterov)`.

use super::{Optimizer, named, parameters, scalar, zeros_like};
use crate::libtorch::parameters::Parameter;
use crate::libtorch::sgd::{self, Options, STATE};
use crate::model::Net;
use crate::settings::OptimizerSettings;
use anyhow::Result;
use tch::Tensor;

/// SGD.
pub(super) struct Sgd {
    parameters: Vec<Parameter<2>>,
    options: Options,
}

impl Sgd {
    pub(super) fn new(net: &Net, settings: &OptimizerSettings) -> Result<Sgd> {
        let OptimizerSettings { momentum, dampening, nesterov, .. } = *settings;
        let state = |tensor: &Tensor| {
            let counts = momentum > 0.0 && dampening > 0.0;
            let step = if counts { scalar(0.0, tensor.device())? } else { Tensor::new() };
            Ok([zeros_like(tensor, momentum > 0.0)?, step])
        };
        Ok(Sgd { parameters: parameters(net, settings, state)?, options: Options { momentum, dampening, nesterov } })
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, lr: f64) -> Result<()> {
        sgd::step(&mut self.parameters, lr, &self.options)
    }

    fn static_step(&mut self, lr: &Tensor) -> Result<()> {
        sgd::static_step(&mut self.parameters, lr, &self.options)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        named(&self.parameters, STATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kernels;
    use crate::settings::Settings;
    use tch::{Device, Kind};

    #[test]
    fn weight_decay_leaves_batch_norm_alone_if_asked_to() {
        for weight_decay_norm in [true, false] {
            let net = Net::new(Device::Cpu, 0.0, Kernels::Torch);
            let norm = format!("--weight-decay-norm={weight_decay_norm}");
            let settings = Settings::from_flags(["--momentum=0.9", "--weight-decay=0.5", &norm]).unwrap();
            let mut sgd = Sgd::new(&net, &settings.optimizer).unwrap();
            let before: Vec<_> = net.parameters().map(|(_, tensor)| tensor.detach().copy()).collect();
            // A parameter without a gradient is left alone. With zeros as gradients the penalty alone acts.
            net.parameters().for_each(|(_, tensor)| (tensor * tensor.zeros_like()).sum(Kind::Float).backward());
            sgd.step(0.1).unwrap();
            // BatchNorm's biases are 0 before and after.
            for ((name, after), before) in net.parameters().zip(before).filter(|((name, _), _)| !name.ends_with("bias"))
            {
                let factor = (after.detach().sum(Kind::Double) / before.sum(Kind::Double)).double_value(&[]);
                let expected = if weight_decay_norm || after.dim() > 1 { 0.95 } else { 1.0 };
                assert!((factor - expected).abs() < 1e-4, "{name}: {factor}");
            }
        }
    }
}
