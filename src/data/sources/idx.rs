//! IDX files under any of their names, MNIST's own form: a file of images, and one of labels beside it.

use super::{Form, Image, Portion, Record, Records, part_of_file, unpacked};
use crate::data::idx::{Content, copy_checked, magic};
use crate::shape::PIXELS;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// A file of images, or of labels.
pub(super) struct Idx;

impl Form for Idx {
    fn name(&self) -> &'static str {
        "an IDX file"
    }

    fn recognises(&self, _: &Path, head: &[u8]) -> bool {
        magic(head).is_some()
    }

    fn open(&self, path: &Path) -> Result<Vec<Portion>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut head = [0; 4];
        std::io::Read::read_exact(&mut unpacked(path)?, &mut head)?;
        if magic(&head) == Some(Content::Labels) {
            // It is read with its images.
            let images = partner(path, Content::Labels).filter(|images| images.exists());
            ensure!(images.is_some(), "it holds labels, and the file with their images is not beside it");
            return Ok(Vec::new());
        }
        let images = items(path, Content::Images)?;
        let labels = partner(path, Content::Images).filter(|labels| labels.exists());
        let labels = labels.map(|labels| items(&labels, Content::Labels)).transpose()?;
        let count = images.len() / PIXELS;
        if let Some(labels) = &labels {
            ensure!(labels.len() == count, "it has {count} images, but {} labels are beside it", labels.len());
        }
        let labelled = labels.is_some();
        let records: Records = Box::new((0..count).map(move |k| {
            let digit = images[k * PIXELS..(k + 1) * PIXELS].try_into().expect("whole images");
            let label = labels.as_ref().map(|labels| labels[k].to_string());
            Ok(Record { place: format!("image {k}"), label, image: Image::Pixels(Box::new(digit)) })
        }));
        Ok(vec![Portion {
            path: path.to_path_buf(),
            part: part_of_file(path),
            count: Some(count as u64),
            labelled,
            classes: None,
            // EMNIST's authors stored columns where MNIST has rows.
            transposed: name.to_lowercase().starts_with("emnist"),
            records,
        }])
    }
}

/// Beside a file of images or labels, the file of the other: `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`.
fn partner(path: &Path, content: Content) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let pairs = [("images", "labels"), ("idx3", "idx1")];
    let other = pairs.iter().fold(name.to_string(), |name, (images, labels)| match content {
        Content::Images => name.replace(images, labels),
        Content::Labels => name.replace(labels, images),
    });
    let folder = path.parent()?;
    // Kaggle's archive has each file in a folder of its name.
    let nested = folder.parent().map(|above| above.join(&other).join(&other));
    let same_folder = folder.join(&other);
    (other != name).then(|| nested.filter(|nested| nested.is_file() && !same_folder.exists()).unwrap_or(same_folder))
}

/// The bytes after the header.
fn items(path: &Path, content: Content) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    copy_checked(unpacked(path)?, content, &mut bytes).with_context(|| format!("{}", path.display()))?;
    Ok(bytes.split_off(content.header_length()))
}
