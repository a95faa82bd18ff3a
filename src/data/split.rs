//! A split: images and their labels on a device, as bytes, and how a batch of them becomes the net's input.

use super::classes::Classes;
use super::idx::FILES;
use crate::libtorch::pixels;
use crate::shape::SIDE;
use anyhow::Result;
use std::fmt::{self, Display};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The mean of MNIST's training pixels, each divided by 255: what the original normalises with, for every dataset.
pub(crate) const MEAN: f32 = 0.1307;

/// The standard deviation of the same.
pub(crate) const STD: f32 = 0.3081;

/// A black pixel, normalised.
pub(crate) const BLACK: f32 = -MEAN / STD;

/// `(byte / 255 - MEAN) / STD` in float32 for each of the 256 bytes, [256] on the CPU: the same bits as
/// `Normalize((0.1307,), (0.3081,))(ToTensor()(image))` of torchvision.
pub(crate) fn pixel_table() -> Tensor {
    let values: Vec<f32> = (0..=255u8).map(|byte| (f32::from(byte) / 255.0 - MEAN) / STD).collect();
    Tensor::from_slice(&values)
}

/// The images of a dataset that a split holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The training set.
    Train,
    /// The part of the training set that `--validation` holds out.
    Validation,
    /// The test set.
    Test,
}

impl Part {
    /// The name of the IDX file that has its images.
    pub(crate) fn images_file(self) -> &'static str {
        match self {
            Part::Train | Part::Validation => FILES[0].name,
            Part::Test => FILES[2].name,
        }
    }
}

impl Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Train => "training",
            Part::Validation => "validation",
            Part::Test => "test",
        })
    }
}

/// Images and their labels on a device. Pixels become numbers there, so that no step waits for the host.
#[derive(Debug)]
pub struct Split {
    /// The part of the dataset.
    pub part: Part,
    /// uint8 [N, 1, 28, 28], white ink on black.
    pub images: Tensor,
    /// int64 [N], each 0 to 9.
    pub labels: Tensor,
    /// What the labels stand for.
    pub(crate) classes: Arc<Classes>,
    /// The places of its images in their file; `None`: the split is the file, or its beginning.
    indices: Option<Vec<i64>>,
    /// float32 [256]: see [`pixel_table`].
    pixels: Tensor,
}

impl Split {
    /// Takes what tch's loader returns: images float32 [N, 784] from 0 to 1, and labels int64 [N]. A limit above 0 keeps the
    /// first images alone.
    pub(super) fn new(
        part: Part,
        images: &Tensor,
        labels: &Tensor,
        limit: i64,
        classes: Arc<Classes>,
        device: Device,
    ) -> Result<Split> {
        let all = labels.size()[0];
        let count = if limit > 0 { all.min(limit) } else { all };
        let images = bytes(&images.f_narrow(0, 0, count)?)?.f_view([-1, 1, SIDE as i64, SIDE as i64])?;
        Ok(Split {
            part,
            images: images.f_to_device(device)?,
            // A copy of its own: the rest of the labels can go.
            labels: labels.f_narrow(0, 0, count)?.f_detach_copy()?.f_to_device(device)?,
            classes,
            indices: None,
            pixels: pixel_table().f_to_device(device)?,
        })
    }

    /// The number of images.
    pub fn len(&self) -> i64 {
        self.labels.size()[0]
    }

    /// Whether there are no images; a split of a dataset that was loaded has at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place in [`Part::images_file`] of the image at `index`, from 0.
    pub(crate) fn index_in_file(&self, index: i64) -> i64 {
        self.indices.as_ref().map_or(index, |indices| indices[index as usize])
    }

    /// The device of the images.
    pub(crate) fn device(&self) -> Device {
        self.labels.device()
    }

    /// All indices in order, int64 [batch_size] each and the last one shorter, on the split's device.
    pub(crate) fn batches(&self, batch_size: i64) -> Result<Vec<Tensor>> {
        Ok(Tensor::f_arange(self.len(), (Kind::Int64, self.device()))?.f_split(batch_size, 0)?)
    }

    /// The images at `indices` (int64 [B]) alone, as `part`.
    pub(super) fn select(&self, indices: &Tensor, part: Part) -> Result<Split> {
        let places = Vec::<i64>::try_from(indices)?.into_iter().map(|index| self.index_in_file(index)).collect();
        let indices = indices.f_to_device(self.device())?;
        Ok(Split {
            part,
            images: self.images.f_index_select(0, &indices)?,
            labels: self.labels.f_index_select(0, &indices)?,
            classes: self.classes.clone(),
            indices: Some(places),
            pixels: self.pixels.shallow_clone(),
        })
    }

