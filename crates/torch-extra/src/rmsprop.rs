//! `torch.optim.RMSprop`: one step over all parameters.

use super::check;
use super::parameters::{Parameter, RawParameter, raw};
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

/// What RMSprop keeps for a parameter, named as in `torch.optim`; `momentum_buffer` only with momentum, `grad_avg` if
/// centered.
pub const STATE: [&str; 4] = ["step", "square_avg", "momentum_buffer", "grad_avg"];

/// The arguments of `torch.optim.RMSprop` that all parameters share, except the learning rate: `tm_RmspropOptions` of
/// `rmsprop.cpp`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub alpha: f64,
    pub eps: f64,
    /// 0 for none.
    pub momentum: f64,
}

unsafe extern "C" {
    fn tm_rmsprop_step(parameters: *const RawParameter<4>, count: i64, lr: f64, options: *const Options)
    -> *mut c_char;
    fn tm_rmsprop_static_step(
        parameters: *const RawParameter<4>,
        count: i64,
        lr: *const C_tensor,
        options: *const Options,
    ) -> *mut c_char;
}

/// `optimizer.step(); optimizer.zero_grad()` on a CPU, bit for bit as PyTorch rounds.
pub fn step(parameters: &mut [Parameter<4>], lr: f64, options: &Options) -> Result<()> {
    let parameters = raw(parameters);
    // SAFETY: the array holds `count` structs of pointers to tensors that are borrowed mutably for the call. C++ checks
    // that `step`, to which it writes, is a float32 scalar on the CPU; libtorch's operations check that the other
    // tensors fit.
    unsafe { check(tm_rmsprop_step(parameters.as_ptr(), parameters.len() as i64, lr, options)) }
}

/// The same on any device, with the learning rate in its memory, `lr` (a float32 scalar): nothing in the step comes
/// from the host, so that a CUDA graph of it follows a schedule.
pub fn static_step(parameters: &mut [Parameter<4>], lr: &Tensor, options: &Options) -> Result<()> {
    let parameters = raw(parameters);
    // SAFETY: the array holds `count` structs of pointers to tensors that are borrowed mutably for the call, and `lr`
    // outlives it; libtorch's operations check that they fit.
    unsafe { check(tm_rmsprop_static_step(parameters.as_ptr(), parameters.len() as i64, lr.as_ptr(), options)) }
}
