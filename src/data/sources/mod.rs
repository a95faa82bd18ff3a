//! Images in the forms in which people have them, read one by one. One file per form; [`FORMS`] is the list.

mod advice;
mod csv;
mod folder;
mod idx;
mod numpy;
mod order;
mod parquet;
mod partner;

pub(crate) use advice::advice;
pub(crate) use folder::pictures;

use super::Part;
use super::idx::{GZIP, Unpacked};
use crate::digit::Digit;
use crate::error::{either, without_panic};
use anyhow::{Result, bail, ensure};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

/// All forms, in the order in which they are tried.
const FORMS: [&dyn Form; 6] = [&numpy::Npz, &numpy::Npy, &parquet::Parquet, &idx::Idx, &csv::Csv, &folder::Folder];

/// How much of a file is looked at to recognise it, in bytes: a row as NumPy's `savetxt` writes it has 20,000.
const HEAD: u64 = 1 << 15;

/// Names of columns and arrays of labels, in lower case.
const LABELS: [&str; 6] = ["label", "labels", "class", "target", "targets", "y"];

/// Names of columns that number the rows; pandas writes its own without a name.
const NUMBERS: [&str; 6] = ["", "id", "index", "imageid", "image_id", "unnamed: 0"];

/// A form of data: one file or one folder.
trait Form: Sync {
    /// What it is called in lists.
    fn title(&self) -> &'static str;

    /// What a file or folder of this form is called in messages, such as `a CSV file`.
    fn noun(&self) -> &'static str;

    /// What its files look like: the row in docs/data.md.
    fn about(&self) -> &'static str;

    /// Whether `path` is of this form. `head` is the beginning of the file, unpacked if it is gzipped; empty for a
    /// folder.
    fn recognises(&self, path: &Path, head: &[u8]) -> bool;

    /// The portions of the images in `path`.
    fn open(&self, path: &Path) -> Result<Vec<Portion>>;

    /// Writes these training images and their labels into `folder`, and returns the source: what the tests of all forms read.
    #[cfg(test)]
    fn example(&self, folder: &Path, images: &[Digit], labels: &[u8]) -> PathBuf;
}

/// Images of one source that belong to the same part of a dataset.
pub(crate) struct Portion {
    /// The file or folder.
    pub(crate) path: PathBuf,
    /// The part that its name says; `None` if it says nothing.
    pub(crate) part: Option<Part>,
    /// How many images it has, if that is known before it is read.
    pub(crate) count: Option<u64>,
    /// Whether its images have labels.
    pub(crate) labelled: bool,
    /// The names of the classes in their order, if the source has them.
    pub(crate) classes: Option<Vec<String>>,
    /// Whether rows and columns of its images are exchanged, as EMNIST's are.
    pub(crate) transposed: bool,
    /// The images in their order.
    pub(crate) records: Records,
}

impl Portion {
    pub(crate) fn is_test(&self) -> bool {
        self.part == Some(Part::Test)
    }
}

pub(crate) type Records = Box<dyn Iterator<Item = Result<Record>>>;

/// One image of a source.
pub(crate) struct Record {
    /// Where it is in its source, such as `row 17`; empty if the source is this picture.
    pub(crate) place: String,
    /// What the source says it shows.
    pub(crate) label: Option<String>,
    pub(crate) image: Image,
}

/// An image, decoded or not.
pub(crate) enum Image {
    /// 28x28 bytes, white on black.
    Pixels(Box<Digit>),
    /// A picture file.
    File(PathBuf),
    /// The bytes of a picture file.
    Encoded(Vec<u8>),
    /// Something among pictures that leads to none, and why.
    Broken(String),
}

impl Image {
    /// Whether it is a picture that has yet to be decoded.
    pub(crate) fn is_picture(&self) -> bool {
        matches!(self, Image::File(_) | Image::Encoded(_) | Image::Broken(_))
    }
}

/// Opens the images at `path`, whatever their form.
pub(crate) fn open(path: &Path) -> Result<Vec<Portion>> {
    let opened = || match recognise(path)? {
        Some(form) => form.open(path),
        // Only when asked to: beside it, other datasets may be downloaded to the same root.
        None if folder::raw(path).is_some() => folder::Folder.open(path),
        None => bail!(advice(path)),
    };
    // A decoder's mistake must not end the program with a panic.
    let opened = without_panic(opened);
    opened.map_err(|error| {
        let name = path.display().to_string();
        // The reader of a folder may have named the file in it.
        if error.to_string().contains(&name) { error } else { error.context(format!("{name} cannot be read")) }
    })
}

/// What `path` holds, if [`open`] takes it: the name of its form.
pub(crate) fn form(path: &Path) -> Option<&'static str> {
    recognise(path).ok().flatten().map(|form| form.noun())
}

/// Every form: its title, and what its files look like.
pub(crate) fn forms() -> impl Iterator<Item = (&'static str, &'static str)> {
    FORMS.iter().rev().map(|form| (form.title(), form.about()))
}

