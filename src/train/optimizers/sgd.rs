//! `torch.optim.SGD(net.parameters(), lr, momentum, weight_decay=.., nesterov=..)`.

use super::Optimizer;
use crate::libtorch::sgd::{self, Options, Parameter};
use crate::model::Net;
use crate::settings::OptimizerSettings;
use anyhow::Result;
use tch::Tensor;

/// SGD. With `weight_decay_norm` false, BatchNorm's parameters are a parameter group of their own without weight decay.
pub(super) struct Sgd {
    parameters: Vec<Parameter>,
    options: Options,
}

impl Sgd {
    pub(super) fn new(net: &Net, settings: &OptimizerSettings) -> Result<Sgd> {
        let OptimizerSettings { momentum, weight_decay, weight_decay_norm, nesterov, .. } = *settings;
        let parameter = |(name, tensor): (&str, &Tensor)| {
            // The net has no biases except BatchNorm's: a parameter of one dimension is BatchNorm's.
            let decays = weight_decay_norm || tensor.dim() > 1;
            Ok(Parameter {
                name: name.to_string(),
                tensor: tensor.shallow_clone(),
                momentum_buffer: if momentum > 0.0 { tensor.f_zeros_like()? } else { Tensor::new() },
                weight_decay: if decays { weight_decay } else { 0.0 },
            })
        };
        let parameters = net.parameters().map(parameter).collect::<Result<_>>()?;
        Ok(Sgd { parameters, options: Options { momentum, nesterov } })
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, lr: f64) -> Result<()> {
        sgd::step(&mut self.parameters, lr, self.options)
    }

    fn static_step(&mut self, lr: &Tensor) -> Result<()> {
        sgd::static_step(&mut self.parameters, lr, self.options)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let buffers = self.parameters.iter().filter(|parameter| parameter.momentum_buffer.defined());
        let named = |parameter: &Parameter| {
            (format!("momentum_buffer.{}", parameter.name), parameter.momentum_buffer.shallow_clone())
        };
        buffers.map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Kernels};
    use crate::settings::Settings;
    use tch::{Device, Kind};

    #[test]
    fn weight_decay_leaves_batch_norm_alone_if_asked_to() {
        for weight_decay_norm in [true, false] {
            let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
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
