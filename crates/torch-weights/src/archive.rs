//! Zip archives, read within limits.

use crate::text::shown;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use zip::read::{ArchiveOffset, Config};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// By default the crate looks for an archive behind other bytes, and mistakes some of torch's files for one.
const CONFIG: Config = Config { archive_offset: ArchiveOffset::Known(0) };

const DAMAGED: &str = "the archive is damaged or cut short";

/// The folder of the records that `torch.jit.load` and `torch.export.load` return as extra files; `torch.load` passes
/// them over.
const EXTRA: &str = "extra/";

/// The most that all extra files of an archive may take, in bytes.
const MAX_EXTRA: u64 = 16 << 20;

/// An open archive. torch puts all records of a file into one folder.
pub(crate) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
}

impl<'a> Archive<'a> {
    /// Opens the archive in `bytes`, whose records are in no folder.
    pub(crate) fn flat(bytes: &'a [u8]) -> Result<Archive<'a>> {
        let zip = ZipArchive::with_config(CONFIG, Cursor::new(bytes)).context(DAMAGED)?;
        Ok(Archive { zip, folder: String::new() })
    }

    /// Opens the archive in `bytes`, whose records are in the folder that has `marker` at its top.
    pub(crate) fn open(bytes: &'a [u8], marker: &str) -> Result<Archive<'a>> {
        let Archive { zip, .. } = Archive::flat(bytes)?;
        let is_folder = |folder: &str| folder.is_empty() || folder.find('/') == Some(folder.len() - 1);
        let folder_of = |name: &str| name.strip_suffix(marker).filter(|folder| is_folder(folder)).map(String::from);
        let folder = zip.file_names().filter_map(Result::ok).find_map(|name| folder_of(&name));
        let folder = folder.with_context(|| format!("the archive has no {marker}"))?;
        Ok(Archive { zip, folder })
    }

    /// Whether `bytes` look like an archive with this record.
    pub(crate) fn has(bytes: &[u8], marker: &str) -> bool {
        Archive::open(bytes, marker).is_ok()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{}{name}", self.folder)).is_some()
    }

    /// The extra files that are text, by name.
    pub(crate) fn extra(&mut self) -> Result<BTreeMap<String, String>> {
        let mut left = MAX_EXTRA;
        let mut extra = BTreeMap::new();
        for record in self.names() {
            let Some(name) = record.strip_prefix(EXTRA) else { continue };
            let bytes = self.record(&record, left)?;
            left -= bytes.len() as u64;
            if let Ok(text) = String::from_utf8(bytes) {
                extra.insert(name.to_string(), text);
            }
        }
        Ok(extra)
    }

    /// The archive's comment.
    pub(crate) fn comment(&self) -> &[u8] {
        self.zip.comment()
    }

    /// The names of all records in the archive's folder.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.zip.file_names().filter_map(Result::ok);
        names.filter_map(|name| Some(name.strip_prefix(self.folder.as_str())?.to_string())).collect()
    }

    /// The bytes of a record of at most `limit` bytes.
    pub(crate) fn record(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let name = format!("{}{name}", self.folder);
        let damaged = || format!("{DAMAGED} at {}", shown(&name));
        let record = self.zip.by_name(&name).with_context(damaged)?;
        let mut bytes = Vec::new();
        // The size that the archive states cannot be trusted: the record may be compressed.
        record.take(limit + 1).read_to_end(&mut bytes).with_context(damaged)?;
        ensure!(bytes.len() as u64 <= limit, "{} in it has more than {limit} bytes", shown(&name));
        Ok(bytes)
    }
}

/// The archive `bytes` with one more extra file, in the folder of the others.
///
/// # Errors
///
/// If `bytes` are no archive, or the text is larger than what is read.
pub fn with_extra(bytes: Vec<u8>, name: &str, text: &str) -> Result<Vec<u8>> {
    ensure!(text.len() as u64 <= MAX_EXTRA, "{EXTRA}{name} would have {} bytes, more than {MAX_EXTRA}", text.len());
    let first = Archive::flat(&bytes)?.names().into_iter().next().context("the archive is empty")?;
    let folder = first.find('/').map_or("", |end| &first[..=end]);
    let mut zip = ZipWriter::new_append_with_config(CONFIG, Cursor::new(bytes))?;
    zip.start_file(format!("{folder}{EXTRA}{name}"), stored())?;
    zip.write_all(text.as_bytes())?;
    Ok(zip.finish()?.into_inner())
}

/// The options of a record as torch writes it: not compressed, and without a time, so that the bytes of the archive
/// depend only on its contents.
pub fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored).last_modified_time(DateTime::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_file_is_read_as_it_was_written() {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("model/data.pkl", stored()).unwrap();
        zip.write_all(b".").unwrap();
        let bytes = with_extra(zip.finish().unwrap().into_inner(), "a.json", "{}").unwrap();
        let mut archive = Archive::open(&bytes, "data.pkl").unwrap();
        assert_eq!(archive.names(), ["data.pkl", "extra/a.json"]);
        assert_eq!(archive.extra().unwrap(), BTreeMap::from([("a.json".to_string(), "{}".to_string())]));
    }
}
