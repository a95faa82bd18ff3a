//! IDX files under any of their names, MNIST's own form: a file of images, and one of labels beside it. QMNIST's labels
//! are eight numbers of four bytes each, of which the first is the digit.

use super::{Form, Image, Portion, Record, Records, part_of_file, partner, unpacked};
use crate::data::idx::{Content, MAX_COUNT, copy_checked, magic};
#[cfg(test)]
use crate::digit::Digit;
use crate::shape::PIXELS;
use anyhow::{Context, Result, ensure};
use std::io::Read;
use std::path::Path;

/// The first bytes of labels that are 32-bit numbers: one for each image, or several.
const WIDE: [[u8; 4]; 2] = [[0, 0, 0x0c, 1], [0, 0, 0x0c, 2]];

/// The most numbers of a label.
const MOST_NUMBERS: u32 = 64;

/// A file of images, or of labels.
pub(super) struct Idx;

impl Form for Idx {
    fn about(&self) -> &'static str {
        "under any name, also QMNIST's, and EMNIST's, which are transposed: files named `emnist-*` are \
         turned, others with `--transpose`"
    }

    fn noun(&self) -> &'static str {
        "an IDX file"
    }

    fn title(&self) -> &'static str {
        "IDX"
    }

    fn recognises(&self, _: &Path, head: &[u8]) -> bool {
        magic(head).is_some() || is_wide(head)
    }

    fn open(&self, path: &Path) -> Result<Vec<Portion>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if magic(&first_bytes(path)?) != Some(Content::Images) {
            // It is read with its images.
            ensure!(
                partner::images_of(path).is_some(),
                "it holds labels, and the file with their images is not beside it"
            );
            return Ok(Vec::new());
        }
        let images = items(path, Content::Images)?;
        let labels = partner::labels_of(path).map(|labels| self::labels(&labels)).transpose()?;
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

    #[cfg(test)]
    fn example(&self, folder: &Path, images: &[Digit], labels: &[u8]) -> std::path::PathBuf {
        use crate::data::idx::write;
        let put = |name: &str, content, items: &[u8]| {
            let path = folder.join(name);
            let mut file = std::fs::File::create(&path).expect("a temporary folder takes it");
            write(content, items, &mut file).expect("a temporary folder takes it");
            path
        };
        put("train-labels-idx1-ubyte", Content::Labels, labels);
        put("train-images-idx3-ubyte", Content::Images, images.as_flattened())
    }
}

fn first_bytes(path: &Path) -> Result<[u8; 4]> {
    let mut head = [0; 4];
    unpacked(path)?.read_exact(&mut head)?;
    Ok(head)
}

fn is_wide(head: &[u8]) -> bool {
    WIDE.iter().any(|magic| head.starts_with(magic))
}

/// The labels in a file, each the first of its numbers.
fn labels(path: &Path) -> Result<Vec<u32>> {
    let read = || match is_wide(&first_bytes(path)?) {
        false => Ok(items(path, Content::Labels)?.into_iter().map(u32::from).collect()),
        true => wide_labels(unpacked(path)?),
    };
    read().with_context(|| path.display().to_string())
}

fn wide_labels(input: impl Read) -> Result<Vec<u32>> {
    let mut input = std::io::BufReader::new(input);
    let mut number = || -> Result<u32> {
        let mut bytes = [0; 4];
        input.read_exact(&mut bytes).context("it is cut short")?;
        Ok(u32::from_be_bytes(bytes))
    };
    let dimensions = number()? & 0xff;
    let count = number()?;
    let width = if dimensions == 1 { 1 } else { number()? };
    ensure!((1..=MOST_NUMBERS).contains(&width), "its labels have {width} numbers each");
    ensure!(u64::from(count) <= MAX_COUNT, "it declares {count} labels; at most {MAX_COUNT} are accepted");
    let mut labels = Vec::new();
    for _ in 0..count {
        labels.push(number()?);
        (1..width).try_for_each(|_| number().map(drop))?;
    }
    Ok(labels)
}

/// The bytes after the header.
fn items(path: &Path, content: Content) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    copy_checked(unpacked(path)?, content, &mut bytes).with_context(|| format!("{}", path.display()))?;
    Ok(bytes.split_off(content.header_length()))
}
