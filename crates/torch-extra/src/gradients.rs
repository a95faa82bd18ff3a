//! The gradients of parameters, which tch can only zero.

use super::{check, pointers};
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_clear_gradients(parameters: *const *const C_tensor, count: i64) -> *mut c_char;
}

/// `optimizer.zero_grad(set_to_none=True)`: afterwards the parameters have no gradients, and their memory is free.
pub fn clear<'a>(parameters: impl Iterator<Item = &'a Tensor>) -> Result<()> {
    let parameters = pointers(parameters);
    // SAFETY: the array holds `count` pointers to tensors that are borrowed for the call. Their gradients change, which
    // tch counts as interior mutability, as it does for `Tensor::zero_grad` on a shallow clone.
    unsafe { check(tm_clear_gradients(parameters.as_ptr(), parameters.len() as i64)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn cleared_gradients_are_gone_and_come_anew() {
        let parameter = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        for _ in 0..2 {
            assert!(!parameter.grad().defined());
            (&parameter * 3.0).sum(Kind::Float).backward();
            assert_eq!(parameter.grad().double_value(&[1]), 3.0);
            clear([&parameter].into_iter()).unwrap();
        }
    }
}
