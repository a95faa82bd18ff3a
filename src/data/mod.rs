//! Datasets: four IDX files, fetched ([`fetch`]), checked ([`idx`], [`folder`]), read by tch's loader, and put on a
//! device once, as bytes. Pixels become numbers there, so that no step waits for the host.

pub mod augment;
pub mod fetch;
pub mod folder;
mod holdout;
pub mod idx;
pub mod sources;

pub use folder::{FileReport, inspect, locate};
pub use sources::Checksum;

use crate::config::Config;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use folder::{Place, Ready};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The datasets that come as four IDX files of 28x28 images in ten classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dataset {
    /// Handwritten digits (LeCun, Cortes, Burges)
    #[default]
    Mnist,
    /// Pictures of clothes (Zalando)
    FashionMnist,
    /// Cursive Japanese characters (CODH)
    Kmnist,
}

/// Mean of all training pixels of MNIST, each divided by 255: what the original normalises with, whatever the dataset.
pub const MEAN: f32 = 0.1307;

/// Standard deviation of the same.
pub const STD: f32 = 0.3081;

/// A black pixel, normalised.
pub const BLACK: f32 = -MEAN / STD;

/// `(byte / 255 - MEAN) / STD` in float32 for each of the 256 bytes, shape `[256]`, on the CPU: the same bits as
/// `Normalize((0.1307,), (0.3081,))(ToTensor()(image))` of torchvision, and on every device once moved there.
pub fn pixel_table() -> Tensor {
    let values: Vec<f32> = (0..=255u8).map(|byte| (f32::from(byte) / 255.0 - MEAN) / STD).collect();
    Tensor::from_slice(&values)
}

/// Which images of a dataset a split holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Those to train on.
    Train,
    /// Those held out of them by `--validation`.
    Validation,
    /// The test images.
    Test,
}

impl Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Train => "training",
            Part::Validation => "validation",
            Part::Test => "test",
        })
    }
}

/// Images and their labels on a device.
#[derive(Debug)]
pub struct Split {
    /// Which ones.
    pub part: Part,
    /// uint8 `[N, 1, 28, 28]`
    pub images: Tensor,
    /// int64 `[N]`, each 0 to 9
    pub labels: Tensor,
    /// float32 `[256]`: see [`pixel_table`]
    pixels: Tensor,
}

impl Split {
    /// Takes images as tch's loader makes them, float32 `[N, 784]` of byte / 255, and labels, int64 `[N]`.
    fn new(part: Part, images: Tensor, labels: Tensor, limit: Option<i64>, device: Device) -> Result<Split> {
        let count = limit.unwrap_or(i64::MAX).min(labels.size()[0]);
        // The first rows, in place: b / 255 * 255 is within 2e-5 of b, and the floats are freed with this function.
        let mut images = images.f_narrow(0, 0, count)?;
        let images = images.f_mul_scalar_(255.0)?.f_round_()?.f_to_kind(Kind::Uint8)?;
        Ok(Split {
            part,
            images: images.f_view([-1, 1, idx::SIDE as i64, idx::SIDE as i64])?.f_to_device(device)?,
            labels: labels.f_narrow(0, 0, count)?.f_to_device(device)?,
            pixels: pixel_table().f_to_device(device)?,
        })
    }

    /// How many images it holds.
    pub fn len(&self) -> i64 {
        self.labels.size()[0]
    }

    /// Whether it holds none; what [`load`] makes holds at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All indices in order, int64 `[batch_size]` each and the last one shorter, on the split's device.
    ///
    /// # Errors
    ///
    /// When libtorch fails.
    pub fn batches(&self, batch_size: i64) -> Result<Vec<Tensor>> {
        Ok(Tensor::f_arange(self.len(), (Kind::Int64, self.labels.device()))?.f_split(batch_size, 0)?)
    }

    /// The images at `indices` (int64 `[B]`) alone, as `part`.
    fn select(&self, indices: &Tensor, part: Part) -> Result<Split> {
        let indices = indices.f_to_device(self.labels.device())?;
        let images = self.images.f_index_select(0, &indices)?;
        Ok(Split {
            part,
            images,
            labels: self.labels.f_index_select(0, &indices)?,
            pixels: self.pixels.shallow_clone(),
        })
    }

