//! `torch.optim.Adam` and `AdamW`: one step over all parameters.

use super::check;
use super::parameters::{Parameter, RawParameter, raw};
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

/// What Adam keeps for a parameter, named as in `torch.optim`; the last one only with amsgrad.
pub const STATE: [&str; 4] = ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

/// The arguments of `torch.optim.Adam` that all parameters share, except the learning rate: `tm_AdamOptions` of
/// `adam.cpp`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Whether it is AdamW.
    pub decoupled_weight_decay: bool,
}

unsafe extern "C" {
    fn tm_adam_step(parameters: *const RawParameter<4>, count: i64, lr: f64, options: *const Options) -> *mut c_char;
    fn tm_adam_static_step(
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
    unsafe { check(tm_adam_step(parameters.as_ptr(), parameters.len() as i64, lr, options)) }
}

/// The same on any device, with the learning rate in its memory, `lr` (a float32 scalar): nothing in the step comes
/// from the host, so that a CUDA graph of it follows a schedule.
pub fn static_step(parameters: &mut [Parameter<4>], lr: &Tensor, options: &Options) -> Result<()> {
    let parameters = raw(parameters);
    // SAFETY: the array holds `count` structs of pointers to tensors that are borrowed mutably for the call, and `lr`
    // outlives it; libtorch's operations check that they fit.
    unsafe { check(tm_adam_static_step(parameters.as_ptr(), parameters.len() as i64, lr.as_ptr(), options)) }
}
