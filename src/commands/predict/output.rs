//! A prediction as a line of stdout.

use super::inputs::Input;
use crate::data::Classes;
use crate::predict::Prediction;
use crate::run_folder;
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

/// The form of what is printed.
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
}

/// What is known about one image.
pub(super) struct Line<'a> {
    pub(super) input: &'a Input,
    pub(super) prediction: &'a Prediction,
    pub(super) classes: &'a Classes,
}

impl Line<'_> {
    pub(super) fn text(&self, format: Format) -> Result<String> {
        match format {
            Format::Text => Ok(self.words()),
            Format::Json => self.json(),
            Format::Csv => self.csv(),
        }
    }

    /// `three.png: 3 99.98%, 8 0.01%`, or `test.csv[17]: ...`
    fn words(&self) -> String {
        let Prediction { digit, runner_up, .. } = *self.prediction;
        let (first, second) = (100.0 * self.prediction.probability(), 100.0 * self.prediction.runner_up_probability());
        let index = self.input.index.map_or(String::new(), |index| format!("[{index}]"));
        let [digit, runner_up] = [digit, runner_up].map(|class| self.classes.name(class));
        format!("{}{index}: {digit} {first:.2}%, {runner_up} {second:.2}%", self.input.path.display())
    }

    fn json(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Object<'a> {
            file: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            index: Option<usize>,
            digit: usize,
            /// What the digit stands for, unless it is a digit.
            #[serde(skip_serializing_if = "Option::is_none")]
            class: Option<String>,
            probability: f64,
            runner_up: usize,
            runner_up_probability: f64,
            probabilities: &'a [f64],
        }
        let Prediction { digit, runner_up, ref probabilities } = *self.prediction;
        let object = Object {
            // JSON has no form for a name that is not UTF-8.
            file: &self.input.path.to_string_lossy(),
            index: self.input.index,
            digit,
            class: (!self.classes.are_digits()).then(|| self.classes.name(digit)),
            probability: self.prediction.probability(),
            runner_up,
            runner_up_probability: self.prediction.runner_up_probability(),
            probabilities,
        };
        run_folder::line("prediction", &object)
    }

    fn csv(&self) -> Result<String> {
        let id = match self.input.index {
            Some(index) => (index + 1).to_string(),
            None => self.input.path.to_string_lossy().into_owned(),
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record([id, self.classes.name(self.prediction.digit)])?;
        let row = String::from_utf8(writer.into_inner().context("a row cannot be written")?)?;
        Ok(row.trim_end().to_string())
    }
}
