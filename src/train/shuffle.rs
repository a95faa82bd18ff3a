//! The order of the images, drawn as `DataLoader(shuffle=True)` draws it.

use crate::libtorch::generator;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// One epoch's order of one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shuffle {
    /// The seed of the generator that draws the permutation.
    seed: i64,
}

impl Shuffle {
    /// Draws an order from libtorch's default generator as a DataLoader does: one int64 when its iterator is made (the
    /// workers' base seed, unused here), one as the seed of `RandomSampler`'s own generator.
    pub fn draw() -> Result<Shuffle> {
        draw()?;
        Ok(Shuffle { seed: draw()? })
    }

    /// The indices of all images in the epoch's order, int64 [images] on `device`.
    pub fn order(self, images: i64, device: Device) -> Result<Tensor> {
        Ok(generator::randperm(images, self.seed as u64)?.f_to_device(device)?)
    }

    /// That order in batches, int64 [`batch_size`] each and the last one shorter.
    pub fn batches(self, images: i64, batch_size: i64, device: Device) -> Result<Vec<Tensor>> {
        Ok(self.order(images, device)?.f_split(batch_size, 0)?)
    }
}

/// `torch.empty((), dtype=torch.int64).random_().item()`
fn draw() -> Result<i64> {
    let number = Tensor::f_empty([0i64; 0], (Kind::Int64, Device::Cpu))?.f_random_()?;
    Ok(i64::try_from(number)?)
}
