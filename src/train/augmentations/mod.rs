//! Augmentations: what training images go through before they reach the net, one file each.

mod affine;

use crate::flags::{self, Entry, List, Named, Together};
use anyhow::Result;
use std::fmt::Debug;
use std::sync::Arc;
use tch::{Device, Tensor};

/// Every augmentation, in the order in which images go through them.
const ALL: &[Entry<dyn Augmentation>] = &[entry::<affine::Affine>()];

/// An augmentation with its settings.
pub(crate) trait Augmentation: Debug + Send + Sync {
    /// What it does to images on `device`; `None` if its settings change none.
    fn transform(&self, device: Device) -> Result<Option<Box<dyn Transform>>>;
}

/// A random change of training images.
pub(crate) trait Transform {
    /// Changes normalised images [N, 1, 28, 28], each in its own way. What comes in from outside an image is black.
    ///
    /// It draws from the device's default generator, so that a seed repeats it. On a GPU, N is as many images of the
    /// epoch as are made ready at once.
    fn apply(&self, images: &Tensor) -> Result<Tensor>;
}

/// The transforms that the settings ask for on `device`, in their order.
pub(crate) fn transforms(settings: &Together<dyn Augmentation>, device: Device) -> Result<Vec<Box<dyn Transform>>> {
    settings.kinds().filter_map(|augmentation| augmentation.transform(device).transpose()).collect()
}

/// Applies all of them to `images` [N, 1, 28, 28].
pub(crate) fn apply(transforms: &[Box<dyn Transform>], images: Tensor) -> Result<Tensor> {
    transforms.iter().try_fold(images, |images, transform| transform.apply(&images))
}

impl List for dyn Augmentation {
    fn all() -> &'static [Entry<dyn Augmentation>] {
        ALL
    }
}

const fn entry<K: Named + Augmentation>() -> Entry<dyn Augmentation> {
    Entry::of::<K>(|matches| {
        flags::read::<K>(matches).map(|(kind, table)| (Arc::new(kind) as Arc<dyn Augmentation>, table))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_original_changes_no_image() {
        assert!(transforms(&Settings::default().augmentation, Device::Cpu).unwrap().is_empty());
    }
}
