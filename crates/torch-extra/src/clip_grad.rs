//! `torch.nn.utils.clip_grad_norm_`.

use super::{check, pointers};
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_clip_grad_norm(
        parameters: *const *const C_tensor,
        count: i64,
        max_norm: f64,
        sum: *const C_tensor,
    ) -> *mut c_char;
}

/// `clip_grad_norm_(parameters, max_norm)`; a `max_norm` of 0 changes no gradient. Adds the total norm before that to
/// `sum`, a float64 scalar on the parameters' device.
pub fn clip_grad_norm<'a>(parameters: impl Iterator<Item = &'a Tensor>, max_norm: f64, sum: &mut Tensor) -> Result<()> {
    let parameters = pointers(parameters);
    // SAFETY: the array holds `count` pointers to tensors that are borrowed for the call. Their gradients change, which
    // tch counts as interior mutability, as it does for `Tensor::zero_grad` on a shallow clone. `sum` is borrowed
    // mutably.
    unsafe { check(tm_clip_grad_norm(parameters.as_ptr(), parameters.len() as i64, max_norm, sum.as_ptr())) }
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
