//! A prediction as lines of stdout.

use super::inputs::Input;
use crate::predict::Reading;
use crate::run_folder;
use anyhow::{Context, Result};
use clap::ValueEnum;

/// The output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
    /// Kaggle's form: a row per image, numbered from 1 on over all files; the file's name for a picture
    Csv,
}

impl Format {
    /// The first line.
    pub(super) fn header(self) -> Option<&'static str> {
        (self == Format::Csv).then_some("ImageId,Label")
    }

    /// The lines on a page of a picture, or on an image of a file of many.
    pub(super) fn lines(self, reading: &Reading, input: &Input) -> Result<Vec<String>> {
        match self {
            Format::Text => Ok(text(reading, input)),
            Format::Json => {
                // JSON has no form for a name that is not UTF-8.
                let file = input.path.to_string_lossy();
                Ok(vec![run_folder::line("prediction", &reading.object(&file, input.place))?])
            }
            Format::Csv => Ok(vec![row(reading, input)?]),
        }
    }
}

/// A line for each line of the page.
fn text(reading: &Reading, input: &Input) -> Vec<String> {
    let words: Vec<String> = reading.words().collect();
    let name = input.name();
    let several = words.len() > 1;
    let line = |(k, words): (usize, String)| {
        if several { format!("{name} line {}: {words}", k + 1) } else { format!("{name}: {words}") }
    };
    words.into_iter().enumerate().map(line).collect()
}

/// Kaggle takes classes alone: an image of a file of many has one even if it looks like none.
fn row(reading: &Reading, input: &Input) -> Result<String> {
    let (id, label) = match input.id {
        Some(id) => (id.to_string(), reading.class()),
        None => (input.name(), reading.label()),
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([id, label])?;
    let row = String::from_utf8(writer.into_inner().context("a row cannot be written")?)?;
    Ok(row.trim_end().to_string())
}
