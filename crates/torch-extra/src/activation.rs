//! Activations whose arguments tch leaves out.

use super::new_tensor;
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_leaky_relu(x: *const C_tensor, negative_slope: f64, out: *mut *mut C_tensor) -> *mut c_char;
}

/// `F.leaky_relu(x, negative_slope)`.
pub fn leaky_relu(x: &Tensor, negative_slope: f64) -> Result<Tensor> {
    // SAFETY: `x` outlives the call; it stores a tensor made with `new` when it returns null.
    unsafe { new_tensor(|out| tm_leaky_relu(x.as_ptr(), negative_slope, out)) }
}
