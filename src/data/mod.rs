//! Datasets: four IDX files, downloaded ([`fetch`]) or imported from data of other forms ([`import`], [`sources`]),
//! checked ([`idx`], [`folder`]), read by tch's loader ([`loader`]), and put on a device once, as bytes ([`split`]).

mod classes;
mod datasets;
mod fetch;
mod folder;
mod holdout;
mod idx;
mod import;
mod info;
mod loader;
mod overlap;
mod polarity;
mod scale;
pub(crate) mod sources;
mod split;
mod tone;

pub(crate) use classes::Classes;

pub(crate) use datasets::Checksum;
pub use datasets::Dataset;
pub(crate) use fetch::{Fetcher, STALL_TIMEOUT, ensure};
pub(crate) use folder::{FileReport, Need, Place, inspect, inspect_file, locate};
pub(crate) use idx::FILES;
pub(crate) use import::{Decoded, Import, Imported, decoded, refuse_existing};
pub(crate) use info::Info;
pub(crate) use polarity::Polarity;
pub(crate) use split::{BLACK, MEAN, STD, pixel_table};
pub use split::{Part, Split};
pub(crate) use tone::settle;

use crate::error::UsageError;
use crate::libtorch::cuda;
use anyhow::{Context, Result, ensure};
use folder::Found;
use idx::{Content, Digest};
use loader::Loaded;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Tensor};

/// The folder with the datasets, if no other is named.
pub(crate) const DEFAULT_FOLDER: &str = "data";

/// A dataset on a device.
#[derive(Debug)]
pub struct Data {
    /// The training set, without the images that are held out.
    pub train: Split,
    /// The images that [`Data::hold_out`] took from the training set.
    pub validation: Option<Split>,
    /// The test set; `None` if only the training files were read.
    test: Option<Split>,
    /// What the dataset is called.
    pub(crate) name: String,
    /// The SHA-256 of each unpacked file that was read, in hexadecimal, by name.
    pub(crate) checksums: BTreeMap<String, String>,
}

impl Data {
    /// Checks the four files in `folder`, or in the folder below it that is named after the dataset, reads them and
    /// puts them on `device`.
    ///
    /// Gzipped files are unpacked beside themselves, unless their folder is read-only. Valid files that are not the
    /// published ones are used, with a warning, so that anybody's own images in this format will do; those of another
    /// dataset are refused. The limits keep the first images of the training and of the test set; 0 keeps all.
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
        Data::load_all(&Place::new(folder, dataset), device, limit_train, limit_test)
    }

    /// [`Data::load`] from a place that says more.
    pub(crate) fn load_all(place: &Place, device: Device, limit_train: i64, limit_test: i64) -> Result<Data> {
        let files = Files::read(place, Need::Both)?;
        let train = files.split(Part::Train, limit_train, device)?;
        let test = files.split(Part::Test, limit_test, device)?;
        Ok(Data { train, validation: None, test: Some(test), name: files.name, checksums: files.checksums })
    }

    /// The same from the two training files alone: [`Data::hold_out`] must then give what the epochs are measured on.
    pub(crate) fn load_train(place: &Place, device: Device, limit: i64) -> Result<Data> {
        let files = Files::read(place, Need::Train)?;
        let train = files.split(Part::Train, limit, device)?;
        Ok(Data { train, validation: None, test: None, name: files.name, checksums: files.checksums })
    }

    /// The test set, from its two files alone.
    pub(crate) fn load_test(place: &Place, device: Device, limit: i64) -> Result<Split> {
        Files::read(place, Need::Test)?.split(Part::Test, limit, device)
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
        self.validation.as_ref().or(self.test.as_ref()).expect("data without a test set have images held out")
    }

    /// Refuses files other than those with these `checksums`, which `whose` says something about. A file that was not
    /// read is not compared.
    pub(crate) fn same_files(&self, checksums: &BTreeMap<String, String>, folder: &Path, whose: &str) -> Result<()> {
        for (file, checksum) in checksums {
            ensure!(
                self.checksums.get(file).is_none_or(|own| own == checksum),
                "{file} in {} is not the file that {whose} with: its SHA-256 differs",
                folder.display()
            );
        }
        Ok(())
    }
}

/// The files that are needed, and what is known of them.
struct Files {
    name: String,
    dataset: tch::vision::dataset::Dataset,
    classes: Arc<Classes>,
    checksums: BTreeMap<String, String>,
}

impl Files {
    fn read(place: &Place, need: Need) -> Result<Files> {
        let Loaded { files, mut dataset } = loader::load(place, place.glance(need)?)?;
        if need != Need::Test {
            refuse_one_class(&files[1].0, &dataset.train_labels)?;
        }
        let info = Info::read(&place.folder)?;
        let is_known = check_origin(place, &files, info.as_ref())?;
        // Of images that are known to be right, the tone says nothing.
        if !is_known || place.polarity == Polarity::Invert {
            for (found, _) in files.iter().filter(|(found, _)| found.file.content == Content::Images) {
                let is_train = found.file == FILES[0];
                let images = if is_train { &mut dataset.train_images } else { &mut dataset.test_images };
                *images = tone::settle_dataset(images, place.polarity, &found.path.display().to_string())?;
            }
        }
        if (!is_known || info.is_some()) && need == Need::Both {
            overlap::warn(&dataset.train_images, &dataset.test_images, &place.folder.display().to_string())?;
        }
        let checksums =
            files.iter().map(|(found, digest)| (found.file.name.to_string(), digest.sha256.clone())).collect();
        let (name, classes) = match info {
            Some(info) => (info.name, info.classes),
            None => (place.dataset.facts().title.to_string(), Classes::of(place.dataset)),
        };
        Ok(Files { name, dataset, classes: Arc::new(classes), checksums })
    }

    /// The split of the files that were read: `part` is the training or the test set.
    fn split(&self, part: Part, limit: i64, device: Device) -> Result<Split> {
        let (images, labels) = match part {
            Part::Test => (&self.dataset.test_images, &self.dataset.test_labels),
            Part::Train | Part::Validation => (&self.dataset.train_images, &self.dataset.train_labels),
        };
        Split::new(part, images, labels, limit, self.classes.clone(), device)
            .with_context(|| format!("the {part} set cannot be moved to {}", cuda::flag_value(device)))
    }
}

/// Refuses labels to train on that are all the same: a net that knows no other class is always right.
fn refuse_one_class(found: &Found, labels: &Tensor) -> Result<()> {
    let (lowest, highest) = (i64::try_from(labels.f_min()?)?, i64::try_from(labels.f_max()?)?);
    ensure!(
        lowest != highest,
        "{} holds the label {lowest} alone: at least two classes are needed",
        found.path.display()
    );
    Ok(())
}

/// Refuses files that are not those that were imported, and those of another dataset; warns of those that nobody
/// published. Whether there are none of these.
fn check_origin(place: &Place, files: &[(Found, Digest)], info: Option<&Info>) -> Result<bool> {
    let mut unpublished = Vec::new();
    for (Found { file, path, .. }, digest) in files {
        if let Some(info) = info {
            info.check(path, file.name, digest)?;
            continue;
        }
        let checksum = place.dataset.compare(file, digest);
        place.refuse_other(path, &checksum)?;
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
    Ok(unpublished.is_empty())
}
