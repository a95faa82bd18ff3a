//! A prediction as a line of stdout.

use crate::predict::Reading;
use crate::run_folder;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::path::Path;

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
    /// Kaggle's form: a row per image, numbered from 1 in its file; the file's name for a picture
    Csv,
}

impl Format {
    /// The first line.
    pub(super) fn header(self) -> Option<&'static str> {
        (self == Format::Csv).then_some("ImageId,Label")
    }

    /// The line on the picture `path`, or on the image at `index` in it.
    pub(super) fn line(self, reading: &Reading, path: &Path, index: Option<usize>) -> Result<String> {
        match self {
            Format::Text => {
                let index = index.map_or(String::new(), |index| format!("[{index}]"));
                Ok(format!("{}{index}: {}", path.display(), reading.words()))
            }
            // JSON has no form for a name that is not UTF-8.
            Format::Json => run_folder::line("prediction", &reading.object(&path.to_string_lossy(), index)),
            Format::Csv => row(path, index, &reading.number()),
        }
    }
}

fn row(path: &Path, index: Option<usize>, label: &str) -> Result<String> {
    let id = index.map_or_else(|| path.to_string_lossy().into_owned(), |index| (index + 1).to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([id.as_str(), label])?;
    let row = String::from_utf8(writer.into_inner().context("a row cannot be written")?)?;
    Ok(row.trim_end().to_string())
}
