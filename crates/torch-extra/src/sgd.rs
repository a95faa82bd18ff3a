//! `torch.optim.SGD`: one step over all parameters.

use super::check;
use super::parameters::{Parameter, RawParameter, raw};
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

/// What SGD keeps for a parameter, named as in `torch.optim`, and the number of its steps, which only dampening needs.
pub const STATE: [&str; 2] = ["momentum_buffer", "step"];

/// The arguments of `torch.optim.SGD` that all parameters share, except the learning rate: `tm_SgdOptions` of
/// `sgd.cpp`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// 0 for none.
    pub momentum: f64,
    pub dampening: f64,
    pub nesterov: bool,
}

unsafe extern "C" {
    fn tm_sgd_step(parameters: *const RawParameter<2>, count: i64, lr: f64, options: *const Options) -> *mut c_char;
    fn tm_sgd_static_step(
        parameters: *const RawParameter<2>,
        count: i64,
        lr: *const C_tensor,
        options: *const Options,
    ) -> *mut c_char;
}

/// `optimizer.step(); optimizer.zero_grad()`, bit for bit as PyTorch rounds.
pub fn step(parameters: &mut [Parameter<2>], lr: f64, options: &Options) -> Result<()> {
    let parameters = raw(parameters);
    // SAFETY: the array holds `count` structs of pointers to tensors that are borrowed mutably for the call; libtorch's
    // operations check that a gradient and a buffer fit their parameter.
    unsafe { check(tm_sgd_step(parameters.as_ptr(), parameters.len() as i64, lr, options)) }
}

/// The same with the learning rate in device memory, `lr` (a float32 scalar): nothing in the step comes from the host,
/// so that a CUDA graph of it follows a schedule.
pub fn static_step(parameters: &mut [Parameter<2>], lr: &Tensor, options: &Options) -> Result<()> {
    let parameters = raw(parameters);
    // SAFETY: as in `step`; `lr` outlives the call.
    unsafe { check(tm_sgd_static_step(parameters.as_ptr(), parameters.len() as i64, lr.as_ptr(), options)) }
}
