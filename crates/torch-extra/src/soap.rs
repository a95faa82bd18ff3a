//! SOAP (Vyas et al., 2024): one step over all parameters, and the eigenbases that it works in.

use super::check;
use super::parameters::{Parameter, RawParameter, raw};
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

/// What SOAP keeps for a parameter; the last four only for a side of a matrix that is turned.
pub const STATE: [&str; 6] = ["exp_avg", "exp_avg_sq", "left", "right", "left_basis", "right_basis"];

/// The arguments that all parameters share, except the learning rate: `tm_SoapOptions` of `soap.cpp`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
}

unsafe extern "C" {
    fn tm_soap_step(
        parameters: *const RawParameter<6>,
        count: i64,
        step: *mut C_tensor,
        lr: *const C_tensor,
        options: *const Options,
    ) -> *mut c_char;
    fn tm_soap_refresh(parameters: *const RawParameter<6>, count: i64, first: bool) -> *mut c_char;
}

/// `optimizer.step(); optimizer.zero_grad()` on any device. `step` counts the steps and `lr` is the learning rate, both
/// float32 scalars in its memory: nothing in the step comes from the host.
pub fn step(parameters: &mut [Parameter<6>], step: &mut Tensor, lr: &Tensor, options: &Options) -> Result<()> {
    let parameters = raw(parameters);
    // SAFETY: the array holds `count` structs of pointers to tensors that are borrowed mutably for the call, and `step`
    // and `lr` outlive it; libtorch's operations check that they fit.
    unsafe {
        check(tm_soap_step(parameters.as_ptr(), parameters.len() as i64, step.as_mut_ptr(), lr.as_ptr(), options))
    }
}

/// Lets the eigenbases follow the averages. The `first` time they begin as identities.
pub fn refresh(parameters: &mut [Parameter<6>], first: bool) -> Result<()> {
    let parameters = raw(parameters);
    // SAFETY: as in `step`.
    unsafe { check(tm_soap_refresh(parameters.as_ptr(), parameters.len() as i64, first)) }
}