    /// The images at `indices` (int64 `[B]`, on the same device), normalised, float32 `[B, 1, 28, 28]`, and their labels,
    /// int64 `[B]`.
    ///
    /// # Errors
    ///
    /// An index that is not below [`Split::len`] (on CUDA libtorch reports it later), or a full device.
    pub fn batch(&self, indices: &Tensor) -> Result<(Tensor, Tensor)> {
        // Bytes first: a quarter of the memory traffic, and only B images pass through the table.
        let bytes = self.images.f_index_select(0, indices)?;
        let flat = bytes.f_view([-1])?.f_to_kind(Kind::Int64)?;
        let images = self.pixels.f_index_select(0, &flat)?.f_view_as(&bytes)?;
        Ok((images, self.labels.f_index_select(0, indices)?))
    }
}

/// A dataset on a device.
#[derive(Debug)]
pub struct Data {
    pub train: Split,
    /// What [`Data::hold_out`] held out of the training split.
    pub validation: Option<Split>,
    pub test: Split,
    /// File name to SHA-256 of the unpacked file in hexadecimal, for all four files.
    pub checksums: BTreeMap<String, String>,
}

impl Data {
    /// What an epoch is measured on: the images that are held out, or else the test.
    pub fn measured(&self) -> &Split {
        self.validation.as_ref().unwrap_or(&self.test)
    }
}

/// [`load`] of what `config` names, with its limits; nothing is held out yet.
///
/// # Errors
///
/// Those of [`load`].
pub fn load_for(config: &Config, device: Device) -> Result<Data> {
    let limit = |n: i64| (n > 0).then_some(n);
    load(&config.data, config.dataset, device, limit(config.limit_train), limit(config.limit_test))
}

/// Checks the four files, reads them by [`tch::vision::mnist::load_dir`] and puts them on `device`.
///
/// Files are looked for by [`locate`]. Gzipped ones are unpacked beside themselves, or into a temporary folder when
/// theirs is read-only. Sound files that are not the published ones are used, with one warning, so that anybody's own
/// images in this format will do; those of another dataset are refused. The limits keep the first images of a split.
///
/// # Errors
///
/// One sentence on a file that is missing or wrong, a limit below 1, or a device that is full.
pub fn load(
    folder: &Path,
    dataset: Dataset,
    device: Device,
    limit_train: Option<i64>,
    limit_test: Option<i64>,
) -> Result<Data> {
    for (split, limit) in [("train", limit_train), ("test", limit_test)] {
        if let Some(limit) = limit.filter(|&limit| limit < 1) {
            bail!("--limit-{split} {limit} leaves no image; at least 1 is expected");
        }
    }
    let place = Place::new(folder, dataset);
    let ready = Ready::new(&place)?;
    let mut unpublished = Vec::new();
    for (index, digest) in ready.digests.iter().enumerate() {
        let checksum = dataset.compare(index, digest);
        let path = place.folder.join(idx::FILES[index].name);
        place.refuse_other(&path, &checksum)?;
        if checksum == Checksum::Differs {
            unpublished.push(path.display().to_string());
        }
    }
    if !unpublished.is_empty() {
        tracing::warn!(
            "not the published files of {dataset}: {}; if they are not your own, run `{}`",
            unpublished.join(", "),
            place.download_command()
        );
    }
    let checksums = idx::FILES.iter().zip(ready.digests.iter());
    let checksums = checksums.map(|(file, digest)| (file.name.to_string(), digest.sha256.clone())).collect();
    let loaded = tch::vision::mnist::load_dir(&ready.folder)
        .with_context(|| format!("{} cannot be loaded", ready.folder.display()))?;
    let cannot = || format!("{dataset} does not fit on {device:?}");
    // One after the other: the floats of one split are gone before the next is converted.
    let train =
        Split::new(Part::Train, loaded.train_images, loaded.train_labels, limit_train, device).with_context(cannot)?;
    let test =
        Split::new(Part::Test, loaded.test_images, loaded.test_labels, limit_test, device).with_context(cannot)?;
    Ok(Data { train, validation: None, test, checksums })
}

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
        let floats = Tensor::from_slice(&bytes).view([3, 784]).to_kind(Kind::Float) / 255;
        let split = Split::new(Part::Train, floats, Tensor::from_slice(&[7i64, 8, 9]), None, Device::Cpu).unwrap();
        assert!(split.images.view([-1]).equal(&Tensor::from_slice(&bytes)));
        let (images, labels) = split.batch(&Tensor::from_slice(&[2i64, 0])).unwrap();
        assert_eq!(Vec::<i64>::try_from(&labels).unwrap(), [9, 7]);
        let all = (Tensor::from_slice(&bytes).view([3, 1, 28, 28]).to_kind(Kind::Float) / 255 - 0.1307) / 0.3081;
        assert!(images.equal(&all.index_select(0, &Tensor::from_slice(&[2i64, 0]))));
        assert!(split.batch(&Tensor::from_slice(&[3i64])).is_err());
    }
}
