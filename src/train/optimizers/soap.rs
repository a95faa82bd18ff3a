//! SOAP (Vyas et al., 2024, <https://arxiv.org/abs/2409.11321>): Adam in the eigenbases of Shampoo's preconditioner.
//!
//! The weight of a convolution is a matrix here, with a row per output channel. Where Adam scales each weight by its own
//! gradients, SOAP first turns the matrix so that the gradients of its entries are nearly uncorrelated; then that scaling
//! is close to Newton's. Parameters of one dimension get Adam. A side of a matrix that is too long to decompose is not
//! turned, as with `max_precond_dim` in the paper's code.

use super::parameters::{Parameters, zero, zeros_like};
use super::shared::{Averages, Eps};
use super::{Algorithm, Optimizer, Rate, WeightDecay};
use crate::flags::{Named, within};
use crate::libtorch::{foreach, matrices};
use crate::model::Net;
use anyhow::Result;
use serde::Serialize;
use std::borrow::Borrow;
use tch::{Kind, Tensor};

/// The longest side of a matrix that is turned: its eigenvectors take a quarter of a second on one core, and the
/// average and the basis 8 MB.
const LONGEST_SIDE: i64 = 1024;

/// SOAP: Adam in the eigenbases of Shampoo's preconditioner (Vyas et al., 2024)
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(super) struct SoapSettings {
    #[command(flatten)]
    #[serde(flatten)]
    averages: Averages,
    #[command(flatten)]
    #[serde(flatten)]
    eps: Eps,
    /// steps between two updates of the preconditioner's eigenbases
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 10, value_parser = within("a whole number of steps", 1i64..))]
    precondition_frequency: i64,
}

impl Named for SoapSettings {
    const NAME: &'static str = "soap";
    const DEFAULTS: &'static [(&'static str, &'static str)] =
        &[("lr", "0.003"), ("betas", "0.95,0.95"), ("weight_decay", "0.01")];
    const EXAMPLES: &'static [&'static str] = &[
        "--lr=0.01 --precondition-frequency=4",
        "--lr=0.01 --precondition-frequency=2 --betas=0.9,0.95 --eps=0.000001 --weight-decay-norm=false",
    ];
}

impl Algorithm for SoapSettings {
    fn optimizer(&self, net: &Net, decay: &WeightDecay) -> Result<Box<dyn Optimizer>> {
        Ok(Box::new(Soap::new(net, decay, self)?))
    }
}

/// SOAP over the parameters of a net; `scripts/soap.py` is the same in Python.
struct Soap {
    /// `left` and `right` are averages of G G^T and of G^T G, where G is the gradient as a matrix; the bases are
    /// orthogonal matrices near their eigenvectors, those of large eigenvalues first. `exp_avg_sq` is in the bases. A side
    /// that is not turned has neither.
    parameters: Parameters<6>,
    /// The number of steps, a float32 scalar.
    step: Tensor,
    betas: (f64, f64),
    eps: f64,
    precondition_frequency: i64,
}

/// What is kept for a parameter.
const STATE: [&str; 6] = ["exp_avg", "exp_avg_sq", "left", "right", "left_basis", "right_basis"];

impl Soap {
    fn new(net: &Net, decay: &WeightDecay, settings: &SoapSettings) -> Result<Soap> {
        let SoapSettings { averages: Averages { betas }, eps: Eps { eps }, precondition_frequency } = *settings;
        let parameters = Parameters::new(net, decay, STATE, |tensor| {
            let options = (Kind::Float, tensor.device());
            let rows = tensor.size()[0];
            let columns = tensor.numel() as i64 / rows;
            let is_turned = |side| tensor.dim() > 1 && side <= LONGEST_SIDE;
            let average =
                |side| if is_turned(side) { Tensor::f_zeros([side, side], options) } else { Ok(Tensor::new()) };
            let basis = |side| if is_turned(side) { Tensor::f_eye(side, options) } else { Ok(Tensor::new()) };
            let [zeros, squares] = [zeros_like(tensor, true)?, zeros_like(tensor, true)?];
            Ok([zeros, squares, average(rows)?, average(columns)?, basis(rows)?, basis(columns)?])
        })?;
        let step = zero(net.device())?;
        Ok(Soap { parameters, step, betas: (betas.0, betas.1), eps, precondition_frequency })
    }

