//! `torch.optim.SGD`, one step over all parameters.

use super::check;
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_sgd_step(
        parameters: *mut *mut C_tensor,
        buffers: *mut *mut C_tensor,
        count: i64,
        lr: f64,
        momentum: f64,
        weight_decays: *const f64,
        nesterov: bool,
    ) -> *mut c_char;
    fn tm_sgd_static_step(
        parameters: *mut *mut C_tensor,
        buffers: *mut *mut C_tensor,
        count: i64,
        lr: *const C_tensor,
        momentum: f64,
        weight_decays: *const f64,
        nesterov: bool,
    ) -> *mut c_char;
}

/// What `torch.optim.SGD` takes for all parameters alike, but for the learning rate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// 0 for none.
    pub momentum: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
}

/// `optimizer.step(); optimizer.zero_grad()`, bit for bit as PyTorch rounds.
///
/// `buffers` are the momentum buffers, one a parameter; an undefined one is filled the first time. `weight_decays` are
/// the L2 penalties, one a parameter: what a parameter group has in PyTorch.
///
/// # Errors
///
/// When libtorch fails, as for want of memory.
pub fn step(
    parameters: &mut [Tensor],
    buffers: &mut [Tensor],
    weight_decays: &[f64],
    lr: f64,
    options: Options,
) -> Result<()> {
    assert!(parameters.len() == buffers.len() && parameters.len() == weight_decays.len());
    let mut parameters: Vec<_> = parameters.iter_mut().map(Tensor::as_mut_ptr).collect();
    let mut buffers: Vec<_> = buffers.iter_mut().map(Tensor::as_mut_ptr).collect();
    // SAFETY: two arrays hold `count` pointers to tensors that are borrowed mutably for the call, the third `count`
    // numbers.
    unsafe {
        check(tm_sgd_step(
            parameters.as_mut_ptr(),
            buffers.as_mut_ptr(),
            parameters.len() as i64,
            lr,
            options.momentum,
            weight_decays.as_ptr(),
            options.nesterov,
        ))
    }
}

/// The same with the learning rate in device memory, `lr` (a float32 scalar): nothing of the step comes from the host,
/// so a CUDA graph of it follows a schedule. With momentum, `buffers` are there from the start, as zeros.
///
/// # Errors
///
/// When libtorch fails, as for want of memory or of a buffer.
pub fn static_step(
    parameters: &mut [Tensor],
    buffers: &mut [Tensor],
    weight_decays: &[f64],
    lr: &Tensor,
    options: Options,
) -> Result<()> {
    assert!(parameters.len() == buffers.len() && parameters.len() == weight_decays.len());
    let mut parameters: Vec<_> = parameters.iter_mut().map(Tensor::as_mut_ptr).collect();
    let mut buffers: Vec<_> = buffers.iter_mut().map(Tensor::as_mut_ptr).collect();
    // SAFETY: two arrays hold `count` pointers to tensors that are borrowed mutably for the call, the third `count`
    // numbers; `lr` outlives it.
    unsafe {
        check(tm_sgd_static_step(
            parameters.as_mut_ptr(),
            buffers.as_mut_ptr(),
            parameters.len() as i64,
            lr.as_ptr(),
            options.momentum,
            weight_decays.as_ptr(),
            options.nesterov,
        ))
    }
}
