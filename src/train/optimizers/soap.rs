//! SOAP (Vyas et al., 2024, <https://arxiv.org/abs/2409.11321>): Adam in the eigenbases of Shampoo's preconditioner.
//!
//! The weight of a convolution is a matrix here, with a row per output channel. Where Adam scales each weight by its own
//! gradients, SOAP first turns the matrix so that the gradients of its entries are nearly uncorrelated; then that scaling
//! is close to Newton's. Parameters of one dimension get Adam. A side of a matrix that is too long to decompose is not
//! turned, as with `max_precond_dim` in the paper's code.

use super::{Optimizer, named, parameters, scalar, zeros_like};
use crate::libtorch::parameters::Parameter;
use crate::libtorch::soap::{self, Options, STATE};
use crate::model::Net;
use crate::settings::OptimizerSettings;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// The longest side of a matrix that is turned: its eigenvectors take a quarter of a second on one core, and the
/// average and the basis 8 MB.
const LONGEST_SIDE: i64 = 1024;

/// SOAP.
pub(super) struct Soap {
    parameters: Vec<Parameter<6>>,
    /// The number of steps, a float32 scalar.
    step: Tensor,
    options: Options,
    precondition_frequency: i64,
}

impl Soap {
    pub(super) fn new(net: &Net, settings: &OptimizerSettings) -> Result<Soap> {
        let OptimizerSettings { betas, eps, precondition_frequency, .. } = *settings;
        let state = |tensor: &Tensor| {
            let options = (Kind::Float, tensor.device());
            let rows = tensor.size()[0];
            let columns = tensor.numel() as i64 / rows;
            let is_turned = |side| tensor.dim() > 1 && side <= LONGEST_SIDE;
            let average =
                |side| if is_turned(side) { Tensor::f_zeros([side, side], options) } else { Ok(Tensor::new()) };
            let basis = |side| if is_turned(side) { Tensor::f_eye(side, options) } else { Ok(Tensor::new()) };
            let [zeros, squares] = [zeros_like(tensor, true)?, zeros_like(tensor, true)?];
            Ok([zeros, squares, average(rows)?, average(columns)?, basis(rows)?, basis(columns)?])
        };
        Ok(Soap {
            parameters: parameters(net, settings, state)?,
            step: scalar(0.0, net.device())?,
            options: Options { beta1: betas.0, beta2: betas.1, eps },
            precondition_frequency,
        })
    }

    fn device(&self) -> Device {
        self.step.device()
    }
}

impl Optimizer for Soap {
    fn step(&mut self, lr: f64) -> Result<()> {
        let lr = scalar(lr, self.device())?;
        self.static_step(&lr)
    }

    fn static_step(&mut self, lr: &Tensor) -> Result<()> {
        soap::step(&mut self.parameters, &mut self.step, lr, &self.options)
    }

    fn after_steps_every(&self) -> i64 {
        self.precondition_frequency
    }

    fn after_steps(&mut self, steps: i64) -> Result<()> {
        soap::refresh(&mut self.parameters, steps == self.precondition_frequency)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = named(&self.parameters, STATE);
        state.push(("step".into(), self.step.shallow_clone()));
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Kernels};
    use crate::settings::Settings;

    /// After as many steps with gradients of which some directions are larger, the state of convblock2.
    fn state_after(steps: i64) -> Vec<Tensor> {
        let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
        let settings = Settings::from_flags(["--optimizer=soap", "--precondition-frequency=4"]).unwrap();
        let mut soap = Soap::new(&net, &settings.optimizer).unwrap();
        let (_, weight) = net.parameters().find(|(name, _)| *name == "convblock2.0.weight").unwrap();
        let scale = Tensor::arange(32, (Kind::Float, Device::Cpu)).exp2().sqrt().sqrt().view([32, 1, 1, 1]);
        for step in 1..=steps {
            // As good as random, and not from the generator, which tests share.
            let gradient = Tensor::arange(32 * 144, (Kind::Float, Device::Cpu)) * (step as f64 + 0.3);
            let gradient = gradient.sin().view([32, 16, 3, 3]) * &scale;
            (weight * gradient).sum(Kind::Float).backward();
            soap.step(0.01).unwrap();
            if step % soap.after_steps_every() == 0 {
                soap.after_steps(step).unwrap();
            }
        }
        STATE
            .map(|name| {
                soap.state().into_iter().find(|(key, _)| *key == format!("{name}.convblock2.0.weight")).unwrap().1
            })
            .into()
    }

    #[test]
    fn the_bases_are_the_eigenvectors_of_the_averages_and_follow_them() {
        // After the first time they are exact; later they are near.
        for (steps, tolerance) in [(4, 1e-4), (40, 0.2)] {
            let state = state_after(steps);
            for (average, basis) in [(&state[2], &state[4]), (&state[3], &state[5])] {
                let unit = basis.tr().matmul(basis) - Tensor::eye(basis.size()[0], (Kind::Float, Device::Cpu));
                assert!(unit.abs().max().double_value(&[]) < 1e-4);
                let turned = basis.tr().matmul(average).matmul(basis);
                let eigenvalues = turned.diagonal(0, 0, 1);
                let off = (&turned - eigenvalues.diag_embed(0, 0, 1)).abs().max() / eigenvalues.max();
                assert!(off.double_value(&[]) < tolerance, "{off} after {steps} steps");
            }
        }
    }

    #[test]
    fn between_two_turns_the_bases_stay() {
        let [before, after] = [4, 7].map(state_after);
        assert!(before[4].equal(&after[4]) && before[5].equal(&after[5]) && !before[2].equal(&after[2]));
    }
}
