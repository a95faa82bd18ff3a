//! The gradient by libtorch's autograd: the forward pass as one would write it in PyTorch, in float64 on the CPU.

use anyhow::{Context, Result};
use backprop::Problem;
use tch::{Kind, Tensor};

/// dE_dw1 to dE_dw8 at every set of `weights`, for the inputs and targets of `problem`.
///
/// All sets go through one batched forward and backward pass. They share no weights, so the gradient of the summed
/// error is each set's own gradient.
pub(super) fn gradients(problem: &Problem, weights: &[[f64; 8]]) -> Result<Vec<[f64; 8]>> {
    let gradient = sum_backward(problem, weights).context("libtorch's autograd failed on the 2-2-2 network")?;
    Ok(gradient.as_chunks::<8>().0.to_vec())
}

/// The gradient of the summed error, flat: 8 numbers per set of weights.
fn sum_backward(problem: &Problem, weights: &[[f64; 8]]) -> Result<Vec<f64>> {
    let inputs = Tensor::f_from_slice(&problem.inputs)?.f_view([2, 1])?;
    let targets = Tensor::f_from_slice(&problem.targets)?.f_view([2, 1])?;
    // [N, layer, to, from]: w1 w2 lead to h1, w3 w4 to h2, w5 w6 to o1, w7 w8 to o2.
    let weights = Tensor::f_from_slice(weights.as_flattened())?.f_view([-1, 2, 2, 2])?.f_set_requires_grad(true)?;

    let a_h = weights.f_select(1, 0)?.f_matmul(&inputs)?.f_sigmoid()?;
    let a_o = weights.f_select(1, 1)?.f_matmul(&a_h)?.f_sigmoid()?;
    let e_total = (targets.f_sub(&a_o)?.f_square()? * 0.5).f_sum(Kind::Double)?;
    e_total.f_backward()?;

    Ok(Vec::try_from(weights.f_grad()?.f_flatten(0, -1)?)?)
}
