//! Zip archives, read within limits.

use super::{CLASSES, FAMILIARITY, NET};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use zip::read::{ArchiveOffset, Config};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// By default the crate looks for an archive behind other bytes, and mistakes some of torch's files for one.
const CONFIG: Config = Config { archive_offset: ArchiveOffset::Known(0) };

const DAMAGED: &str = "the archive is damaged or cut short";

/// The record with what a prediction needs beside the weights, in JSON. `torch.jit.load` and `torch.export.load` return
/// it as an extra file of this name; `torch.load` passes it over.
const EXTRA: &str = "extra/tch_mnist.json";

/// The largest that is read.
const MAX_EXTRA: u64 = 1 << 20;

/// The metadata that go into it. The others say how the weights came about.
const KEPT: [&str; 3] = [CLASSES, FAMILIARITY, NET];

/// An open archive. torch puts all records of a file into one folder.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
}

impl<'a> Archive<'a> {
    /// Opens the archive in `bytes`, whose records are in no folder.
    pub(super) fn flat(bytes: &'a [u8]) -> Result<Archive<'a>> {
        let zip = ZipArchive::with_config(CONFIG, Cursor::new(bytes)).context(DAMAGED)?;
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

    /// The metadata that [`with_extra`] added.
    pub(super) fn extra(&mut self) -> Result<BTreeMap<String, String>> {
        if !self.contains(EXTRA) {
            return Ok(BTreeMap::new());
        }
        serde_json::from_slice(&self.record(EXTRA, MAX_EXTRA)?).with_context(|| format!("{EXTRA} in it is damaged"))
    }

    /// The archive's comment.
    pub(super) fn comment(&self) -> &[u8] {
        self.zip.comment()
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

/// The archive `bytes`, which has `marker` at the top of its folder, with the metadata that a prediction needs.
pub(super) fn with_extra(bytes: Vec<u8>, marker: &str, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let kept: BTreeMap<_, _> = metadata.iter().filter(|(key, _)| KEPT.contains(&key.as_str())).collect();
    if kept.is_empty() {
        return Ok(bytes);
    }
    let name = format!("{}{EXTRA}", Archive::open(&bytes, marker)?.folder);
    let mut zip = ZipWriter::new_append_with_config(CONFIG, Cursor::new(bytes))?;
    zip.start_file(name, stored())?;
    zip.write_all(&serde_json::to_vec(&kept)?)?;
    Ok(zip.finish()?.into_inner())
}

/// How each record is written: not compressed, and without a time, so that the bytes depend only on the weights.
pub(super) fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored).last_modified_time(DateTime::default())
}
