//! Data of any form, turned into the four IDX files and a `dataset.json`.

use super::classes::Classes;
use super::datasets::Checksum;
use super::folder::Found;
use super::idx::{self, Content, Digest, FILES, IdxFile, MAX_COUNT};
use super::info::{Counts, Info};
use super::sources::{self, Image, Portion, Record};
use super::{Dataset, Part, Polarity, holdout, settle, tone};
use crate::digit::{self, Digit};
use crate::error::{UsageError, sentence, without_panic};
use crate::files::write_atomically;
use crate::shape::{CLASSES, SIDE};
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Images that are decoded together, on all cores.
const BATCH: usize = 512;

/// What to import.
pub(crate) struct Import<'a> {
    pub(crate) sources: &'a [PathBuf],
    /// Sources of the test set alone.
    pub(crate) test: &'a [PathBuf],
    /// The share of the images, 0 to 1, that becomes the test set if the sources have none.
    pub(crate) test_share: f64,
    /// Chooses them.
    pub(crate) seed: i64,
    /// Whether rows and columns of all images are exchanged.
    pub(crate) transpose: bool,
    /// Whether pictures that cannot be read are left out.
    pub(crate) skip_unreadable: bool,
    /// Whether images are turned to white on black.
    pub(crate) polarity: Polarity,
}

/// The sources, opened.
pub(crate) struct Opened<'a> {
    import: &'a Import<'a>,
    portions: Vec<Portion>,
}

/// Images and their labels.
#[derive(Default)]
pub(crate) struct Pile {
    images: Vec<Digit>,
    /// Places in the list of all labels.
    labels: Vec<i64>,
}

/// Everything that was read.
pub(crate) struct Imported {
    pub(crate) train: Pile,
    pub(crate) test: Pile,
    pub(crate) classes: Classes,
    /// The pictures that were left out, each with the reason.
    pub(crate) left_out: Vec<String>,
}

impl<'a> Import<'a> {
    /// Opens all sources and checks what can be checked before they are read.
    pub(crate) fn open(&'a self) -> Result<Opened<'a>> {
        let mut portions = Vec::new();
        for source in self.sources {
            portions.extend(labelled(source, None)?);
        }
        for source in self.test {
            portions.extend(labelled(source, Some(Part::Test))?);
        }
        ensure!(!portions.is_empty(), "the sources hold no images with labels");
        let has = |part| portions.iter().any(|portion| portion.part == Some(part));
        // Images for validation are the test set if there is no other, else training images.
        let validation = if has(Part::Test) { Part::Train } else { Part::Test };
        for portion in portions.iter_mut().filter(|portion| portion.part == Some(Part::Validation)) {
            portion.part = Some(validation);
        }
        // A single source that is named after the test set is still all there is to train on.
        if portions.iter().all(|portion| portion.part == Some(Part::Test)) && self.test.is_empty() {
            portions.iter_mut().for_each(|portion| portion.part = None);
        }
        Ok(Opened { import: self, portions })
    }
}

/// The portions of `source` that have labels, as `part` if that is given.
fn labelled(source: &Path, part: Option<Part>) -> Result<Vec<Portion>> {
    let mut portions = sources::open(source)?;
    for portion in &mut portions {
        portion.part = part.or(portion.part);
        if !portion.labelled {
            let path = portion.path.display();
            ensure!(
                source.is_dir(),
                "{path} has no labels: there is nothing to learn from it; `tch-mnist predict` takes it"
            );
            tracing::warn!("{path} has no labels and is left out; `tch-mnist predict` takes it");
        }
    }
    portions.retain(|portion| portion.labelled);
    Ok(portions)
}

impl Opened<'_> {
    /// How many images there are, if all sources say so.
    pub(crate) fn count(&self) -> Option<u64> {
        self.portions.iter().map(|portion| portion.count).sum()
    }

