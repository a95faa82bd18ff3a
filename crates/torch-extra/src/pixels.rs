//! The pixels of a batch on a CPU, read once: libtorch's operations make a number of eight bytes of each byte first.

use crate::check;
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_look_up(
        table: *const C_tensor,
        images: *const C_tensor,
        indices: *const C_tensor,
        out: *const C_tensor,
    ) -> *mut c_char;
}

/// Stores `table[images[indices]]` in `out`: float32 \[256\], uint8 \[N, ...\], int64 \[B\] and float32 \[B, ...\], all
/// contiguous and on the CPU.
///
/// # Errors
///
/// If a tensor is something else, or an index is not that of an image.
pub fn look_up(table: &Tensor, images: &Tensor, indices: &Tensor, out: &Tensor) -> Result<()> {
    // SAFETY: the tensors live during the call, which checks what it reads and writes.
    unsafe { check(tm_look_up(table.as_ptr(), images.as_ptr(), indices.as_ptr(), out.as_ptr())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_batch_is_the_chosen_images_in_the_values_of_the_table() {
        let table = Tensor::rand([256], (Kind::Float, Device::Cpu));
        let images = Tensor::randint(256, [50, 3, 7], (Kind::Uint8, Device::Cpu));
        let indices = Tensor::randint(50, [133], (Kind::Int64, Device::Cpu));
        let out = Tensor::empty([133, 3, 7], (Kind::Float, Device::Cpu));
        look_up(&table, &images, &indices, &out).unwrap();
        let chosen = images.index_select(0, &indices).view([-1]).to_kind(Kind::Int64);
        assert!(out.view([-1]).equal(&table.index_select(0, &chosen)));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let table = Tensor::rand([256], (Kind::Float, Device::Cpu));
        let images = Tensor::zeros([5, 4], (Kind::Uint8, Device::Cpu));
        let out = Tensor::empty([2, 4], (Kind::Float, Device::Cpu));
        let error = |indices: &[i64], images: &Tensor, out: &Tensor| {
            look_up(&table, images, &Tensor::from_slice(indices), out).unwrap_err().to_string()
        };
        assert!(error(&[0, 5], &images, &out).starts_with("index 5 is out of range for 5 images"));
        assert!(error(&[-1, 0], &images, &out).starts_with("index -1 is out of range for 5 images"));
        assert!(error(&[0, 1, 2], &images, &out).starts_with("the batch has another size than 3 images"));
        assert!(
            error(&[0, 1], &images.to_kind(Kind::Int64), &out).starts_with("a table of 256 floats, images as bytes")
        );
    }
}
