//! Datasets: four IDX files, downloaded ([`fetch`]), checked ([`idx`], [`folder`]), read by tch's loader, and put on a device
//! once, as bytes ([`split`]).

mod datasets;
mod fetch;
mod folder;
mod holdout;
mod idx;
mod split;

pub(crate) use datasets::Checksum;
pub use datasets::Dataset;
pub(crate) use fetch::{Fetcher, STALL_TIMEOUT, ensure};
pub(crate) use folder::{FileReport, Place, inspect, inspect_file, locate};
pub(crate) use idx::FILES;
pub(crate) use split::{BLACK, MEAN, STD, pixel_table};
pub use split::{Part, Split};

use crate::error::UsageError;
use anyhow::{Context, Result, ensure};
use folder::Ready;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Tensor};

/// A dataset on a device.
#[derive(Debug)]
pub struct Data {
    /// The training set, without the images that are held out.
    pub train: Split,
    /// The images that [`Data::hold_out`] took from the training set.
    pub validation: Option<Split>,
    /// The test set.
    pub test: Split,
    /// The SHA-256 of each of the four unpacked files, in hexadecimal, by name.
    pub(crate) checksums: BTreeMap<String, String>,
}

impl Data {
    /// Checks the four files in `folder`, or in the folder below it that is named after the dataset, reads them by
    /// [`tch::vision::mnist::load_dir`] and puts them on `device`.
    ///
    /// Gzipped files are unpacked beside themselves, or into a temporary folder if theirs is read-only. Valid files that
    /// are not the published ones are used, with a warning, so that anybody's own images in this format will do; those
    /// of another dataset are refused. The limits keep the first images of the training and of the test set; 0 keeps all.
    ///
    /// ```no_run
    /// use tch_mnist::{Data, Dataset};
    /// let data = Data::load("data".as_ref(), Dataset::Mnist, tch::Device::Cpu, 0, 0).unwrap();
    /// assert_eq!(data.train.images.size(), [60_000, 1, 28, 28]);
    /// ```
    ///
    /// # Errors
    ///
    /// One sentence that names the file that is missing or damaged.
    pub fn load(folder: &Path, dataset: Dataset, device: Device, limit_train: i64, limit_test: i64) -> Result<Data> {
        let place = Place::new(folder, dataset);
        let ready = Ready::new(&place)?;
        warn_if_unpublished(&place, &ready)?;
        let checksums = FILES.iter().zip(ready.digests.iter());
        let checksums = checksums.map(|(file, digest)| (file.name.to_string(), digest.sha256.clone())).collect();
        let loaded = tch::vision::mnist::load_dir(&ready.folder)
            .with_context(|| format!("{} cannot be loaded", ready.folder.display()))?;
        let cannot = || format!("{dataset} does not fit on {device:?}");
        // One after the other: the floats of one split are freed before the next is converted.
        let (images, labels) = (loaded.train_images, loaded.train_labels);
        let train = Split::new(Part::Train, images, labels, limit_train, device).with_context(cannot)?;
        let (images, labels) = (loaded.test_images, loaded.test_labels);
        let test = Split::new(Part::Test, images, labels, limit_test, device).with_context(cannot)?;
        Ok(Data { train, validation: None, test, checksums })
    }

    /// Moves `count` training images, chosen by `seed`, to [`Data::validation`]; 0 moves none.
    ///
    /// Each label gives its share (stratified). Both parts keep the order of the file.
    pub fn hold_out(self, count: i64, seed: i64) -> Result<Data> {
        if count == 0 {
            return Ok(self);
        }
        let images = self.train.len();
        if count >= images {
            let sentence = format!("--validation {count} leaves no image to train on: there are {images}");
            return Err(UsageError(sentence).into());
        }
        let (train, held) = holdout::split(&Vec::<i64>::try_from(&self.train.labels)?, count, seed)?;
        let select = |indices: &[i64], part| self.train.select(&Tensor::from_slice(indices), part);
        let validation = Some(select(&held, Part::Validation)?);
        Ok(Data { train: select(&train, Part::Train)?, validation, ..self })
    }

    /// What an epoch is measured on: the images that are held out, else the test set.
    pub fn measured(&self) -> &Split {
        self.validation.as_ref().unwrap_or(&self.test)
    }

    /// Refuses files other than those with these `checksums`, which `whose` says something about.
    pub(crate) fn same_files(&self, checksums: &BTreeMap<String, String>, folder: &Path, whose: &str) -> Result<()> {
        for (file, checksum) in checksums {
            ensure!(
                self.checksums.get(file) == Some(checksum),
                "{file} in {} is not the file that {whose} with: its SHA-256 differs",
                folder.display()
            );
        }
        Ok(())
    }
}

/// Refuses the files of another dataset, and warns of those that nobody published.
fn warn_if_unpublished(place: &Place, ready: &Ready) -> Result<()> {
    let mut unpublished = Vec::new();
    for (index, digest) in ready.digests.iter().enumerate() {
        let checksum = place.dataset.compare(index, digest);
        let path = place.folder.join(FILES[index].name);
        place.refuse_other(&path, &checksum)?;
        if checksum == Checksum::Differs {
            unpublished.push(path.display().to_string());
        }
    }
    if !unpublished.is_empty() {
        tracing::warn!(
            "not the published files of {}: {}; if they are not your own, run `{}`",
            place.dataset,
            unpublished.join(", "),
            place.download_command()
        );
    }
    Ok(())
}