    /// Reads all images; `progress` is called with the number of those that were read since the last call.
    pub(crate) fn read(mut self, progress: impl Fn(u64)) -> Result<Imported> {
        let mut names = Names::default();
        let (mut train, mut test, mut left_out) = (Pile::default(), Pile::default(), Vec::new());
        let has_test = self.portions.iter().any(Portion::is_test);
        // The classes are those of the training images.
        self.portions.sort_by_key(Portion::is_test);
        for portion in self.portions {
            names.known(&portion)?;
            let pile = if portion.is_test() { &mut test } else { &mut train };
            let path = portion.path.clone();
            let unreadable = pile
                .add(portion, self.import, &mut names, &progress)
                .with_context(|| format!("{} cannot be imported", path.display()))?;
            left_out.extend(unreadable);
        }
        ensure!(!train.labels.is_empty(), "the sources hold no image to train on");
        names.refuse_one_class(&train)?;
        for (pile, whose) in [(&train, "the training images"), (&test, "the test images")] {
            tone::refuse_blank(&pile.images, whose)?;
        }
        let classes = names.number(&mut [&mut train, &mut test])?;
        if !has_test {
            (train, test) = train.share(self.import.test_share, self.import.seed)?;
        }
        Ok(Imported { train, test, classes, left_out })
    }
}

/// The labels in the order in which they were met.
#[derive(Default)]
struct Names {
    all: Vec<String>,
    places: HashMap<String, i64>,
    /// The names in the order that a source has.
    order: Option<Vec<String>>,
    /// How many of all are of training images, once test images are read.
    trained: Option<usize>,
}

impl Names {
    /// Notes the classes that a source names.
    fn known(&mut self, portion: &Portion) -> Result<()> {
        if portion.is_test() {
            self.trained.get_or_insert(self.all.len());
        }
        if let Some(classes) = &portion.classes {
            let same = self.order.as_ref().is_none_or(|order| order == classes);
            ensure!(same, "{} names other classes than the source before it", portion.path.display());
            self.order = Some(Classes::new(classes.clone()).map(|_| classes.clone())?);
        }
        Ok(())
    }

    fn place(&mut self, label: String) -> Result<i64> {
        if let Some(place) = self.places.get(&label) {
            return Ok(*place);
        }
        self.all.push(label.clone());
        if let Some(trained) = self.trained {
            self.check_untrained(&label, &self.all[..trained])?;
        }
        if self.all.len() > CLASSES {
            bail!(
                "{label} is the eleventh class after {}; at most {CLASSES} are possible",
                self.all[..CLASSES].join(", ")
            );
        }
        let place = self.places.len() as i64;
        self.places.insert(label, place);
        Ok(place)
    }

    /// Refuses a class of test images that no training image is of, unless it is a digit or the source names it: it is
    /// called otherwise there.
    fn check_untrained(&self, label: &String, trained: &[String]) -> Result<()> {
        let is_named = self.order.as_ref().is_some_and(|order| order.contains(label));
        ensure!(
            is_named || Classes::are_names_of_digits(&self.all),
            "its class {label} is none of those of the training images, {}: name the classes alike",
            trained.join(", ")
        );
        tracing::warn!("there are test images of the class {label}, but no training images");
        Ok(())
    }

    /// Replaces the places in `piles` by labels: digits as they are, else the source's own order, or the names sorted.
    fn number(self, piles: &mut [&mut Pile]) -> Result<Classes> {
        let classes = match self.order {
            Some(order) if !Classes::are_names_of_digits(&order) => Classes::new(order)?,
            Some(order) => Classes::ordered(order)?,
            None => Classes::ordered(self.all.clone())?,
        };
        let number = |name: &String| classes.position(name).map(|at| at as i64);
        let numbers: Option<Vec<i64>> = self.all.iter().map(number).collect();
        let numbers = numbers.context("one source names its classes, another has other labels")?;
        for pile in piles {
            pile.labels.iter_mut().for_each(|label| *label = numbers[*label as usize]);
        }
        Ok(classes)
    }

    /// Refuses images of one class: a net that knows no other is always right.
    fn refuse_one_class(&self, train: &Pile) -> Result<()> {
        let first = train.labels[0];
        ensure!(
            train.labels.iter().any(|label| *label != first),
            "all images to train on are of one class, {}: at least two are needed; the label is expected in a column label, in \
             an array y_train, or as the folder that a picture is in",
            self.all[first as usize]
        );
        Ok(())
    }
}

