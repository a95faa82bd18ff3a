//! `torch.nn.utils.clip_grad_norm_`.

use crate::libtorch::foreach;
use anyhow::Result;
use tch::Tensor;

/// `clip_grad_norm_(parameters, max_norm)`; a `max_norm` of 0 changes no gradient. Adds the total norm before that to
/// `sum`, a float64 scalar on the parameters' device. Nothing is read by the host, so that a CUDA graph may hold it.
pub(super) fn clip_grad_norm<'a>(
    parameters: impl Iterator<Item = &'a Tensor>,
    max_norm: f64,
    sum: &mut Tensor,
) -> Result<()> {
    let grads: Vec<Tensor> = parameters.map(Tensor::grad).filter(Tensor::defined).collect();
    if grads.is_empty() {
        return Ok(());
    }
    // The operations of torch/nn/utils/clip_grad.py in their order, so that every bit is PyTorch's.
    let norms = Tensor::f_stack(&foreach::norm(&grads)?, 0)?;
    let total = norms.f_linalg_norm(2.0, None::<i64>, false, None)?;
    let _ = sum.f_add_(&total)?;
    if max_norm > 0.0 {
        // Python's max_norm / (norm + 1e-6)
        let clip_coef = total.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(max_norm)?;
        foreach::mul_(&grads, &clip_coef.f_clamp_max(1.0)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn gradients_are_scaled_down_to_the_norm_and_never_up() {
        for (max_norm, expected) in [(0.0, [3.0, 4.0]), (1.0, [0.6, 0.8]), (6.0, [3.0, 4.0])] {
            let parameters = [1, 2].map(|n| Tensor::ones([n], (Kind::Float, Device::Cpu)).set_requires_grad(true));
            // A parameter without a gradient is left alone.
            let without = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let mut sum = Tensor::from(10.0);
            (&parameters[0] * 3.0 + parameters[1].get(0) * 4.0).sum(Kind::Float).backward();
            clip_grad_norm(parameters.iter().chain([&without]), max_norm, &mut sum).unwrap();
            assert_eq!(f64::try_from(&sum).unwrap(), 15.0);
            for (parameter, expected) in parameters.iter().zip(expected) {
                assert!((parameter.grad().double_value(&[0]) - expected).abs() < 1e-6, "{max_norm}");
            }
            assert!(!without.grad().defined());
        }
    }
}
