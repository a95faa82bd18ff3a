//! The four files of a dataset in a folder: found under their usual names, gzipped or not, and checked.

use super::Dataset;
use super::datasets::Checksum;
use super::idx::{self, Digest, FILES, Fault, Header, IdxFile};
use super::info::Info;
use super::{Polarity, sources};
use crate::error::pasted;
use anyhow::{Result, anyhow, bail, ensure};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The folder with the four files: `folder` itself if it holds one of them, or the place below it where torchvision or
/// this program would put the dataset's. If there are none, the last: that is where they are downloaded to.
pub(crate) fn locate(folder: &Path, dataset: Dataset) -> PathBuf {
    let own = folder.join(dataset.to_string());
    let raw = Path::new(dataset.facts().torchvision);
    let places =
        [folder.to_path_buf(), own.clone(), folder.join(raw), folder.join(raw.file_name().unwrap_or_default())];
    let holds_one = |place: &PathBuf| FILES.iter().any(|file| Found::find(place, file).is_some());
    places.into_iter().find(holds_one).unwrap_or(own)
}

/// The usual names of `file`: as published, with a dot for the dash (Windows' unpackers), with `test` for `t10k`, and
/// each with `.gz`. Whether a file is gzipped its content says.
fn names(file: &IdxFile) -> impl Iterator<Item = String> {
    let published = file.name.to_string();
    let renamed = published.replace("t10k-", "test-");
    let both = if renamed == published { vec![published] } else { vec![published, renamed] };
    let dotted = |name: &String| [name.clone(), name.replace("-idx", ".idx")];
    let all: Vec<String> = both.iter().flat_map(dotted).collect();
    all.clone().into_iter().chain(all.into_iter().map(|name| name + ".gz"))
}

/// Which of the [`FILES`] are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Images and labels of the training split.
    Train,
    /// Those of the test split.
    Test,
    /// All four.
    Both,
}

impl Need {
    /// Their places in [`FILES`].
    pub(super) fn files(self) -> Range<usize> {
        match self {
            Need::Train => 0..2,
            Need::Test => 2..4,
            Need::Both => 0..4,
        }
    }
}

/// A file in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub file: IdxFile,
    /// Its path, under whichever of its names it has.
    pub path: PathBuf,
    gzipped: bool,
}

impl Found {
    /// Looks for `file` in `folder`, unpacked first. A dead link does not count.
    pub(crate) fn find(folder: &Path, file: &IdxFile) -> Option<Found> {
        names(file).find_map(|name| {
            let path = folder.join(&name);
            let absent = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
            match std::fs::metadata(&path) {
                Err(error) if absent(&error) => None,
                // Kaggle's archive has each file in a folder of its name.
                Ok(metadata) if metadata.is_dir() && path.join(&name).is_file() => {
                    Some(Found::at(path.join(name), file))
                }
                // A file without permission is found, and refused when it is opened.
                _ => Some(Found::at(path, file)),
            }
        })
    }

    fn at(path: PathBuf, file: &IdxFile) -> Found {
        // Before opening it: opening a pipe would wait for its other end.
        let gzipped =
            path.is_file() && File::open(&path).and_then(|mut file| sources::is_gzipped(&mut file)).unwrap_or(false);
        Found { file: *file, path, gzipped }
    }

    pub(super) fn is_gzipped(&self) -> bool {
        self.gzipped
    }

    /// Checks what is quick to check: see [`idx::open`].
    pub(crate) fn glance(&self) -> Result<Header, Fault> {
        Ok(idx::open(&self.path, self.file.content, self.gzipped)?.1)
    }

    /// Reads the file to its end, checks all of it, and copies it, unpacked, to `output`.
    pub(crate) fn read(&self, output: &mut impl Write) -> Result<Digest, Fault> {
        let (input, _) = idx::open(&self.path, self.file.content, self.gzipped)?;
        if self.gzipped {
            idx::unpack_checked(input, self.file.content, output)
        } else {
            idx::copy_checked(input, self.file.content, output)
        }
    }

    /// One sentence: which file, what is wrong with it, what to do.
    pub(crate) fn refuse(&self, fault: &Fault, place: &Place) -> anyhow::Error {
        let path = self.path.display();
        match fault {
            Fault::Content(_) if Info::exists(&place.folder) => {
                anyhow!("{path} {fault}: delete it and {}", place.remedy())
            }
            Fault::Content(_) => anyhow!(
                "{path} {fault}: delete it and {}, unless it is your own: then `tch-mnist import --help` may help",
                place.remedy()
            ),
            Fault::Read(_) => anyhow!("{path} {fault}: check its permissions and the disk"),
            Fault::Write(_) => anyhow!("{path} {fault}: check the free space on the disk"),
        }
    }
}

/// Where a dataset is looked for.
pub(crate) struct Place<'a> {
    /// The folder that the user named.
    pub given: &'a Path,
    pub dataset: Dataset,
    /// The folder with the files: see [`locate`].
    pub folder: PathBuf,
    /// Whether its images are turned to white on black.
    pub polarity: Polarity,
}

impl<'a> Place<'a> {
    pub(crate) fn new(given: &'a Path, dataset: Dataset) -> Self {
        Self { given, dataset, folder: locate(given, dataset), polarity: Polarity::Border }
    }

