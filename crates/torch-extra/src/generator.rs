//! Random generators: a permutation from a new generator, and the state of the default ones.

use super::{check, new_tensor};
use anyhow::Result;
use std::ffi::{c_char, c_int};
use tch::{Device, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_randperm(n: i64, seed: u64, out: *mut *mut C_tensor) -> *mut c_char;
    fn tm_rng_state(cuda_device: c_int, out: *mut *mut C_tensor) -> *mut c_char;
    fn tm_set_rng_state(cuda_device: c_int, state: *const C_tensor) -> *mut c_char;
}

/// `torch.randperm(n, generator=torch.Generator().manual_seed(seed))`: int64 [n] on the CPU.
pub fn randperm(n: i64, seed: u64) -> Result<Tensor> {
    // SAFETY: `tm_randperm` stores a tensor made with `new` when it returns null.
    unsafe { new_tensor(|out| tm_randperm(n, seed, out)) }
}

/// The state of the device's default generator, as `torch.get_rng_state` and `torch.cuda.get_rng_state` return it.
pub fn state(device: Device) -> Result<Tensor> {
    // SAFETY: `tm_rng_state` stores a tensor made with `new` when it returns null.
    unsafe { new_tensor(|out| tm_rng_state(index(device), out)) }
}

/// Sets what [`state`] returned, as `torch.set_rng_state` does.
pub fn set_state(device: Device, state: &Tensor) -> Result<()> {
    // SAFETY: `state` outlives the call, which only reads it.
    unsafe { check(tm_set_rng_state(index(device), state.as_ptr())) }
}

/// The C side's number for a device: -1 for the CPU, else the CUDA index.
fn index(device: Device) -> c_int {
    match device {
        Device::Cuda(index) => index as c_int,
        _ => -1,
    }
}