impl Pile {
    /// Reads and decodes the images of `portion` in their order. Returns the pictures that are left out.
    fn add(
        &mut self,
        portion: Portion,
        import: &Import,
        names: &mut Names,
        progress: &impl Fn(u64),
    ) -> Result<Vec<String>> {
        let transpose = import.transpose || portion.transposed;
        let (mut records, mut left_out, mut unchanged) = (portion.records, Vec::new(), Vec::new());
        loop {
            let batch: Vec<Record> = records.by_ref().take(BATCH).collect::<Result<_>>()?;
            if batch.is_empty() {
                settle(self.chosen(&unchanged), import.polarity, &portion.path.display().to_string())?;
                return Ok(left_out);
            }
            progress(batch.len() as u64);
            let decoded: Vec<Result<Decoded>> = batch.par_iter().map(decoded).collect();
            for (record, digit) in batch.into_iter().zip(decoded) {
                let digit = match digit.with_context(|| record.place.clone()) {
                    Err(error) if import.skip_unreadable && record.image.is_picture() => {
                        left_out.push(sentence(&error));
                        continue;
                    }
                    Err(error) if record.image.is_picture() => {
                        bail!("{}; --skip-unreadable leaves such pictures out", sentence(&error));
                    }
                    digit => digit?,
                };
                let label = record.label.with_context(|| format!("{} has no label", record.place))?;
                if digit.is_unchanged {
                    unchanged.push(self.labels.len());
                }
                self.labels.push(names.place(label).with_context(|| record.place.clone())?);
                self.images.push(if transpose { transposed(&digit.pixels) } else { digit.pixels });
            }
            ensure!(self.labels.len() as u64 <= MAX_COUNT, "there are more than {MAX_COUNT} images");
        }
    }

    /// The images at `places`, which ascend.
    fn chosen(&mut self, places: &[usize]) -> Vec<&mut Digit> {
        let mut places = places.iter().peekable();
        let images = self.images.iter_mut().enumerate();
        images.filter_map(|(at, image)| places.next_if(|place| **place == at).map(|_| image)).collect()
    }

    /// Divides the pile into training and test images: `share` of each class goes to the test set.
    fn share(self, share: f64, seed: i64) -> Result<(Pile, Pile)> {
        let count = (share * self.labels.len() as f64).round() as i64;
        if count == 0 {
            return Ok((self, Pile::default()));
        }
        ensure!((count as usize) < self.labels.len(), "--test-share {share} leaves no image to train on");
        let (train, test) = holdout::split(&self.labels, count, seed)?;
        Ok((self.select(&train), self.select(&test)))
    }

    fn select(&self, indices: &[i64]) -> Pile {
        let indices = || indices.iter().map(|&index| index as usize);
        Pile {
            images: indices().map(|k| self.images[k]).collect(),
            labels: indices().map(|k| self.labels[k]).collect(),
        }
    }

    /// Writes its images or its labels, and returns the SHA-256 of the file.
    fn write(&self, file: &IdxFile, path: &Path) -> Result<String> {
        let labels: Vec<u8> = self.labels.iter().map(|&label| label as u8).collect();
        let items = if file.content == Content::Images { self.images.as_flattened() } else { &labels };
        let mut bytes = Vec::with_capacity(file.content.header_length() + items.len());
        idx::write(file.content, items, &mut bytes)?;
        write_atomically(path, |path| Ok(std::fs::write(path, &bytes)?))?;
        Ok(idx::hex(Sha256::new_with_prefix(&bytes)))
    }

    fn counts(&self, classes: usize) -> Counts {
        let mut per_class = vec![0; classes];
        self.labels.iter().for_each(|&label| per_class[label as usize] += 1);
        Counts { images: self.labels.len(), per_class }
    }

    /// The first images of each class in turn, `columns` of each, and the class; where a class has too few, none.
    pub(crate) fn sheet(&self, classes: &Classes, columns: usize) -> Vec<Vec<&[u8]>> {
        let mut rows = vec![Vec::new(); classes.count()];
        for (image, &label) in self.images.iter().zip(&self.labels) {
            let row = &mut rows[label as usize];
            if row.len() < columns {
                row.push(&image[..]);
            }
        }
        rows
    }
}