    /// The command that downloads the files.
    pub(crate) fn download_command(&self) -> String {
        format!("tch-mnist download --dataset {} --data {}", self.dataset, pasted(self.given))
    }

    /// Whether the data there are the user's own: imported, or in another form.
    pub(super) fn is_own(&self) -> bool {
        Info::exists(&self.folder) || self.refuse_other_forms().is_err()
    }

    /// How a file compares with the one that was imported, or with the published one.
    pub(crate) fn checksum(&self, file: &IdxFile, digest: &Digest) -> Checksum {
        checksum(&self.folder, self.dataset, file, digest)
    }

    /// What to do about a damaged file.
    fn remedy(&self) -> String {
        match Info::exists(&self.folder) {
            true => "import the data again".into(),
            false => format!("run `{}`", self.download_command()),
        }
    }

    /// Refuses a folder, or a file, of data in another form with the command that turns it into IDX files.
    pub(super) fn refuse_other_forms(&self) -> Result<()> {
        let given = self.given;
        if self.folder.is_dir() && FILES.iter().any(|file| Found::find(&self.folder, file).is_some()) {
            return Ok(());
        }
        if let Some(form) = sources::form(given) {
            let mut target = given.with_extension("").into_os_string();
            target.push("-idx");
            let (source, target) = (pasted(given), pasted(Path::new(&target)));
            bail!(
                "--data {source} is {form}, not a folder with the four IDX files: run `tch-mnist import {source} --data \
                 {target}`, then give --data {target}"
            );
        }
        ensure!(!given.is_file(), "--data {} is a file; a folder with the four IDX files is expected", given.display());
        Ok(())
    }

    /// The files that are needed in the order of [`FILES`], each checked quickly.
    pub(crate) fn glance(&self, need: Need) -> Result<Vec<Found>> {
        let (mut counts, mut found) = (Vec::new(), Vec::new());
        for file in &FILES[need.files()] {
            let Some(one) = Found::find(&self.folder, file) else {
                self.refuse_other_forms()?;
                let path = self.folder.join(file.name);
                if Info::exists(&self.folder) {
                    bail!(
                        "{} is missing: the data were imported without it; train with --validation N, or import a test set too",
                        path.display()
                    );
                }
                bail!("{} is missing: run `{}`", path.display(), self.download_command());
            };
            counts.push(one.glance().map_err(|fault| one.refuse(&fault, self))?.count);
            found.push(one);
        }
        for images in (0..found.len()).step_by(2) {
            let labels = images + 1;
            if counts[images] != counts[labels] {
                bail!(
                    "{} declares {} images but {} {} labels; as many labels as images are expected: delete both and {}",
                    found[images].path.display(),
                    counts[images],
                    found[labels].path.display(),
                    counts[labels],
                    self.remedy()
                );
            }
        }
        Ok(found)
    }

    /// Refuses the file of another dataset: all datasets have files of the same names.
    pub(crate) fn refuse_other(&self, path: &Path, checksum: &Checksum) -> Result<()> {
        match checksum {
            Checksum::Of(other) => bail!(
                "{} is the file of {other}, not of {}: give --dataset {other}, or another folder by --data",
                path.display(),
                self.dataset
            ),
            _ => Ok(()),
        }
    }
}

/// The facts about one file.
#[derive(Clone, Debug)]
pub(crate) struct FileReport {
    /// The published name, without `.gz`.
    pub name: &'static str,
    /// Where it was found; with `.gz` if only the gzipped file exists.
    pub path: Option<PathBuf>,
    /// Its length in bytes, unpacked; 0 if it is missing or invalid.
    pub bytes: u64,
    /// How many images or labels it holds; 0 if it is missing or invalid.
    pub count: u64,
    /// Whether it can be used, and whether it is the published one.
    pub checksum: Checksum,
}

/// Reads and checks each of the four files.
pub(crate) fn inspect(folder: &Path, dataset: Dataset) -> Vec<FileReport> {
    let folder = locate(folder, dataset);
    (0..FILES.len()).map(|index| inspect_file(&folder, dataset, index)).collect()
}

/// As [`inspect`], for the file `FILES[index]` in exactly this folder.
pub(crate) fn inspect_file(folder: &Path, dataset: Dataset, index: usize) -> FileReport {
    let found = Found::find(folder, &FILES[index]);
    let (bytes, count, checksum) = match found.as_ref().map(|found| found.read(&mut io::sink())) {
        None => (0, 0, Checksum::Missing),
        Some(Err(fault)) => (0, 0, Checksum::Invalid(fault.to_string())),
        Some(Ok(digest)) => (digest.length, digest.count, checksum(folder, dataset, &FILES[index], &digest)),
    };
    FileReport { name: FILES[index].name, path: found.map(|found| found.path), bytes, count, checksum }
}

/// How a file in `folder` compares with the one that was imported, or with the published one.
fn checksum(folder: &Path, dataset: Dataset, file: &IdxFile, digest: &Digest) -> Checksum {
    match Info::read(folder) {
        Ok(Some(info)) if info.is_unchanged(file.name, digest) => Checksum::Imported,
        Ok(Some(_)) => Checksum::Invalid("is not the file that was imported".into()),
        Ok(None) => dataset.compare(file, digest),
        Err(error) => Checksum::Invalid(error.to_string()),
    }
}
