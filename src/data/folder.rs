//! The four files of a dataset in a folder: found, gzipped or not, checked, and made ready for tch's loader.

use super::Dataset;
use super::datasets::Checksum;
use super::idx::{self, Digest, FILES, Fault, Header, IdxFile};
use anyhow::{Context, Result, anyhow, bail};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The folder with the four files: `folder` itself if it holds one of them, gzipped or not, else `folder/<dataset>`.
pub(crate) fn locate(folder: &Path, dataset: Dataset) -> PathBuf {
    let here = FILES.iter().any(|file| Found::find(folder, file).is_some());
    if here { folder.to_path_buf() } else { folder.join(dataset.to_string()) }
}

/// A file in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    file: IdxFile,
    /// Its path, with `.gz` if only the gzipped file exists.
    pub path: PathBuf,
    gzipped: bool,
}

impl Found {
    /// Looks for `file` in `folder`, unpacked first. A dead link does not count.
    pub(crate) fn find(folder: &Path, file: &IdxFile) -> Option<Found> {
        [(file.name.to_string(), false), (format!("{}.gz", file.name), true)].into_iter().find_map(|(name, gzipped)| {
            let path = folder.join(name);
            let absent = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
            match std::fs::metadata(&path) {
                Err(error) if absent(&error) => None,
                // A file without permission is found, and refused when it is opened.
                _ => Some(Found { file: *file, path, gzipped }),
            }
        })
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
            Fault::Content(_) => anyhow!("{path} {fault}: delete it and run `{}`", place.download_command()),
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
}

impl<'a> Place<'a> {
    pub(crate) fn new(given: &'a Path, dataset: Dataset) -> Self {
        Self { given, dataset, folder: locate(given, dataset) }
    }

    /// The command that downloads the files.
    pub(crate) fn download_command(&self) -> String {
        format!("tch-mnist download --dataset {} --data {}", self.dataset, self.given.display())
    }

    /// The four files in the order of [`FILES`], each checked quickly.
    pub(crate) fn glance(&self) -> Result<Vec<Found>> {
        let mut counts = Vec::new();
        let mut found = Vec::new();
        for file in &FILES {
            let Some(one) = Found::find(&self.folder, file) else {
                let path = self.folder.join(file.name);
                bail!("{} is missing: run `{}`", path.display(), self.download_command());
            };
            counts.push(one.glance().map_err(|fault| one.refuse(&fault, self))?.count);
            found.push(one);
        }
        for split in [0, 2] {
            if counts[split] != counts[split + 1] {
                bail!(
                    "{} announces {} images but {} {} labels; as many labels as images are expected: delete both and run `{}`",
                    found[split].path.display(),
                    counts[split],
                    found[split + 1].path.display(),
                    counts[split + 1],
                    self.download_command()
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
        Some(Ok(digest)) => (digest.length, digest.count, dataset.compare(index, &digest)),
    };
    FileReport { name: FILES[index].name, path: found.map(|found| found.path), bytes, count, checksum }
}

/// Four checked files, unpacked and together in one folder, as tch's loader wants them.
pub(super) struct Ready {
    /// The folder to load from.
    pub folder: PathBuf,
    /// In the order of [`FILES`].
    pub digests: Vec<Digest>,
    /// Holds links and unpacked files if the folder itself is read-only.
    _temporary: Option<TempDir>,
}

impl Ready {
    /// Checks all four files to their last byte and unpacks those that are gzipped: beside themselves, or into a
    /// temporary folder if theirs is read-only.
    pub(super) fn new(place: &Place) -> Result<Ready> {
        let found = place.glance()?;
        let writable = found.iter().all(|one| !one.gzipped) || tempfile::tempfile_in(&place.folder).is_ok();
        let temporary = match writable {
            true => None,
            false => {
                Some(tempfile::tempdir().context("a temporary folder for the unpacked data files cannot be created")?)
            }
        };
        let folder = temporary.as_ref().map_or(place.folder.clone(), |temporary| temporary.path().to_path_buf());
        let mut digests = Vec::new();
        for one in &found {
            let path = folder.join(one.file.name);
            let digest = if one.gzipped {
                tracing::info!("unpacking {}", one.path.display());
                unpack(one, place, &path)?
            } else {
                if temporary.is_some() {
                    std::fs::canonicalize(&one.path)
                        .and_then(|original| std::os::unix::fs::symlink(original, &path))
                        .with_context(|| format!("{} cannot be linked", path.display()))?;
                }
                one.read(&mut io::sink()).map_err(|fault| one.refuse(&fault, place))?
            };
            digests.push(digest);
        }
        Ok(Ready { folder, digests, _temporary: temporary })
    }
}

/// Unpacks one file to `path` with [`write_atomically`](crate::files::write_atomically).
fn unpack(one: &Found, place: &Place, path: &Path) -> Result<Digest> {
    let mut result = None;
    let written = crate::files::write_atomically(path, |temporary| {
        let mut output = File::create(temporary)?;
        result = Some(one.read(&mut output));
        match &result {
            Some(Err(fault)) => bail!("{fault}"),
            _ => Ok(()),
        }
    });
    // A fault of the file says more than that its copy could not be written.
    match result {
        Some(Err(fault)) => Err(one.refuse(&fault, place)),
        Some(Ok(digest)) => written.map(|()| digest),
        None => Err(written.err().unwrap_or_else(|| anyhow!("{} cannot be written", path.display()))),
    }
}
