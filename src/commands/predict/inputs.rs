//! The images that the command line names: pictures, folders of them, files of many images.

use crate::data::{decoded, sources};
use crate::digit::{self, Digit, Found};
use crate::error::without_panic;
use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file that is read as a picture, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// A picture on stdin may be in the form that a browser's canvas gives: `data:image/png;base64,...`.
const DATA_URL: &[u8] = b"data:";

/// How a picture is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// All its digits.
    All,
    /// As one digit.
    One,
    /// As it is.
    Raw,
}

/// A picture, or an image of a file of many.
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// Its place in a file of many images, from 0.
    pub(super) index: Option<usize>,
    /// At least one.
    pub(super) digits: Vec<Found>,
}

/// The images of all files in turn. Pictures are read when their turn comes.
pub(super) fn inputs(images: &[PathBuf], how: How) -> Result<impl Iterator<Item = Result<Input>>> {
    let mut inputs: Vec<Box<dyn Iterator<Item = Result<Input>>>> = Vec::new();
    for path in images {
        if path.is_dir() {
            let pictures: Vec<_> = sources::pictures(path).collect();
            let folder = path.display();
            ensure!(!pictures.is_empty(), "the folder {folder} holds no .{}", digit::ENDINGS.join(", ."));
            inputs.push(Box::new(pictures.into_iter().map(move |path| picture(path?, how))));
        } else if sources::is_table(path) {
            inputs.push(Box::new(table(path)?));
        } else {
            inputs.push(Box::new(std::iter::once(path.clone()).map(move |path| picture(path, how))));
        }
    }
    Ok(inputs.into_iter().flatten())
}

/// The images of a file that holds many. Of training and test images only the latter are new to the net.
fn table(path: &Path) -> Result<impl Iterator<Item = Result<Input>> + use<>> {
    let mut portions = sources::open(path)?;
    let has_test = portions.iter().any(|portion| portion.is_test());
    portions.retain(|portion| !has_test || portion.is_test());
    ensure!(!portions.is_empty(), "{} holds labels, not images", path.display());
    let path = path.to_path_buf();
    let records = portions.into_iter().flat_map(|portion| portion.records).enumerate();
    Ok(records.map(move |(index, record)| {
        let read = || -> Result<Digit> {
            let record = record?;
            decoded(&record).with_context(|| record.place.clone())
        };
        let digit = read().with_context(|| format!("{} cannot be predicted", path.display()))?;
        Ok(Input { path: path.clone(), index: Some(index), digits: vec![Found::whole(digit)] })
    }))
}

fn picture(path: PathBuf, how: How) -> Result<Input> {
    let digits = digits_in(&path, how).with_context(|| format!("{} cannot be predicted", path.display()))?;
    Ok(Input { path, index: None, digits })
}

fn digits_in(path: &Path, how: How) -> Result<Vec<Found>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    } else {
        // Asked before it is opened: opening a pipe would wait for its other end.
        ensure!(std::fs::metadata(path)?.is_file(), "it is not a regular file");
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    }
    ensure!(bytes.len() as u64 <= MAX_BYTES, "it has more than {} MiB", MAX_BYTES >> 20);
    if bytes.starts_with(DATA_URL) {
        bytes = data_of(&bytes)?;
    }
    // A decoder's mistake must not end a batch.
    without_panic(|| match how {
        How::All => Ok(digit::read_all(&bytes)?),
        How::One => Ok(vec![digit::read(&bytes)?]),
        How::Raw => Ok(vec![Found::whole(digit::read_raw(&bytes).map_err(raw)?)]),
    })
}

/// The sentence on a picture that `--raw` does not take.
fn raw(error: digit::Error) -> anyhow::Error {
    match error {
        digit::Error::NotMnistSize { width, height } => anyhow!("it has {width}x{height} pixels; --raw takes 28x28"),
        error => error.into(),
    }
}

/// The bytes in a `data:` URL (RFC 2397).
fn data_of(url: &[u8]) -> Result<Vec<u8>> {
    let expected = "it is a data: URL, but not one in base64, such as data:image/png;base64,...";
    let url = std::str::from_utf8(url).ok().context(expected)?;
    let (kind, data) = url.split_once(',').context(expected)?;
    ensure!(kind.ends_with(";base64"), expected);
    BASE64_STANDARD.decode(data.trim()).context(expected)
}
