//! An exponential moving average, one step over all its tensors.

use super::{check, pointers};
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_ema_update(
        averages: *const *const C_tensor,
        tensors: *const *const C_tensor,
        count: i64,
        weight: *const C_tensor,
    ) -> *mut c_char;
}

/// `average += weight * (tensor - average)` for each pair of float32 tensors; of others, which are counts, the average
/// becomes a copy. `weight` is a float32 scalar on their device.
pub fn update(averages: &[Tensor], tensors: &[Tensor], weight: &Tensor) -> Result<()> {
    assert_eq!(averages.len(), tensors.len());
    let (averages, tensors) = (pointers(averages), pointers(tensors));
    // SAFETY: both arrays hold `count` pointers to tensors that are borrowed for the call; `weight` outlives it. C++
    // checks that a pair is alike. The averages change, which tch counts as interior mutability, as it does for an
    // operation in place on a shallow clone.
    unsafe { check(tm_ema_update(averages.as_ptr(), tensors.as_ptr(), averages.len() as i64, weight.as_ptr())) }
}