    /// `1 - beta ** step`, a float32 scalar in device memory.
    fn bias_correction(&self, beta: f64) -> Result<Tensor> {
        Ok(Tensor::f_pow_scalar(beta, &self.step)?.f_rsub_scalar(1.0)?)
    }
}

/// Each as [`matrix`].
fn as_matrices<T: Borrow<Tensor>>(tensors: &[T]) -> Result<Vec<Tensor>> {
    tensors.iter().map(|tensor| matrix(tensor.borrow())).collect()
}

/// A weight as a matrix with a row per output channel.
fn matrix(tensor: &Tensor) -> Result<Tensor> {
    Ok(if tensor.dim() > 1 { tensor.f_flatten(1, -1)? } else { tensor.shallow_clone() })
}

/// Multiplies the matrices that have a basis with it: `pair` puts the two in order.
fn multiply(
    matrices: &mut [Tensor],
    bases: &[&Tensor],
    pair: impl Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>,
) -> Result<()> {
    let turned = || (0..bases.len()).filter(|&i| bases[i].defined());
    let pairs = turned().map(|i| pair(&matrices[i], bases[i])).collect::<Result<Vec<_>>>()?;
    let (lefts, rights): (Vec<Tensor>, Vec<Tensor>) = pairs.into_iter().unzip();
    turned().zip(matrices::mm(&lefts, &rights)?).for_each(|(i, product)| matrices[i] = product);
    Ok(())
}

/// `left.T @ matrix @ right`, without a side that is not turned.
fn into_bases(matrices: &[Tensor], lefts: &[&Tensor], rights: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut matrices: Vec<Tensor> = matrices.iter().map(Tensor::shallow_clone).collect();
    multiply(&mut matrices, lefts, |matrix, left| Ok((left.f_tr()?, matrix.shallow_clone())))?;
    multiply(&mut matrices, rights, |matrix, right| Ok((matrix.shallow_clone(), right.shallow_clone())))?;
    Ok(matrices)
}

/// `left @ matrix @ right.T`, without a side that is not turned.
fn out_of_bases(mut matrices: Vec<Tensor>, lefts: &[&Tensor], rights: &[&Tensor]) -> Result<Vec<Tensor>> {
    multiply(&mut matrices, lefts, |matrix, left| Ok((left.shallow_clone(), matrix.shallow_clone())))?;
    multiply(&mut matrices, rights, |matrix, right| Ok((matrix.shallow_clone(), right.f_tr()?)))?;
    Ok(matrices)
}

/// `average.lerp_(left @ right, weight)` for the gradients that have an average, where `pair` makes left and right.
fn average(
    averages: &[&Tensor],
    grads: &[Tensor],
    pair: impl Fn(&Tensor) -> Result<(Tensor, Tensor)>,
    weight: f64,
) -> Result<()> {
    let (averages, pairs): (Vec<&Tensor>, Vec<_>) =
        averages.iter().zip(grads).filter(|(average, _)| average.defined()).map(|(it, grad)| (*it, pair(grad))).unzip();
    let (lefts, rights): (Vec<Tensor>, Vec<Tensor>) =
        pairs.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
    foreach::lerp_(&averages, &matrices::mm(&lefts, &rights)?, weight)
}

impl Optimizer for Soap {
    fn step(&mut self, lr: &Rate) -> Result<()> {
        let (beta1, beta2) = self.betas;
        let _ = self.step.f_add_scalar_(1.0)?;
        let lr = lr.tensor(self.step.device())?;
        let rate = lr.f_div(&self.bias_correction(beta1)?)?;
        let bias_correction2_sqrt = self.bias_correction(beta2)?.f_sqrt()?;
        let lists = self.parameters.with_gradients();
        let [exp_avgs, exp_avg_sqs, lefts, rights, left_bases, right_bases] = &lists.state;
        let grads = as_matrices(&lists.grads)?;
        foreach::lerp_(exp_avgs, &lists.grads, 1.0 - beta1)?;
        let rotated = into_bases(&grads, left_bases, right_bases)?;
        let squares = as_matrices(exp_avg_sqs)?;
        foreach::mul_(&squares, beta2)?;
        foreach::addcmul_(&squares, &rotated, &rotated, 1.0 - beta2)?;
        let denominators = foreach::sqrt(&squares)?;
        foreach::div_(&denominators, &bias_correction2_sqrt)?;
        foreach::add_(&denominators, self.eps)?;
        let momentum = into_bases(&as_matrices(exp_avgs)?, left_bases, right_bases)?;
        let updates = out_of_bases(foreach::div(&momentum, &denominators)?, left_bases, right_bases)?;
        if self.parameters.weight_decay != 0.0 {
            let kept = lr.f_mul_scalar(self.parameters.weight_decay)?.f_rsub_scalar(1.0)?;
            foreach::mul_(&lists.decaying(), &kept)?;
        }
        let updates = foreach::mul(&updates, &rate)?;
        let updates = updates.iter().zip(&lists.params).map(|(update, param)| update.f_view_as(param));
        foreach::sub_(&lists.params, &updates.collect::<Result<Vec<_>, _>>()?)?;
        average(lefts, &grads, |grad| Ok((grad.shallow_clone(), grad.f_tr()?)), 1.0 - beta2)?;
        average(rights, &grads, |grad| Ok((grad.f_tr()?, grad.shallow_clone())), 1.0 - beta2)
    }