/// Refuses to import over data that are in `folder` already.
pub(crate) fn refuse_existing(folder: &Path) -> Result<()> {
    let existing = FILES.iter().find_map(|file| Found::find(folder, file));
    if let Some(existing) = existing {
        bail!(UsageError(format!(
            "--data {}: there is data already ({}): choose another folder, or replace it by --force",
            folder.display(),
            existing.path.file_name().unwrap_or_default().display()
        )));
    }
    Ok(())
}

/// The image of a record.
#[derive(Clone, Copy)]
pub(crate) struct Decoded {
    pub(crate) pixels: Digit,
    /// Whether the source has these pixels. A picture of another size was made white on black.
    pub(crate) is_unchanged: bool,
}

/// The image of a record: a picture as `predict` reads one digit.
pub(crate) fn decoded(record: &Record) -> Result<Decoded> {
    // A decoder's mistake must not end the program with a panic.
    let (pixels, is_unchanged) = without_panic(|| match &record.image {
        Image::Pixels(digit) => Ok((**digit, true)),
        Image::Encoded(bytes) => Ok(digit::read_as_it_is(bytes)?),
        Image::File(path) => Ok(digit::read_as_it_is(&std::fs::read(path)?)?),
        Image::Broken(why) => bail!("{why}"),
    })?;
    Ok(Decoded { pixels, is_unchanged })
}

/// Rows for columns.
fn transposed(digit: &Digit) -> Digit {
    std::array::from_fn(|k| digit[k % SIDE * SIDE + k / SIDE])
}

impl Imported {
    /// Writes the files and `dataset.json` into `folder`; without test images, no test files.
    pub(crate) fn write(&self, folder: &Path, sources: &[&Path]) -> Result<Info> {
        std::fs::create_dir_all(folder).with_context(|| format!("--data {} cannot be made", folder.display()))?;
        let mut files = BTreeMap::new();
        for (k, file) in FILES.iter().enumerate() {
            let pile = if k < 2 { &self.train } else { &self.test };
            // An earlier import, or other files of this name: they were to be replaced.
            while let Some(old) = Found::find(folder, file).filter(|old| old.path != folder.join(file.name)) {
                remove(&old.path)?;
            }
            let path = folder.join(file.name);
            if pile.labels.is_empty() {
                if path.exists() {
                    remove(&path)?;
                }
                continue;
            }
            files.insert(file.name.to_string(), pile.write(file, &path)?);
        }
        let (name, classes) = self.identity(&files, sources);
        let counts = |pile: &Pile| pile.counts(classes.count());
        let (train, test) = (counts(&self.train), (!self.test.labels.is_empty()).then(|| counts(&self.test)));
        let sources = sources.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        let info = Info { name, sources, classes, train, test, files };
        info.write(folder)?;
        Ok(info)
    }