    /// The images at `indices` (int64 [B], on the split's device), normalised, float32 [B, 1, 28, 28], and their
    /// labels, int64 [B].
    pub fn batch(&self, indices: &Tensor) -> Result<(Tensor, Tensor)> {
        let shape = [indices.size()[0], 1, SIDE as i64, SIDE as i64];
        let images = Tensor::f_empty(shape, (Kind::Float, self.device()))?;
        self.fill_images(indices, &images)?;
        Ok((images, self.labels.f_index_select(0, indices)?))
    }

    /// [`Split::batch`] into contiguous tensors of its size.
    pub(crate) fn fill_batch(&self, indices: &Tensor, images: &Tensor, labels: &Tensor) -> Result<()> {
        self.fill_images(indices, images)?;
        let _ = self.labels.f_index_select_out(labels, 0, indices)?;
        Ok(())
    }

    /// Pixels are bytes until the images are chosen: a quarter of the memory traffic, and only B images pass through the
    /// table.
    fn fill_images(&self, indices: &Tensor, images: &Tensor) -> Result<()> {
        if self.device() == Device::Cpu {
            return pixels::look_up(&self.pixels, &self.images, indices, images);
        }
        let bytes = self.images.f_index_select(0, indices)?.f_view([-1])?.f_to_kind(Kind::Int64)?;
        let _ = self.pixels.f_index_select_out(&images.f_view([-1])?, 0, &bytes)?;
        Ok(())
    }
}

/// The bytes of pixels that were divided by 255, float32 [N, 784]: uint8 of the same shape.
fn bytes(pixels: &Tensor) -> Result<Tensor> {
    let bytes = Tensor::f_empty(pixels.size(), (Kind::Uint8, Device::Cpu))?;
    // So many images at a time that they stay in the cache.
    for (from, to) in pixels.f_split(AT_ONCE, 0)?.into_iter().zip(bytes.f_split(AT_ONCE, 0)?) {
        let mut to = to;
        to.f_copy_(&from.f_mul_scalar(255.0)?.f_round_()?)?;
    }
    Ok(bytes)
}

const AT_ONCE: i64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_have_the_bits_of_torch() {
        let bytes = Tensor::arange(256, (Kind::Uint8, Device::Cpu));
        let torch = (bytes.to_kind(Kind::Float) / 255 - 0.1307) / 0.3081;
        assert!(pixel_table().equal(&torch));
    }

    #[test]
    fn a_batch_is_the_chosen_images_normalised() {
        let bytes: Vec<u8> = (0..3 * 784).map(|i| (i % 256) as u8).collect();
        // As `load_dir` makes them.
        let images = Tensor::from_slice(&bytes).view([3, 784]).to_kind(Kind::Float) / 255.0;
        let labels = Tensor::from_slice(&[7i64, 8, 9]);
        let split = Split::new(Part::Train, &images, &labels, 0, Arc::default(), Device::Cpu).unwrap();
        assert!(split.images.view([-1]).equal(&Tensor::from_slice(&bytes)));
        let (images, labels) = split.batch(&Tensor::from_slice(&[2i64, 0])).unwrap();
        assert_eq!(Vec::<i64>::try_from(&labels).unwrap(), [9, 7]);
        let all = (Tensor::from_slice(&bytes).view([3, 1, 28, 28]).to_kind(Kind::Float) / 255 - 0.1307) / 0.3081;
        assert!(images.equal(&all.index_select(0, &Tensor::from_slice(&[2i64, 0]))));
        assert!(split.batch(&Tensor::from_slice(&[3i64])).is_err());
    }

    #[test]
    fn images_that_were_selected_know_their_places_in_the_file() {
        let images = Tensor::zeros([4, 784], (Kind::Float, Device::Cpu));
        let labels = Tensor::from_slice(&[5i64, 6, 7, 8]);
        let all = Split::new(Part::Train, &images, &labels, 0, Arc::default(), Device::Cpu).unwrap();
        assert_eq!((all.index_in_file(2), all.part.images_file()), (2, "train-images-idx3-ubyte"));
        let held = all.select(&Tensor::from_slice(&[1i64, 3]), Part::Validation).unwrap();
        assert_eq!([0, 1].map(|index| held.index_in_file(index)), [1, 3]);
        assert_eq!(
            (held.part.images_file(), Part::Test.images_file()),
            ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
        );
    }
}
