#![doc = include_str!("../README.md")]
#![deny(unreachable_pub)]

// Every C function takes tensors as tch passes them (a pointer to an `at::Tensor`), catches every C++ exception, and
// returns its text, or null on success.

pub mod about;
pub mod activation;
pub mod allocator;
mod aten;
pub mod counts;
pub mod cuda;
pub mod foreach;
pub mod fused;
pub mod generator;
pub mod gradients;
pub mod graph;
pub mod jit;
pub mod matrices;
pub mod memory;
pub mod pieces;
pub mod pixels;
pub mod precision;
pub mod profiler;
pub mod transfer;

use anyhow::{Result, anyhow};
use std::ffi::{CStr, c_char};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_free_text(text: *mut c_char);
}

/// The return value of a C function as a `Result`.
///
/// # Safety
///
/// `error` is null or a text that nothing else frees: what `guarded` in `common.h` returns.
unsafe fn check(error: *mut c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so by the contract above a NUL-terminated string that is ours to free.
    let message = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    unsafe { tm_free_text(error) };
    // Behind its first line, libtorch lists C++ frames.
    Err(anyhow!(message.lines().next().unwrap_or_default().to_string()))
}

/// Calls a C function that returns one new tensor.
///
/// # Safety
///
/// `call` follows the contract of [`check`] and, if it returns null, stores an `at::Tensor*` made with `new`.
unsafe fn new_tensor(call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: by the contract above; `from_ptr` takes over the tensor, which its Drop deletes.
    unsafe {
        check(call(&mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// Tensors as the C functions take them. They have to stay alive as long as the pointers are used.
fn pointers<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<*const C_tensor> {
    tensors.into_iter().map(Tensor::as_ptr).collect()
}

/// The folder of the libtorch that the program was linked against.
pub const LIBTORCH_LIB: &str = env!("TORCH_EXTRA_LIBTORCH_LIB");

/// The version of that libtorch: the only one that tch works with.
pub const LIBTORCH_VERSION: &str = env!("TORCH_EXTRA_LIBTORCH_VERSION");
