//! Zip archives, read within limits.

use anyhow::{Context, Result, ensure};
use std::io::{Cursor, Read};
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};

const DAMAGED: &str = "the archive is damaged or cut short";

/// An open archive. torch puts all records of a file into one folder.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
}

impl<'a> Archive<'a> {
    /// Opens the archive in `bytes`, whose records are in no folder.
    pub(super) fn flat(bytes: &'a [u8]) -> Result<Archive<'a>> {
        // Without this the crate looks for an archive behind other bytes, and mistakes some of torch's files for one.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, Cursor::new(bytes)).context(DAMAGED)?;
        Ok(Archive { zip, folder: String::new() })
    }

    /// Opens the archive in `bytes`, whose records are in the folder that has `marker` at its top.
    pub(super) fn open(bytes: &'a [u8], marker: &str) -> Result<Archive<'a>> {
        let Archive { zip, .. } = Archive::flat(bytes)?;
        let is_folder = |folder: &str| folder.is_empty() || folder.find('/') == Some(folder.len() - 1);
        let folder_of = |name: &str| name.strip_suffix(marker).filter(|folder| is_folder(folder)).map(String::from);
        let folder = zip.file_names().filter_map(Result::ok).find_map(|name| folder_of(&name));
        let folder = folder.with_context(|| format!("the archive has no {marker}"))?;
        Ok(Archive { zip, folder })
    }

    /// Whether `bytes` look like an archive with this record.
    pub(super) fn has(bytes: &[u8], marker: &str) -> bool {
        Archive::open(bytes, marker).is_ok()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{}{name}", self.folder)).is_some()
    }

    /// The names of all records in the archive's folder.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.zip.file_names().filter_map(Result::ok);
        names.filter_map(|name| Some(name.strip_prefix(self.folder.as_str())?.to_string())).collect()
    }

    /// The bytes of a record of at most `limit` bytes.
    pub(super) fn record(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let name = format!("{}{name}", self.folder);
        let damaged = || format!("{DAMAGED} at {}", name.escape_debug());
        let record = self.zip.by_name(&name).with_context(damaged)?;
        let mut bytes = Vec::new();
        // The size that the archive states cannot be trusted: the record may be compressed.
        record.take(limit + 1).read_to_end(&mut bytes).with_context(damaged)?;
        ensure!(bytes.len() as u64 <= limit, "{} in it has more than {limit} bytes", name.escape_debug());
        Ok(bytes)
    }
}