    fn after_steps_every(&self) -> i64 {
        self.precondition_frequency
    }

    /// The bases become the eigenvectors; later, one step of the power iteration brings them near. Decompositions wait
    /// for the device.
    fn after_steps(&mut self, steps: i64) -> Result<()> {
        for (dim, average, basis) in [(0, 2, 4), (1, 3, 5)] {
            let turned: Vec<_> = self.parameters.all.iter().filter(|it| it.state[average].defined()).collect();
            let averages: Vec<&Tensor> = turned.iter().map(|it| &it.state[average]).collect();
            let bases: Vec<&Tensor> = turned.iter().map(|it| &it.state[basis]).collect();
            if steps == self.precondition_frequency {
                for (basis, vectors) in bases.iter().zip(matrices::eigenvectors(&averages)?) {
                    basis.shallow_clone().f_copy_(&vectors.f_flip(1)?)?;
                }
                continue;
            }
            let products = matrices::mm(&averages, &bases)?;
            let order = |(basis, product): (&&Tensor, &Tensor)| {
                basis.f_mul(product)?.f_sum_dim_intlist(0, false, None)?.f_argsort(0, true)
            };
            let orders = bases.iter().zip(&products).map(order).collect::<Result<Vec<_>, _>>()?;
            let sorted = products.iter().zip(&orders).map(|(product, order)| product.f_index_select(1, order));
            let new_bases = matrices::orthogonalise(&sorted.collect::<Result<Vec<_>, _>>()?)?;
            for (((parameter, basis), new_basis), order) in turned.iter().zip(&bases).zip(&new_bases).zip(&orders) {
                basis.shallow_clone().f_copy_(new_basis)?;
                let mut squares = matrix(&parameter.state[1])?;
                let sorted = squares.f_index_select(dim, order)?;
                squares.f_copy_(&sorted)?;
            }
        }
        Ok(())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.parameters.state();
        state.push(("step".into(), self.step.shallow_clone()));
        state
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_steps;
    use super::*;
    use crate::model::{Architecture, Kernels};
    use crate::settings::Settings;
    use tch::Device;

    /// After as many steps with gradients of which some directions are larger, the state of convblock2.
    fn state_after(steps: i64) -> Vec<Tensor> {
        let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
        let settings = Settings::from_flags(["--optimizer=soap", "--precondition-frequency=4"]).unwrap();
        let mut soap = settings.optimizer.over(&net).unwrap();
        let (_, weight) = net.parameters().find(|(name, _)| *name == "convblock2.0.weight").unwrap();
        let scale = Tensor::arange(32, (Kind::Float, Device::Cpu)).exp2().sqrt().sqrt().view([32, 1, 1, 1]);
        for step in 1..=steps {
            // As good as random, and not from the generator, which tests share.
            let gradient = Tensor::arange(32 * 144, (Kind::Float, Device::Cpu)) * (step as f64 + 0.3);
            let gradient = gradient.sin().view([32, 16, 3, 3]) * &scale;
            (weight * gradient).sum(Kind::Float).backward();
            soap.step(&Rate::Host(0.01)).unwrap();
            net.zero_grad().unwrap();
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
    fn before_its_bases_turn_it_is_adam() {
        assert_steps(&["--optimizer=soap", "--eps=0", "--weight-decay=0"], [1.0, 1.0]);
    }

    #[test]
    fn between_two_turns_the_bases_stay() {
        let [before, after] = [4, 7].map(state_after);
        assert!(before[4].equal(&after[4]) && before[5].equal(&after[5]) && !before[2].equal(&after[2]));
    }
}
