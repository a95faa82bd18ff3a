//! `torch.optim.SGD`: one step over all parameters.

use super::check;
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

/// `tm_SgdParameter` of `sgd.cpp`.
#[repr(C)]
struct RawParameter {
    tensor: *mut C_tensor,
    momentum_buffer: *mut C_tensor,
    weight_decay: f64,
}

unsafe extern "C" {
    fn tm_sgd_step(parameters: *const RawParameter, count: i64, lr: f64, momentum: f64, nesterov: bool) -> *mut c_char;
    fn tm_sgd_static_step(
        parameters: *const RawParameter,
        count: i64,
        lr: *const C_tensor,
        momentum: f64,
        nesterov: bool,
    ) -> *mut c_char;
}

/// A parameter and what SGD keeps for it.
pub(crate) struct Parameter {
    /// Its key in the state_dict.
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
    /// Like the parameter, zeros before the first step; undefined without momentum.
    pub(crate) momentum_buffer: Tensor,
    /// The L2 penalty of its parameter group.
    pub(crate) weight_decay: f64,
}

/// The arguments of `torch.optim.SGD` that all parameters share, except the learning rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// 0 for none.
    pub(crate) momentum: f64,
    pub(crate) nesterov: bool,
}

/// `optimizer.step(); optimizer.zero_grad()`, bit for bit as PyTorch rounds.
pub(crate) fn step(parameters: &mut [Parameter], lr: f64, Options { momentum, nesterov }: Options) -> Result<()> {
    let parameters = raw(parameters);
    // SAFETY: the array holds `count` pairs of pointers to tensors that are borrowed mutably for the call; the C++ side
    // checks that a gradient and a buffer fit their parameter.
    unsafe { check(tm_sgd_step(parameters.as_ptr(), parameters.len() as i64, lr, momentum, nesterov)) }
}

/// The same with the learning rate in device memory, `lr` (a float32 scalar): nothing in the step comes from the host, so
/// that a CUDA graph of it follows a schedule.
pub(crate) fn static_step(
    parameters: &mut [Parameter],
    lr: &Tensor,
    Options { momentum, nesterov }: Options,
) -> Result<()> {
    let parameters = raw(parameters);
    // SAFETY: as in `step`; `lr` outlives the call.
    unsafe { check(tm_sgd_static_step(parameters.as_ptr(), parameters.len() as i64, lr.as_ptr(), momentum, nesterov)) }
}

fn raw(parameters: &mut [Parameter]) -> Vec<RawParameter> {
    let raw = |parameter: &mut Parameter| RawParameter {
        tensor: parameter.tensor.as_mut_ptr(),
        momentum_buffer: parameter.momentum_buffer.as_mut_ptr(),
        weight_decay: parameter.weight_decay,
    };
    parameters.iter_mut().map(raw).collect()
}
