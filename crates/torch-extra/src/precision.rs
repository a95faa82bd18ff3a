//! How precisely convolutions multiply, and whether they are deterministic.

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

/// Whether cuDNN's float32 convolutions may round their inputs to TF32 (10 bits of mantissa). libtorch's own default is
/// true.
pub fn allow_tf32(allowed: bool) -> Result<()> {
    // SAFETY: sets a flag of libtorch's global context.
    unsafe { check(tm_tf32(allowed)) }
}

/// `torch.backends.cudnn.deterministic = True`: on a GPU the same step gives the same bits each time, so that a resumed
/// run equals one that was never stopped. libtorch's default allows faster kernels that add gradients in any order.
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
    /// From here on convolutions on `device` compute in bfloat16, and operations that need it, such as losses, in
    /// float32.
    pub fn bf16(device: Device) -> Result<Autocast> {
        let cuda = device.is_cuda();
        // SAFETY: sets flags of this thread.
        unsafe { check(tm_autocast_enter(cuda))? };
        Ok(Autocast { cuda, _thread: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: undoes what `bf16` did, on the same thread. It fails only if memory runs out, and then nothing can be
        // done.
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
