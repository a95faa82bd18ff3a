//! Optimizers, those of `torch.optim` and SOAP: one file each, behind [`Optimizer`]. Each reads like PyTorch's text.

mod adam;
mod parameters;
mod rate;
mod rmsprop;
mod sgd;
mod shared;
mod soap;

pub(crate) use rate::Rate;
pub(crate) use shared::WeightDecay;

use crate::error::UsageError;
use crate::flags::{self, Choice, Entry, List, Named};
use crate::model::Net;
use anyhow::Result;
use std::fmt::Debug;
use std::sync::Arc;
use tch::Tensor;

/// Every optimizer. The first is the default.
const ALL: &[Entry<dyn Algorithm>] = &[
    entry::<sgd::SgdSettings>(),
    entry::<adam::AdamSettings>(),
    entry::<adam::AdamWSettings>(),
    entry::<rmsprop::RmsPropSettings>(),
    entry::<soap::SoapSettings>(),
];

/// The settings of an optimizer: what it is before it has a net.
pub(crate) trait Algorithm: Debug + Send + Sync {
    /// The optimizer over the parameters of `net`, before its first step.
    fn optimizer(&self, net: &Net, decay: &WeightDecay) -> Result<Box<dyn Optimizer>>;

    /// Refuses settings that exclude each other.
    fn check(&self) -> Result<(), UsageError> {
        Ok(())
    }
}

/// What changes a net's parameters once their gradients are known.
pub(crate) trait Optimizer {
    /// `step()`. Nothing in it waits for a GPU, and with [`Rate::Device`] nothing comes from the host, so that a CUDA graph
    /// may hold it; no tensor of [`Optimizer::state`] moves.
    fn step(&mut self, lr: &Rate) -> Result<()>;

    /// The interval, in steps, of [`Optimizer::after_steps`].
    fn after_steps_every(&self) -> i64 {
        i64::MAX
    }

    /// Periodic work that cannot be captured, run after step `steps` of the run.
    fn after_steps(&mut self, _steps: i64) -> Result<()> {
        Ok(())
    }

    /// Every tensor that a step changes beside the parameters, under its name in a checkpoint, such as
    /// `momentum_buffer.convblock1.0.weight`. The tensors share the optimizer's memory.
    fn state(&self) -> Vec<(String, Tensor)>;
}

impl List for dyn Algorithm {
    fn all() -> &'static [Entry<dyn Algorithm>] {
        ALL
    }
}

impl Choice for dyn Algorithm {
    const KEY: &'static str = "optimizer";
    const VALUE_NAME: &'static str = "NAME";
    const HELP: &'static str = "The optimizer; its settings start from its own defaults";
    const SHARED: &'static [&'static str] = &["lr", "weight_decay"];
}

const fn entry<K: Named + Algorithm>() -> Entry<dyn Algorithm> {
    Entry::of::<K>(|matches| {
        flags::read::<K>(matches).map(|(kind, table)| (Arc::new(kind) as Arc<dyn Algorithm>, table))
    })
}

#[cfg(test)]
mod tests {
    //! What holds for every optimizer, and what the tests of each one call.

    use super::*;
    use crate::model::{Architecture, Kernels};
    use crate::settings::Settings;
    use tch::{Device, Kind};

    /// The optimizer that `flags` ask for.
    pub(super) fn of(net: &Net, flags: &[impl AsRef<str>]) -> Box<dyn Optimizer> {
        Settings::from_flags(flags.iter().map(AsRef::as_ref)).unwrap().optimizer.over(net).unwrap()
    }

    /// Asserts by how much each of two steps lowers a weight whose gradient is 1, at the learning rate 1 and with an eps of 0.
    pub(super) fn assert_steps(flags: &[&str], steps: [f64; 2]) {
        for on_device in [false, true] {
            let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
            let mut optimizer = of(&net, flags);
            let weights = || net.parameters().map(|(_, tensor)| tensor.detach().copy()).collect::<Vec<_>>();
            for step in steps {
                let before = weights();
                net.parameters().for_each(|(_, tensor)| tensor.sum(Kind::Float).backward());
                let lr = if on_device { Rate::Device(Tensor::from(1f32)) } else { Rate::Host(1.0) };
                optimizer.step(&lr).unwrap();
                net.zero_grad().unwrap();
                for (before, after) in before.iter().zip(weights()) {
                    let error = (before - after - step).abs().max().double_value(&[]);
                    assert!(error < 1e-5, "{flags:?}: {error}");
                }
            }
        }
    }

    /// Asserts that the state of each parameter has these names, which are those of `torch.optim`.
    pub(super) fn assert_state(flags: &[&str], names: &[&str]) {
        let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
        let state = of(&net, flags).state();
        let name = net.parameters().next().unwrap().0;
        let first: Vec<_> = state.iter().filter_map(|(key, _)| key.strip_suffix(&format!(".{name}"))).collect();
        assert_eq!(first, names, "{flags:?}");
        assert_eq!(state.len(), names.len() * net.parameters().count());
    }

    #[test]
    fn every_optimizer_steps_alike_at_a_rate_in_device_memory() {
        for kind in <dyn Algorithm>::all().iter().map(|entry| entry.name) {
            let first = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
            let [one, other] = [Rate::Host(0.01), Rate::Device(Tensor::from(0.01f32))].map(|lr| {
                let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
                net.load_state_dict(&first.state_dict()).unwrap();
                let mut optimizer = of(&net, &[format!("--optimizer={kind}")]);
                for step in [1.0, 2.0, 3.0] {
                    for (_, tensor) in net.parameters() {
                        // As good as random, and not from the generator, which tests share.
                        let gradient = Tensor::arange(tensor.numel() as i64, (Kind::Float, Device::Cpu)) * (step + 0.3);
                        (tensor * gradient.sin().view_as(tensor)).sum(Kind::Float).backward();
                    }
                    optimizer.step(&lr).unwrap();
                    net.zero_grad().unwrap();
                }
                let state = optimizer.state().into_iter().map(|(_, tensor)| tensor);
                state.chain(net.parameters().map(|(_, tensor)| tensor.detach())).collect::<Vec<_>>()
            });
            for (one, other) in one.iter().zip(&other) {
                assert!(one.allclose(other, 1e-4, 1e-6, false), "{kind}");
            }
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
                let mut optimizer = of(&net, &[&optimizer[..], "--weight-decay=0.5", &norm]);
                let before: Vec<_> = net.parameters().map(|(_, tensor)| tensor.detach().copy()).collect();
                net.parameters().for_each(|(_, tensor)| (tensor * tensor.zeros_like()).sum(Kind::Float).backward());
                optimizer.step(&Rate::Host(0.1)).unwrap();
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
