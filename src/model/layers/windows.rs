//! Windows that move over an image, as those of convolutions and pools: which sizes they take and give.

use super::sizes;
use crate::model::architecture::product;
use anyhow::{Result, bail, ensure};

/// An image's shape, [C, H, W].
pub(super) fn image(shape: &[i64]) -> Result<[i64; 3]> {
    match *shape {
        [channels, height, width] => Ok([channels, height, width]),
        _ => bail!("it takes images and gets a row of {} features: put it before the Flatten()", product(shape)),
    }
}

/// Windows over the height and the width of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) kernel_size: [i64; 2],
    pub(super) stride: [i64; 2],
    pub(super) padding: [i64; 2],
    pub(super) dilation: [i64; 2],
    pub(super) ceil_mode: bool,
}

impl Windows {
    /// Refuses what `torch.nn`'s pools refuse for any input.
    pub(super) fn check_pool(self) -> Result<()> {
        sizes("kernel_size", &self.kernel_size, 1)?;
        sizes("stride", &self.stride, 1)?;
        sizes("padding", &self.padding, 0)?;
        for (padding, kernel) in self.padding.into_iter().zip(self.kernel_size) {
            ensure!(
                padding <= kernel / 2,
                "padding is {padding}: a pool of kernel_size {kernel} takes at most half of that, {}",
                kernel / 2
            );
        }
        Ok(())
    }

    /// How far a window spans, and its step.
    pub(super) fn moving(self) -> super::Window {
        let span = [0, 1].map(|axis| self.dilation[axis] * (self.kernel_size[axis] - 1) + 1);
        super::Window::Moving { span, step: self.stride }
    }

    /// The shape of a pool's output for an image of the shape `input`.
    pub(super) fn pooled(self, input: &[i64]) -> Result<Vec<i64>> {
        let [channels, size @ ..] = image(input)?;
        let [height, width] = self.count(size)?;
        Ok(vec![channels, height, width])
    }

    /// How many windows fit into an image of this size, by PyTorch's formula.
    pub(super) fn count(self, size: [i64; 2]) -> Result<[i64; 2]> {
        let mut output = [0; 2];
        for axis in [0, 1] {
            output[axis] = self.along(axis, size[axis])?;
        }
        Ok(output)
    }

    fn along(self, axis: usize, size: i64) -> Result<i64> {
        let (kernel, stride) = (self.kernel_size[axis], self.stride[axis]);
        let (padding, dilation) = (self.padding[axis], self.dilation[axis]);
        let padded = size + 2 * padding;
        let extra = if self.ceil_mode { stride - 1 } else { 0 };
        let room = padded - (dilation * (kernel - 1) + 1) + extra;
        ensure!(
            room >= 0,
            "its kernel of {kernel} does not fit into {}: kernel_size can be at most {} there",
            side_text(axis, size, padding, dilation),
            (padded - 1) / dilation + 1
        );
        let count = room / stride + 1;
        // PyTorch drops a last window that would begin in the padding on the far side.
        let starts_outside = self.ceil_mode && (count - 1) * stride >= size + padding;
        Ok(if starts_outside { count - 1 } else { count })
    }
}

/// `a height of 4`, with what else decides how large a kernel can be.
fn side_text(axis: usize, size: i64, padding: i64, dilation: i64) -> String {
    let mut text = format!("a {} of {size}", ["height", "width"][axis]);
    if padding > 0 {
        text += &format!(" with padding {padding}");
    }
    if dilation > 1 {
        text += &format!(" at dilation {dilation}");
    }
    text
}
