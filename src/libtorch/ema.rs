//! An exponential moving average, one step over all its tensors.

use super::check;
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_ema_update(
        averages: *mut *mut C_tensor,
        tensors: *mut *mut C_tensor,
        count: i64,
        weight: *const C_tensor,
    ) -> *mut c_char;
}

/// `average += weight * (tensor - average)` for each pair of float32 tensors; `weight` is a float32 scalar on their
/// device.
pub(crate) fn update(averages: &mut [Tensor], tensors: &mut [Tensor], weight: &Tensor) -> Result<()> {
    assert_eq!(averages.len(), tensors.len());
    let mut averages: Vec<_> = averages.iter_mut().map(Tensor::as_mut_ptr).collect();
    let mut tensors: Vec<_> = tensors.iter_mut().map(Tensor::as_mut_ptr).collect();
    // SAFETY: both arrays hold `count` pointers to tensors that are borrowed mutably for the call; `weight` outlives
    // it.
    unsafe { check(tm_ema_update(averages.as_mut_ptr(), tensors.as_mut_ptr(), averages.len() as i64, weight.as_ptr())) }
}
