//! How precisely convolutions multiply, and whether twice the same.

use super::check;
use anyhow::Result;
use std::ffi::c_char;
use std::marker::PhantomData;
use tch::Device;

unsafe extern "C" {
    fn tm_tf32(allowed: bool) -> *mut c_char;
    fn tm_deterministic_cudnn() -> *mut c_char;
    fn tm_autocast_enter(cuda: bool) -> *mut c_char;
    fn tm_autocast_exit(cuda: bool) -> *mut c_char;
}

/// Whether cuDNN's convolutions in float32 may round what they multiply to TF32, 10 bits of mantissa. libtorch's own
/// default is that they may.
///
/// # Errors
///
/// None are known.
pub fn allow_tf32(allowed: bool) -> Result<()> {
    // SAFETY: sets a flag of libtorch's global context.
    unsafe { check(tm_tf32(allowed)) }
}

/// `torch.backends.cudnn.deterministic = True`: on a GPU the same step gives the same bits each time, without which a
/// resumed run would not be the one that was never stopped. libtorch's default takes faster kernels that add up
/// gradients in whatever order they arrive.
///
/// # Errors
///
/// None are known.
pub fn deterministic_cudnn() -> Result<()> {
    // SAFETY: sets a flag of libtorch's global context.
    unsafe { check(tm_deterministic_cudnn()) }
}

/// `torch.autocast(device, torch.bfloat16, cache_enabled=False)` on this thread, while it lives.
pub struct Autocast {
    cuda: bool,
    /// Autocast belongs to a thread: the guard must not leave it.
    _thread: PhantomData<*const ()>,
}

impl Autocast {
    /// Convolutions on `device` in bfloat16 from here on, losses and what else needs it in float32.
    ///
    /// # Errors
    ///
    /// None are known.
    pub fn bf16(device: Device) -> Result<Autocast> {
        let cuda = device.is_cuda();
        // SAFETY: sets flags of this thread.
        unsafe { check(tm_autocast_enter(cuda))? };
        Ok(Autocast { cuda, _thread: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: as `bf16`, which it undoes. It cannot fail but for want of memory, and then nothing is left to do.
        let _ = unsafe { check(tm_autocast_exit(self.cuda)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn autocast_is_on_as_long_as_its_guard_lives() {
        let ones = |size: [i64; 4]| Tensor::ones(size, (Kind::Float, Device::Cpu));
        let kind = || ones([1, 1, 3, 3]).conv2d::<Tensor>(&ones([1, 1, 3, 3]), None, 1, 0, 1, 1).kind();
        assert_eq!(kind(), Kind::Float);
        let guard = Autocast::bf16(Device::Cpu).unwrap();
        assert_eq!(kind(), Kind::BFloat16);
        drop(guard);
        assert_eq!(kind(), Kind::Float);
    }
}
