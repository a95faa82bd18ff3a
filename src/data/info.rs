//! `dataset.json`: what `import` knows about the files that it wrote.

use super::classes::Classes;
use super::idx::Digest;
use crate::files::write_atomically;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const NAME: &str = "dataset.json";

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Info {
    /// The name of the dataset: that of its first source.
    pub(crate) name: String,
    /// The files and folders that it was made of.
    pub(crate) sources: Vec<String>,
    /// What the labels 0, 1, ... stand for.
    pub(crate) classes: Classes,
    pub(crate) train: Counts,
    /// `None` if there is no test set.
    pub(crate) test: Option<Counts>,
    /// The SHA-256 of each IDX file, in hexadecimal, by name.
    pub(crate) files: BTreeMap<String, String>,
}

/// How many images there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) images: usize,
    /// In the order of the classes.
    pub(crate) per_class: Vec<usize>,
}

impl Info {
    pub(crate) fn path(folder: &Path) -> PathBuf {
        folder.join(NAME)
    }

    pub(crate) fn exists(folder: &Path) -> bool {
        Info::path(folder).exists()
    }

    /// `None` if `folder` has none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Info>> {
        let path = Info::path(folder);
        if !path.exists() {
            return Ok(None);
        }
        let read = || -> Result<Info> { Ok(serde_json::from_str(&std::fs::read_to_string(&path)?)?) };
        let info = read().with_context(|| format!("{} is damaged: import the data again", path.display()))?;
        Ok(Some(info))
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        write_atomically(&Info::path(folder), |path| Ok(std::fs::write(path, text)?))
    }

    /// Whether the file of this name is the one that was imported.
    pub(super) fn is_unchanged(&self, name: &str, digest: &Digest) -> bool {
        self.files.get(name) == Some(&digest.sha256)
    }

    /// Refuses a file that is not the one that was imported.
    pub(super) fn check(&self, path: &Path, name: &str, digest: &Digest) -> Result<()> {
        ensure!(
            self.is_unchanged(name, digest),
            "{} is not the file that was imported, as {NAME} beside it says: import the data again, or delete {NAME}",
            path.display()
        );
        Ok(())
    }
}
