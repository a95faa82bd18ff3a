//! The images that the command line names: pictures, folders of them, tables of images.

use crate::data::{decoded, sources};
use crate::digit::{self, Digit};
use crate::error::without_panic;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file that is read as a picture, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// An image to predict.
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// Its place in a file of several images, from 0.
    pub(super) index: Option<usize>,
    pub(super) digit: Digit,
}

/// The images of all files in turn.
pub(super) struct Inputs;

impl Inputs {
    /// Opens the tables among `images` and lists the folders; pictures are read when their turn comes.
    pub(super) fn open(images: &[PathBuf], raw: bool) -> Result<impl Iterator<Item = Result<Input>>> {
        let mut inputs: Vec<Box<dyn Iterator<Item = Result<Input>>>> = Vec::new();
        for path in images {
            if path.is_dir() {
                let pictures = pictures(path)?;
                inputs.push(Box::new(pictures.into_iter().map(move |path| picture(path, raw))));
            } else if sources::is_table(path) {
                inputs.push(Box::new(table(path)?));
            } else {
                inputs.push(Box::new(std::iter::once(path.clone()).map(move |path| picture(path, raw))));
            }
        }
        Ok(inputs.into_iter().flatten())
    }
}

/// The images of a file that holds many. Of training and test images only the latter are new to the net.
fn table(path: &Path) -> Result<impl Iterator<Item = Result<Input>> + use<>> {
    let mut portions = sources::open(path)?;
    if portions.len() > 1 {
        let has_test = portions.iter().any(|portion| portion.is_test());
        portions.retain(|portion| !has_test || portion.is_test());
    }
    ensure!(!portions.is_empty(), "{} holds labels, not images", path.display());
    let path = path.to_path_buf();
    let records = portions.into_iter().flat_map(|portion| portion.records).enumerate();
    Ok(records.map(move |(index, record)| {
        let read = || -> Result<Digit> {
            let record = record?;
            decoded(&record).with_context(|| record.place.clone())
        };
        let digit = read().with_context(|| format!("{} cannot be predicted", path.display()))?;
        Ok(Input { path: path.clone(), index: Some(index), digit })
    }))
}

/// The pictures in a folder, sorted by name.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("the folder {} cannot be read", folder.display());
    let mut pictures = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if digit::ENDINGS.contains(&ending.as_str()) {
            pictures.push(path);
        }
    }
    ensure!(!pictures.is_empty(), "the folder {} holds no .{}", folder.display(), digit::ENDINGS.join(", ."));
    pictures.sort();
    Ok(pictures)
}

fn picture(path: PathBuf, raw: bool) -> Result<Input> {
    let digit = digit_in(&path, raw).with_context(|| format!("{} cannot be predicted", path.display()))?;
    Ok(Input { path, index: None, digit })
}

fn digit_in(path: &Path, raw: bool) -> Result<Digit> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    } else {
        // Asked before it is opened: opening a pipe would wait for its other end.
        ensure!(std::fs::metadata(path)?.is_file(), "it is not a regular file");
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    }
    ensure!(bytes.len() as u64 <= MAX_BYTES, "it has more than {} MiB", MAX_BYTES >> 20);
    let read = || if raw { digit::read_raw(&bytes) } else { Ok(digit::read(&bytes)?.digit) };
    // A decoder's mistake must not end a batch.
    without_panic(read)
}
