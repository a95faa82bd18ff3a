//! The few libtorch calls that tch lacks: one small C++ file a topic, one safe Rust wrapper each.
//!
//! This is the only module with `unsafe`. Every C function takes tensors as tch passes them (a pointer to an
//! `at::Tensor`), catches every C++ exception and returns its text, or null when all went well.

pub mod about;
pub mod allocator;
pub mod cuda;
pub mod ema;
pub mod fused;
pub mod generator;
pub mod graph;
pub mod jit;
pub mod precision;
pub mod sgd;

use anyhow::{Result, anyhow};
use std::ffi::{CStr, c_char};
use tch::Tensor;
use torch_sys::C_tensor;

/// Turns what a C function of this module returned into a `Result`.
///
/// # Safety
///
/// `error` is null or a string from `strdup` that nothing else frees: what `guarded` in `common.h` returns.
unsafe fn check(error: *mut c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so by the contract above a NUL-terminated string that is ours to free.
    let message = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    unsafe { libc::free(error.cast()) };
    Err(anyhow!(first_line(&message).to_string()))
}

/// libtorch appends a C++ back trace to its messages; the first line is the message.
pub fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// Runs `body`; a panic in it becomes an error.
///
/// tch's layers panic when libtorch throws, as when a GPU has too little memory: the panic's text is libtorch's.
///
/// # Errors
///
/// What `body` returns, or the text of its panic.
pub fn without_panic<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text");
        // `called `Result::unwrap()` on an `Err` value: Torch("what libtorch says\nand a back trace")`
        let text = text.split_once("Torch(\"").map_or(text, |(_, text)| text);
        Err(anyhow!("{}", text.split("\\n").next().unwrap_or(text)))
    })
}

/// Calls a C function that hands back one new tensor.
///
/// # Safety
///
/// `call` follows the contract of [`check`] and, when it returns null, stores an `at::Tensor*` made with `new`.
unsafe fn new_tensor(call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: by the contract above; `from_ptr` takes over the tensor, which its Drop deletes.
    unsafe {
        check(call(&mut out))?;
        Ok(Tensor::from_ptr(out))
    }
}

/// The folder of the libtorch that the program was linked against.
pub const LIBTORCH_LIB: &str = env!("TCH_MNIST_LIBTORCH_LIB");
