//! Which libtorch is loaded: asked of the library itself, not of the headers that the program was built against.

use super::{check, tm_free_text};
use anyhow::Result;
use std::ffi::{CStr, c_char};
use std::path::PathBuf;

unsafe extern "C" {
    fn tm_version(version: *mut u64) -> *mut c_char;
    fn tm_library(path: *mut *mut c_char) -> *mut c_char;
    fn tm_cpu_capability(name: *mut *mut c_char) -> *mut c_char;
}

/// The version of the loaded libtorch, such as `2.11.0`.
pub fn version() -> Result<String> {
    let mut version = 0;
    // SAFETY: `tm_version` only writes the number.
    unsafe { check(tm_version(&mut version))? };
    let [major, minor, patch, ..] = version.to_be_bytes();
    Ok(format!("{major}.{minor}.{patch}"))
}

/// The path of the loaded libtorch_cpu.
pub fn library() -> Result<PathBuf> {
    // SAFETY: `tm_library` stores a text for `tm_free_text` when it returns null.
    unsafe { string(|out| tm_library(out)) }.map(PathBuf::from)
}

/// The vector instructions that libtorch's CPU kernels use on this machine: `DEFAULT`, `AVX2`, `AVX512`, ...
pub fn cpu_capability() -> Result<String> {
    // SAFETY: `tm_cpu_capability` stores a text for `tm_free_text` when it returns null.
    unsafe { string(|out| tm_cpu_capability(out)) }
}

/// Calls a C function that returns one string.
///
/// # Safety
///
/// `call` follows the contract of [`check`] and, if it returns null, stores a text for `tm_free_text`.
unsafe fn string(call: impl FnOnce(*mut *mut c_char) -> *mut c_char) -> Result<String> {
    let mut out = std::ptr::null_mut();
    // SAFETY: by the contract above; the string is freed once, after it was copied.
    unsafe {
        check(call(&mut out))?;
        let text = CStr::from_ptr(out).to_string_lossy().into_owned();
        tm_free_text(out);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_loaded_libtorch_is_the_one_linked_against() {
        assert_eq!(super::version().unwrap(), crate::LIBTORCH_VERSION);
        let library = super::library().unwrap().canonicalize().unwrap();
        let linked = std::path::Path::new(crate::LIBTORCH_LIB).canonicalize().unwrap();
        assert_eq!(library.parent().unwrap(), linked);
    }
}
