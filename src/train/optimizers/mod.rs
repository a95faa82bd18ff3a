//! Optimizers, those of `torch.optim` and SOAP: one file each, behind [`Optimizer`].

mod adam;
mod rmsprop;
mod sgd;
mod soap;

use crate::libtorch::parameters::Parameter;
use crate::model::Net;
use crate::settings::{OptimizerKind, OptimizerSettings};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// What changes a net's parameters once their gradients are known.
pub(crate) trait Optimizer {
    /// `step()` with the learning rate `lr`, then `zero_grad()`.
    fn step(&mut self, lr: f64) -> Result<()>;

    /// The same with the learning rate in device memory, `lr` (a float32 scalar). Nothing in it comes from the host, so
    /// that a CUDA graph may hold it; no tensor of [`Optimizer::state`] moves.
    fn static_step(&mut self, lr: &Tensor) -> Result<()>;

    /// After how many steps of the run [`Optimizer::after_steps`] is due each time.
    fn after_steps_every(&self) -> i64 {
        i64::MAX
    }

    /// What no CUDA graph can hold, when the run has made `steps` steps.
    fn after_steps(&mut self, _steps: i64) -> Result<()> {
        Ok(())
    }

    /// Every tensor that a step changes beside the parameters, under its name in a checkpoint, such as
    /// `momentum_buffer.convblock1.0.weight`. The tensors share the optimizer's memory.
    fn state(&self) -> Vec<(String, Tensor)>;
}

/// The optimizer of `settings` over the parameters of `net`, before its first step.
pub(crate) fn of(net: &Net, settings: &OptimizerSettings) -> Result<Box<dyn Optimizer>> {
    Ok(match settings.optimizer {
        OptimizerKind::Sgd => Box::new(sgd::Sgd::new(net, settings)?),
        OptimizerKind::Adam | OptimizerKind::AdamW => Box::new(adam::Adam::new(net, settings)?),
        OptimizerKind::RmsProp => Box::new(rmsprop::RmsProp::new(net, settings)?),
        OptimizerKind::Soap => Box::new(soap::Soap::new(net, settings)?),
    })
}

/// The parameters of `net`, each with the tensors that `state` makes for it. With `weight_decay_norm` false, those of
/// one dimension (BatchNorm's, and all biases) are a parameter group of their own without weight decay.
fn parameters<const N: usize>(
    net: &Net,
    settings: &OptimizerSettings,
    state: impl Fn(&Tensor) -> Result<[Tensor; N]>,
) -> Result<Vec<Parameter<N>>> {
    let parameter = |(name, tensor): (&str, &Tensor)| {
        let decays = settings.weight_decay_norm || tensor.dim() > 1;
        Ok(Parameter {
            name: name.to_string(),
            tensor: tensor.shallow_clone(),
            weight_decay: if decays { settings.weight_decay } else { 0.0 },
            state: state(tensor)?,
        })
    };
    net.parameters().map(parameter).collect()
}

/// The tensors that an optimizer keeps for `parameters`, whose names are `names`.
fn named<const N: usize>(parameters: &[Parameter<N>], names: [&str; N]) -> Vec<(String, Tensor)> {
    let mut named = Vec::new();
    for parameter in parameters {
        for (name, tensor) in names.into_iter().zip(&parameter.state).filter(|(_, tensor)| tensor.defined()) {
            named.push((format!("{name}.{}", parameter.name), tensor.shallow_clone()));
        }
    }
    named
}

/// Zeros like a parameter, if they are needed.
fn zeros_like(tensor: &Tensor, needed: bool) -> Result<Tensor> {
    Ok(if needed { tensor.detach().f_zeros_like()? } else { Tensor::new() })
}

/// A float32 scalar on `device`.
fn scalar(value: f64, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_full([0i64; 0], value, (Kind::Float, device))?)
}

