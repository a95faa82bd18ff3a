//! tch's loader on files that were checked: it trusts their headers, and wants all four, unpacked, under their published
//! names.

use super::folder::{Found, Place};
use super::idx::{self, Content, Digest, FILES};
use crate::files::write_atomically;
use crate::shape::PIXELS;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use tch::vision::dataset::Dataset;
use tch::vision::mnist::load_dir;
use tch::{Kind, Tensor};

/// Files that were read: what tch makes of them, and a digest of each.
pub(super) struct Loaded {
    pub(super) files: Vec<(Found, Digest)>,
    /// Images float32 [N, 784] from 0 to 1, labels int64 [N]. A part that was not needed has one black image.
    pub(super) dataset: Dataset,
}

/// Checks `files`, which [`Place::glance`] found, and reads them by tch's loader.
///
/// Each gzipped file is also unpacked beside itself, so that the next start need not do it again; where that fails, as in a
/// read-only folder, it is unpacked into a temporary folder.
///
/// # Errors
///
/// One sentence that names the file that is damaged, or what cannot be written.
pub(super) fn load(place: &Place, files: Vec<Found>) -> Result<Loaded> {
    let mut temporary = Temporary::default();
    let mut prepared = Vec::new();
    for found in files {
        prepared.push(match found.is_gzipped() {
            true => unpack(found, place, &mut temporary)?,
            false => Prepared { unpacked: found.path.clone(), found, digest: None },
        });
    }
    let folder = folder_for_tch(place, &prepared, &mut temporary)?;
    // The header and the length of these files were checked, so tch can read them while the rest is.
    let (dataset, files) = thread::scope(|scope| {
        let checks = scope.spawn(|| prepared.into_iter().map(|file| file.checked(place)).collect::<Result<Vec<_>>>());
        let dataset = load_dir(&folder);
        (dataset, checks.join().expect("a check does not panic"))
    });
    let files = files?;
    let dataset = dataset.with_context(|| format!("{} cannot be read by tch's loader", folder.display()))?;
    Ok(Loaded { files, dataset })
}

/// The pixels of images as tch's loader makes them, float32 [N, 784] from 0 to 1.
pub(super) fn bytes(images: &Tensor) -> Result<Vec<u8>> {
    Ok(Vec::try_from(images.f_mul_scalar(255.0)?.f_round()?.f_to_kind(Kind::Uint8)?.f_reshape([-1])?)?)
}

/// A file that lies somewhere unpacked.
struct Prepared {
    found: Found,
    unpacked: PathBuf,
    /// If all of it was checked already.
    digest: Option<Digest>,
}

impl Prepared {
    /// Checks all of the file, if that was not done yet.
    fn checked(self, place: &Place) -> Result<(Found, Digest)> {
        let digest = match self.digest {
            Some(digest) => digest,
            None => self.found.read(&mut io::sink()).map_err(|fault| self.found.refuse(&fault, place))?,
        };
        Ok((self.found, digest))
    }
}

/// A folder that is made when it is needed, and removed in the end.
#[derive(Default)]
struct Temporary(Option<tempfile::TempDir>);

impl Temporary {
    fn path(&mut self) -> Result<&Path> {
        if self.0.is_none() {
            let cannot =
                || format!("no temporary folder can be made in {}: set TMPDIR", std::env::temp_dir().display());
            self.0 = Some(tempfile::tempdir().with_context(cannot)?);
        }
        Ok(self.0.as_ref().expect("it was just made").path())
    }
}

/// Unpacks a gzipped file beside itself, or into a temporary folder, and checks it on the way.
fn unpack(found: Found, place: &Place, temporary: &mut Temporary) -> Result<Prepared> {
    let beside = place.folder.join(found.file.name);
    if fs::symlink_metadata(&beside).is_err() {
        let mut digest = None;
        let written = write_atomically(&beside, |path| {
            digest = Some(found.read(&mut File::create(path)?)?);
            Ok(())
        });
        match written {
            Ok(()) => {
                tracing::info!("unpacked {}", found.path.display());
                return Ok(Prepared { found, unpacked: beside, digest });
            }
            Err(error) => tracing::debug!("{} stays gzipped: {error:#}", found.path.display()),
        }
    }
    let unpacked = temporary.path()?.join(found.file.name);
    let cannot = || format!("{} cannot be unpacked to {}", found.path.display(), unpacked.display());
    let mut output = File::create(&unpacked).with_context(cannot)?;
    let digest = found.read(&mut output).map_err(|fault| found.refuse(&fault, place))?;
    Ok(Prepared { found, unpacked, digest: Some(digest) })
}

/// A folder with all four files under their published names: that of the dataset itself, or a temporary one with links to
/// those that are needed, and a file of one item for each of the others.
fn folder_for_tch(place: &Place, files: &[Prepared], temporary: &mut Temporary) -> Result<PathBuf> {
    let is_in_place = |file: &Prepared| file.unpacked == place.folder.join(file.found.file.name);
    if files.len() == FILES.len() && files.iter().all(is_in_place) {
        return Ok(place.folder.clone());
    }
    let folder = temporary.path()?.to_path_buf();
    for file in &FILES {
        let path = folder.join(file.name);
        let cannot = || format!("{} cannot be written", path.display());
        match files.iter().find(|prepared| prepared.found.file == *file) {
            Some(prepared) if prepared.unpacked == path => {}
            Some(prepared) => link(&prepared.unpacked, &path).with_context(cannot)?,
            None => stand_in(file.content, &path).with_context(cannot)?,
        }
    }
    Ok(folder)
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(fs::canonicalize(from)?, to)
}

/// A file with one black image, or its label.
fn stand_in(content: Content, path: &Path) -> io::Result<()> {
    let item: &[u8] = match content {
        Content::Images => &[0; PIXELS],
        Content::Labels => &[0],
    };
    idx::write(content, item, &mut File::create(path)?)
}
