//! What a format is, and the list of them.

use crate::contents::Contents;
use crate::input::Input;
use crate::{Array, foreign, formats};
use anyhow::{Result, bail, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A weights format. As JSON it has everything but its functions.
#[derive(Debug, Serialize)]
pub struct Format {
    /// What a file of this format holds, for a message: `state_dict`.
    pub title: &'static str,
    /// The endings of file names that stand for the format when it is written, the usual one first; none if it is only
    /// read.
    pub endings: &'static [&'static str],
    /// What writes such files.
    pub written_by: &'static str,
    /// What one writes such files for.
    pub purpose: &'static str,
    /// How Python opens `file`.
    pub opens_with: &'static str,
    /// What a file of a net keeps of it.
    pub keeps: &'static str,
    /// Whether a file runs without the net's code.
    pub layers: bool,
    /// Whether it has room for the `num_batches_tracked` of BatchNorm, which evaluation does not need.
    pub batch_counts: bool,
    /// The texts that it has room for.
    pub metadata: Room,
    /// Whether `bytes` are a file of this format. The content decides, not the name.
    #[serde(skip)]
    pub recognises: fn(&[u8]) -> bool,
    /// Reads a file. Nothing in it is run.
    #[serde(skip)]
    pub read: fn(&Input) -> Result<Contents>,
    /// The bytes of a file, which depend only on the arguments; `None` if this crate only reads the format.
    #[serde(skip)]
    pub write: Option<Write>,
}

/// Makes a file of named arrays and metadata.
pub type Write = fn(&[(String, Array)], &BTreeMap<String, String>) -> Result<Vec<u8>>;

/// The room that a format has for texts beside the arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Room {
    /// For every text, where a reader looks for them.
    Header,
    /// For files in the archive, which a reader returns on request.
    ExtraFiles,
    /// For 65,535 bytes, in the archive's comment.
    Comment,
    /// None.
    None,
}

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.title == other.title
    }
}

impl Format {
    /// The format that the name of `path` stands for, in capitals too.
    pub fn named(path: &Path) -> Option<&'static Format> {
        let name = path.file_name()?.to_str()?.to_lowercase();
        let fits = |format: &&Format| format.endings.iter().any(|ending| name.ends_with(&format!(".{ending}")));
        formats::FORMATS.into_iter().find(fits)
    }

    /// The format that `bytes` are in.
    pub fn of(bytes: &[u8]) -> Result<&'static Format> {
        ensure!(!bytes.is_empty(), "it is empty");
        if let Some(format) = formats::FORMATS.into_iter().find(|format| (format.recognises)(bytes)) {
            return Ok(format);
        }
        if let Some(what) = foreign::recognise(bytes)? {
            bail!("it is {what}");
        }
        let titles: Vec<&str> = formats::FORMATS.iter().map(|format| format.title).collect();
        bail!("it has none of the formats that are read: {}", titles.join(", "))
    }
}