/// `step` on a GPU of an optimizer that counts its steps there, where reading the count would wait: `static_step` at
/// the rate `lr`.
fn step_on_gpu(optimizer: &mut dyn Optimizer, lr: f64, device: Device) -> Result<()> {
    optimizer.static_step(&scalar(lr, device)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Kernels};
    use crate::settings::Settings;

    /// By how much each of two steps lowers a weight whose gradient is 1, at the learning rate 1 and with an eps of 0.
    const STEPS: [(&[&str], [f64; 2]); 10] = [
        (&["--momentum=0"], [1.0, 1.0]),
        (&["--momentum=0.5"], [1.0, 1.5]),
        (&["--momentum=0.5", "--dampening=0.75"], [1.0, 0.75]),
        (&["--momentum=0.5", "--nesterov=true"], [1.5, 1.75]),
        (&["--optimizer=adam", "--eps=0"], [1.0, 1.0]),
        (&["--optimizer=adamw", "--eps=0", "--amsgrad=true", "--weight-decay=0"], [1.0, 1.0]),
        // The averages of the squares are 1/4 and 7/16.
        (&["--optimizer=rmsprop", "--eps=0", "--alpha=0.75"], [2.0, 1.511858]),
        (&["--optimizer=rmsprop", "--eps=0", "--alpha=0.75", "--momentum=0.5"], [2.0, 2.511858]),
        // The variances are 1/4 - 1/16 and 7/16 - 49/256.
        (&["--optimizer=rmsprop", "--eps=0", "--alpha=0.75", "--centered=true"], [2.309401, 2.015811]),
        // Before its bases turn it is Adam.
        (&["--optimizer=soap", "--eps=0", "--weight-decay=0"], [1.0, 1.0]),
    ];

    #[test]
    fn steps_are_those_of_the_definition() {
        for (flags, expected) in STEPS {
            for static_step in [false, true] {
                let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
                let settings = Settings::from_flags(flags).unwrap();
                let mut optimizer = of(&net, &settings.optimizer).unwrap();
                let weights = || net.parameters().map(|(_, tensor)| tensor.detach().copy()).collect::<Vec<_>>();
                for expected in expected {
                    let before = weights();
                    net.parameters().for_each(|(_, tensor)| tensor.sum(Kind::Float).backward());
                    match static_step {
                        true => optimizer.static_step(&scalar(1.0, Device::Cpu).unwrap()).unwrap(),
                        false => optimizer.step(1.0).unwrap(),
                    }
                    assert!(net.parameters().all(|(_, tensor)| !tensor.grad().defined()));
                    for (before, after) in before.iter().zip(weights()) {
                        let error = (before - after - expected).abs().max().double_value(&[]);
                        assert!(error < 1e-5, "{flags:?}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn amsgrad_divides_by_the_greatest_average_so_far() {
        for (amsgrad, falls) in [("false", false), ("true", true)] {
            let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
            let flags = ["--optimizer=adam", "--betas=0,0", "--eps=0", &format!("--amsgrad={amsgrad}")];
            let mut optimizer = of(&net, &Settings::from_flags(flags).unwrap().optimizer).unwrap();
            let (_, weight) = net.parameters().next().unwrap();
            for gradient in [1.0, 0.25] {
                let before = weight.detach().copy();
                (weight * gradient).sum(Kind::Float).backward();
                optimizer.step(1.0).unwrap();
                let step = (before - weight.detach()).max().double_value(&[]);
                let expected = if falls { gradient } else { 1.0 };
                assert!((step - expected).abs() < 1e-5, "{step}");
            }
        }
    }

    #[test]
    fn state_has_the_names_of_torch_optim() {
        for (flags, expected) in [
            (&["--momentum=0"][..], &[][..]),
            (&["--momentum=0.9"], &["momentum_buffer"]),
            (&["--optimizer=adam"], &["step", "exp_avg", "exp_avg_sq"]),
            (&["--optimizer=adamw", "--amsgrad=true"], &["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]),
            (&["--optimizer=rmsprop"], &["step", "square_avg"]),
            (
                &["--optimizer=rmsprop", "--momentum=0.9", "--centered=true"],
                &["step", "square_avg", "momentum_buffer", "grad_avg"],
            ),
        ] {
            let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
            let state = of(&net, &Settings::from_flags(flags).unwrap().optimizer).unwrap().state();
            let name = net.parameters().next().unwrap().0;
            let first: Vec<_> = state.iter().filter_map(|(key, _)| key.strip_suffix(&format!(".{name}"))).collect();
            assert_eq!(first, expected, "{flags:?}");
            assert_eq!(state.len(), expected.len() * net.parameters().count());
        }
    }

    #[test]
    fn weight_decay_leaves_batch_norm_alone_if_asked_to() {
        // With zeros as gradients the penalty alone acts.
        for (optimizer, factor) in [("sgd", 0.95), ("adamw", 0.95), ("soap", 0.95)] {
            for weight_decay_norm in [true, false] {
                let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
                let norm = format!("--weight-decay-norm={weight_decay_norm}");
                let optimizer = format!("--optimizer={optimizer}");
                let settings = Settings::from_flags([&optimizer, "--weight-decay=0.5", &norm]).unwrap();
                let mut optimizer = of(&net, &settings.optimizer).unwrap();
                let before: Vec<_> = net.parameters().map(|(_, tensor)| tensor.detach().copy()).collect();
                net.parameters().for_each(|(_, tensor)| (tensor * tensor.zeros_like()).sum(Kind::Float).backward());
                optimizer.step(0.1).unwrap();
                // BatchNorm's biases are 0 before and after.
                let weights = net.parameters().zip(before).filter(|((name, _), _)| !name.ends_with("bias"));
                for ((name, after), before) in weights {
                    let expected = if weight_decay_norm || after.dim() > 1 { before * factor } else { before };
                    let error = (after.detach() - expected).abs().max().double_value(&[]);
                    assert!(error < 1e-6, "{name}: {error}");
                }
            }
        }
    }
}