/// The titles of all forms as the end of a sentence.
pub(crate) fn titles() -> String {
    let titles: Vec<String> = FORMS.iter().rev().map(|form| form.title().to_string()).collect();
    either(&titles, "or")
}

/// Whether [`open`] takes `path`, and it is a table of images and not a folder or a picture.
pub(crate) fn is_table(path: &Path) -> bool {
    path.is_file() && form(path).is_some()
}

fn recognise(path: &Path) -> Result<Option<&'static dyn Form>> {
    let head = head(path)?;
    Ok(FORMS.into_iter().find(|form| form.recognises(path, &head)))
}

/// The beginning of a file; nothing of a folder.
fn head(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Ok(Vec::new());
    }
    // Before opening it: opening a pipe would wait for its other end.
    ensure!(metadata.is_file(), "it is not a regular file");
    let mut head = Vec::new();
    unpacked(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// A file's bytes, unpacked if they are gzipped, whatever its name says.
fn unpacked(path: &Path) -> Result<Box<dyn Read + Send>> {
    let mut file = File::open(path)?;
    Ok(if is_gzipped(&mut file)? { Box::new(Unpacked::new(file)) } else { Box::new(file) })
}

/// Whether `file` begins as gzip does.
pub(super) fn is_gzipped(file: &mut File) -> std::io::Result<bool> {
    let mut magic = Vec::new();
    file.take(2).read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(magic == GZIP)
}

/// The part of a dataset that a name says, such as that of a file, a folder or an array.
fn part_of(name: &str) -> Option<Part> {
    let name = name.to_lowercase();
    let words: Vec<&str> = name.split(|letter: char| !letter.is_alphabetic()).collect();
    let says = |known: &[&str]| words.iter().any(|word| known.contains(word));
    match () {
        () if says(&["train", "training", "trainset"]) => Some(Part::Train),
        () if says(&["test", "testing", "testset"]) || name.contains("t10k") => Some(Part::Test),
        () if says(&["val", "valid", "validation"]) => Some(Part::Validation),
        () => None,
    }
}

/// The part that a file's name says, or else the name of its folder, if that is all that it says.
fn part_of_file(path: &Path) -> Option<Part> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().map(name).unwrap_or_default();
    let of_folder = || part_of(&folder).filter(|_| folder.chars().all(char::is_alphabetic));
    part_of(&name(path)).or_else(of_folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decoded;
    use proptest::prelude::*;

    /// Images that differ, and their labels, of three classes.
    fn dataset() -> (Vec<Digit>, Vec<u8>) {
        let pixel = |image: usize, at: usize| if at < 60 { 0 } else { ((image + 3) * at * at / 7 % 256) as u8 };
        let images = (0..12).map(|image| std::array::from_fn(|at| pixel(image, at))).collect();
        (images, (0..12).map(|image| [4, 0, 7][image % 3]).collect())
    }

    /// The labels and images of a source, sorted.
    fn read(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
        let mut found = Vec::new();
        for portion in open(path)? {
            for record in portion.records {
                let record = record?;
                let pixels = decoded(&record)?.pixels.to_vec();
                found.push((record.label.unwrap_or_default(), pixels));
            }
        }
        found.sort();
        Ok(found)
    }

    #[test]
    fn every_form_gives_back_the_images_and_labels_of_its_example() {
        let (images, labels) = dataset();
        let pairs = images.iter().zip(&labels).map(|(image, label)| (label.to_string(), image.to_vec()));
        let mut expected: Vec<_> = pairs.collect();
        expected.sort();
        for form in FORMS {
            let folder = tempfile::tempdir().unwrap();
            let path = form.example(folder.path(), &images, &labels);
            assert_eq!(super::form(&path), Some(form.noun()));
            assert!(read(&path).unwrap() == expected, "{}", form.title());
            // A folder with files of a form is a source too.
            assert!(read(folder.path()).unwrap() == expected, "a folder of {}", form.title());
        }
    }

    #[test]
    fn titles_of_forms_are_distinct() {
        let titles: std::collections::HashSet<_> = FORMS.iter().map(|form| form.title()).collect();
        assert_eq!(titles.len(), FORMS.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn every_form_is_read_or_refused_when_it_is_damaged(
            changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6), cut in any::<usize>(), is_cut: bool,
        ) {
            let (images, labels) = dataset();
            for form in FORMS {
                let folder = tempfile::tempdir().unwrap();
                let path = form.example(folder.path(), &images, &labels);
                let file = pictures(&path).next().map_or(Ok(path.clone()), |file| file).unwrap();
                let mut bytes = std::fs::read(&file).unwrap();
                for (at, byte) in &changes {
                    let at = at % bytes.len();
                    bytes[at] = *byte;
                }
                if is_cut {
                    bytes.truncate(cut % bytes.len());
                }
                std::fs::write(&file, bytes).unwrap();
                match read(&path) {
                    Ok(found) => prop_assert!(found.len() <= images.len(), "{}", form.title()),
                    Err(error) => prop_assert!(!format!("{error:#}").contains('\n'), "{error:#}"),
                }
            }
        }
    }
}
