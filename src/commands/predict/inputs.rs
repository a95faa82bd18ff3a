//! The images that the command line names: pictures, folders of them, files of many images.

use crate::data::{Decoded, Polarity, decoded, settle, sources};
use crate::digit::{self, Found, Lines, Sign};
use crate::error::without_panic;
use crate::predict::Place;
use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

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

/// A page of a picture, or an image of a file of many.
pub(super) struct Input {
    pub(super) path: PathBuf,
    pub(super) place: Place,
    /// Of an image of a file of many: its number, from 1, among those of all such files.
    pub(super) id: Option<usize>,
    /// With at least one digit.
    pub(super) lines: Lines,
}

impl Input {
    /// `scan.tif page 2`, `test.csv[3]`
    pub(super) fn name(&self) -> String {
        name(&self.path, self.place)
    }
}

fn name(path: &Path, Place { page, index }: Place) -> String {
    let page = page.map_or(String::new(), |(page, _)| format!(" page {page}"));
    let index = index.map_or(String::new(), |index| format!("[{index}]"));
    format!("{}{page}{index}", path.display())
}

/// The images of all files in turn. Pictures are read when their turn comes, unless they are a dataset: taken as they are.
pub(super) fn inputs(images: &[PathBuf], how: How, polarity: Polarity) -> Result<impl Iterator<Item = Result<Input>>> {
    let mut inputs: Vec<Box<dyn Iterator<Item = Result<Input>>>> = Vec::new();
    let ids = Rc::new(Cell::new(0));
    for path in images {
        if path.is_dir() {
            let pictures: Vec<_> = sources::pictures(path).collect();
            let folder = path.display();
            ensure!(!pictures.is_empty(), "the folder {folder} holds no .{}", digit::ENDINGS.join(", ."));
            inputs.push(Box::new(
                pictures
                    .into_iter()
                    .flat_map(move |path| path.map_or_else(|error| vec![Err(error)], |path| picture(path, how))),
            ));
        } else if sources::is_table(path) {
            inputs.push(Box::new(table(path, ids.clone(), polarity)?));
        } else {
            inputs.push(Box::new(std::iter::once(path.clone()).flat_map(move |path| picture(path, how))));
        }
    }
    let inputs = inputs.into_iter().flatten();
    if how != How::Raw {
        return Ok(Box::new(inputs) as Box<dyn Iterator<Item = _>>);
    }
    let mut inputs: Vec<Result<Input>> = inputs.collect();
    let pictures = inputs.iter_mut().flatten().filter(|input| input.place.index.is_none());
    let signs = pictures.flat_map(|input| input.lines.iter_mut().flatten());
    let digits = signs.filter_map(|sign| match sign {
        Sign::Digit(found) => Some(&mut found.digit),
        Sign::Mark(_) => None,
    });
    settle(digits.collect(), polarity, "--raw").context("--raw cannot take these pictures")?;
    Ok(Box::new(inputs.into_iter()))
}

/// The images of a file that holds many. Of training and test images only the latter are new to the net. `ids` is the
/// number of images so far.
fn table(path: &Path, ids: Rc<Cell<usize>>, polarity: Polarity) -> Result<impl Iterator<Item = Result<Input>> + use<>> {
    let mut portions = sources::open(path)?;
    let has_test = portions.iter().any(|portion| portion.is_test());
    portions.retain(|portion| !has_test || portion.is_test());
    ensure!(!portions.is_empty(), "{} holds labels, not images", path.display());
    let mut images = Vec::new();
    for record in portions.into_iter().flat_map(|portion| portion.records) {
        images.push(record.and_then(|record| decoded(&record).with_context(|| record.place.clone())));
    }
    let unchanged = images.iter_mut().flatten().filter(|image| image.is_unchanged);
    let name = path.display().to_string();
    settle(unchanged.map(|image| &mut image.pixels).collect(), polarity, &name)
        .with_context(|| format!("{name} cannot be predicted"))?;
    let path = path.to_path_buf();
    Ok(images.into_iter().enumerate().map(move |(index, image)| {
        ids.set(ids.get() + 1);
        let Decoded { pixels, .. } = image.with_context(|| format!("{} cannot be predicted", path.display()))?;
        let place = Place { index: Some(index), ..Place::default() };
        let lines = vec![vec![Sign::Digit(Found::whole(pixels))]];
        Ok(Input { path: path.clone(), place, id: Some(ids.get()), lines })
    }))
}

/// The pages of a picture.
fn picture(path: PathBuf, how: How) -> Vec<Result<Input>> {
    let cannot = |place| format!("{} cannot be predicted", name(&path, place));
    let bytes = match bytes_of(&path).with_context(|| cannot(Place::default())) {
        Ok(bytes) => bytes,
        Err(error) => return vec![Err(error)],
    };
    // A decoder's mistake must not end a batch.
    if without_panic(|| Ok(digit::is_animated(&bytes))).unwrap_or(false) {
        tracing::warn!("{} is animated: its first picture is read", path.display());
    }
    let pages = digit::pages(&bytes);
    let count = pages.len();
    let page = |(k, page): (usize, Cow<[u8]>)| {
        let place = Place { page: (count > 1).then_some((k + 1, count)), index: None };
        let lines = lines_in(&page, how).with_context(|| cannot(place))?;
        Ok(Input { path: path.clone(), place, id: None, lines })
    };
    pages.enumerate().map(page).collect()
}

/// The bytes of a picture file, or of stdin.
fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    } else {
        // Asked before it is opened: opening a pipe would wait for its other end.
        ensure!(std::fs::metadata(path)?.is_file(), "it is not a regular file");
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    }
    ensure!(bytes.len() as u64 <= MAX_BYTES, "it has more than {} MiB", MAX_BYTES >> 20);
    if bytes.starts_with(DATA_URL) { data_of(&bytes) } else { Ok(bytes) }
}

fn lines_in(page: &[u8], how: How) -> Result<Lines> {
    let alone = |found| vec![vec![Sign::Digit(found)]];
    // A decoder's mistake must not end a batch.
    without_panic(|| match how {
        How::All => Ok(digit::read_all(page)?),
        How::One => Ok(alone(digit::read(page)?)),
        How::Raw => Ok(alone(Found::whole(digit::read_raw(page).map_err(raw)?))),
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
