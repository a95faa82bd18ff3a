//! Augmentations: what training images go through before they reach the net, one file each, behind [`Augmentation`].

mod affine;

use crate::settings::AugmentationSettings;
use affine::RandomAffine;
use anyhow::Result;
use tch::{Device, Tensor};

/// A random change of training images.
pub(crate) trait Augmentation {
    /// Changes normalised images [N, 1, 28, 28], each in its own way. What comes in from outside an image is black.
    ///
    /// It draws from the device's default generator, so that a seed repeats it. On a GPU, N is as many images of the
    /// epoch as are made ready at once.
    fn apply(&self, images: &Tensor) -> Result<Tensor>;
}

/// The augmentations of `settings` on `device`, in the order in which they are applied.
pub(crate) fn of(settings: &AugmentationSettings, device: Device) -> Result<Vec<Box<dyn Augmentation>>> {
    let mut augmentations: Vec<Box<dyn Augmentation>> = Vec::new();
    if let Some(affine) = RandomAffine::of(settings, device)? {
        augmentations.push(Box::new(affine));
    }
    Ok(augmentations)
}

/// Applies all of them to `images` [N, 1, 28, 28].
pub(crate) fn apply(augmentations: &[Box<dyn Augmentation>], images: Tensor) -> Result<Tensor> {
    augmentations.iter().try_fold(images, |images, augmentation| augmentation.apply(&images))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_original_changes_no_image() {
        assert!(of(&Settings::default().augmentation, Device::Cpu).unwrap().is_empty());
    }
}
