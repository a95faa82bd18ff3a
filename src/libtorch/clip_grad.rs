//! `torch.nn.utils.clip_grad_norm_`.

use super::check;
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

/// `clip_grad_norm_(parameters, max_norm)`; a `max_norm` of 0 changes no gradient. Adds the total norm before that to `sum`, a
/// float64 scalar on the parameters' device.
pub(crate) fn clip_grad_norm<'a>(
    parameters: impl Iterator<Item = &'a Tensor>,
    max_norm: f64,
    sum: &mut Tensor,
) -> Result<()> {
    let parameters: Vec<_> = parameters.map(Tensor::as_ptr).collect();
    // SAFETY: the array holds `count` pointers to tensors that are borrowed for the call. Their gradients change, which tch counts
    // as interior mutability, as it does for `Tensor::zero_grad` on a shallow clone. `sum` is borrowed mutably.
    unsafe { check(tm_clip_grad_norm(parameters.as_ptr(), parameters.len() as i64, max_norm, sum.as_ptr())) }
}