    /// The name and the classes: those of a published dataset if these are its files, else the first source's.
    fn identity(&self, files: &BTreeMap<String, String>, sources: &[&Path]) -> (String, Classes) {
        let is_published = |dataset: &Dataset| {
            FILES.iter().filter_map(|file| Some((file, files.get(file.name)?))).all(|(file, sha256)| {
                let digest = Digest { sha256: sha256.clone(), gzip_sha256: None, count: 0, length: 0 };
                dataset.compare(file, &digest) == Checksum::Ok
            })
        };
        let first = sources.first().and_then(|path| path.file_stem()).unwrap_or_default();
        match Dataset::all().find(is_published) {
            Some(dataset) => (dataset.facts().title.to_string(), Classes::of(dataset)),
            None => (first.to_string_lossy().into_owned(), self.classes.clone()),
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).with_context(|| format!("{} cannot be removed", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a 28x28 picture with a bar at a height that tells its class.
    fn put(path: &Path, class: usize, paper: u8, ink: u8) {
        let mut image = [paper; SIDE * SIDE];
        image[SIDE * (4 + 2 * class)..][6..22].fill(ink);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, [b"P5 28 28 255\n".as_slice(), &image].concat()).unwrap();
    }

    fn import(folder: &Path, skip_unreadable: bool) -> Result<Imported> {
        let sources = [folder.to_path_buf()];
        let import = Import {
            sources: &sources,
            test: &[],
            test_share: 0.0,
            seed: 1,
            transpose: false,
            skip_unreadable,
            polarity: Polarity::Border,
        };
        import.open()?.read(|_| {})
    }

    /// A folder with these pictures, each with its brightness of paper and ink.
    fn pictures(pictures: &[(&str, u8, u8)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (k, &(name, paper, ink)) in pictures.iter().enumerate() {
            put(&folder.path().join(format!("{name}/{k}.pgm")), k % 10, paper, ink);
        }
        folder
    }

    fn refusal(folder: &Path) -> String {
        sentence(&import(folder, false).err().unwrap()).replace(folder.to_str().unwrap(), "DIR")
    }

    #[test]
    fn pictures_of_every_tone_are_imported_white_on_black() {
        for (paper, ink) in [(0, 1), (1, 0), (0, 255), (120, 0), (255, 0), (0, 90)] {
            let folder = pictures(&[("3", paper, ink), ("4", paper, ink), ("3", paper, ink)]);
            let imported = import(folder.path(), false).unwrap();
            for image in &imported.train.images {
                assert_eq!(image.iter().filter(|byte| **byte == 255).count(), 16, "{ink} on {paper}");
                assert_eq!(image.iter().filter(|byte| **byte == 0).count(), 28 * 28 - 16, "{ink} on {paper}");
            }
        }
        let folder = pictures(&[("3", 0, 9), ("4", 0, 9)]);
        assert!(
            refusal(folder.path()).contains("DIR cannot be imported: its pixels go from 0 to 9; 0 to 255"),
            "{}",
            refusal(folder.path())
        );
    }

    #[test]
    fn a_dataset_that_shows_nothing_is_refused() {
        for brightness in [0, 255] {
            let folder = pictures(&[("3", brightness, brightness), ("4", brightness, brightness)]);
            assert!(refusal(folder.path()).starts_with("the training images: each image is of one colour"));
        }
    }

    #[test]
    fn test_images_are_of_the_classes_of_the_training_images() {
        let of = |train: [&str; 2], test: [&str; 2]| {
            let names = [format!("train/{}", train[0]), format!("train/{}", train[1])];
            let tests = [format!("test/{}", test[0]), format!("test/{}", test[1])];
            pictures(&[(&names[0], 0, 255), (&names[1], 0, 255), (&tests[0], 0, 255), (&tests[1], 0, 255)])
        };
        assert_eq!(
            refusal(of(["3", "4"], ["three", "four"]).path()),
            "DIR/test cannot be imported: four/3.pgm: its class four is none of those of the training images, 3, 4: name \
             the classes alike"
        );
        assert_eq!(
            refusal(of(["cat", "dog"], ["Cat", "dog"]).path()),
            "DIR/test cannot be imported: Cat/2.pgm: its class Cat is none of those of the training images, cat, dog: name the \
             classes alike"
        );
        assert_eq!(import(of(["3", "4"], ["4", "5"]).path(), false).unwrap().test.labels, [4, 5]);
        assert_eq!(import(of(["cat", "dog"], ["dog", "dog"]).path(), false).unwrap().test.labels, [1, 1]);
    }

    #[test]
    fn links_that_lead_nowhere_are_left_out_if_asked_to() {
        let folder = pictures(&[("3", 0, 255), ("4", 0, 255)]);
        std::os::unix::fs::symlink("/nowhere/old.png", folder.path().join("3/old.png")).unwrap();
        assert_eq!(
            refusal(folder.path()),
            "DIR cannot be imported: 3/old.png: it is a link to a file that is missing; --skip-unreadable leaves such pictures out"
        );
        std::os::unix::fs::symlink(folder.path(), folder.path().join("4/again")).unwrap();
        let imported = import(folder.path(), true).unwrap();
        assert_eq!(imported.train.labels, [3, 4]);
        assert_eq!(
            imported.left_out,
            ["3/old.png: it is a link to a file that is missing", "4/again: it is a link to a folder that it lies in"]
        );
    }
}
