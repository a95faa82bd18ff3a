//! The output for a picture: the text of `predict`, and the JSON of `predict` and `serve`.

use super::{Maps, Prediction, Predictor};
use crate::data::Classes;
use crate::digit::{Bounds, Found};
use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

/// The digits of a picture, and what the net says about each.
pub(crate) struct Reading<'a> {
    /// At least one.
    digits: &'a [(Found, Prediction)],
    classes: &'a Classes,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(digits: &'a [(Found, Prediction)], classes: &'a Classes) -> Reading<'a> {
        Reading { digits, classes }
    }

    /// All digits as one number, or the names of the classes.
    pub(crate) fn number(&self) -> String {
        self.joined(|prediction| self.classes.name(prediction.digit))
    }

    fn joined(&self, name: impl Fn(&Prediction) -> String) -> String {
        let names: Vec<String> = self.digits.iter().map(|(_, prediction)| name(prediction)).collect();
        names.join(if self.classes.are_digits() { "" } else { " " })
    }

    /// `3 99.98%, 8 0.01%`, or `10 (1 99.90%, 0 99.80%)` for several digits. What does not look like a digit is a `?`, with
    /// the nearest digit behind it.
    pub(crate) fn words(&self) -> String {
        let percent = |prediction: &Prediction| {
            let mark = if prediction.unsure == Some(true) { "? " } else { "" };
            format!("{mark}{} {:.2}%", self.classes.name(prediction.digit), 100.0 * prediction.probability())
        };
        if let [(_, only)] = self.digits {
            let runner_up = self.classes.name(only.runner_up);
            return format!("{}, {runner_up} {:.2}%", percent(only), 100.0 * only.runner_up_probability());
        }
        let number = self.joined(|prediction| match prediction.unsure {
            Some(true) => "?".into(),
            _ => self.classes.name(prediction.digit),
        });
        let each: Vec<String> = self.digits.iter().map(|(_, prediction)| percent(prediction)).collect();
        format!("{number} ({})", each.join(", "))
    }

    /// The object for a picture, or for the image at `index` of a file of many.
    pub(crate) fn object(&self, file: &'a str, index: Option<usize>) -> Object<'a> {
        let (_, first) = &self.digits[0];
        let digits = self.digits.iter().map(|(found, prediction)| self.entry(found, prediction));
        Object {
            file,
            index,
            digit: first.digit,
            class: self.class(first),
            probability: first.probability(),
            runner_up: first.runner_up,
            runner_up_probability: first.runner_up_probability(),
            probabilities: &first.probabilities,
            unsure: first.unsure,
            number: self.number(),
            digits: digits.collect(),
        }
    }

    /// The same with what the net sees and computes.
    pub(crate) fn detailed(&self, file: &'a str, predictor: &Predictor) -> Result<Object<'a>> {
        let mut object = self.object(file, None);
        for (entry, (found, prediction)) in object.digits.iter_mut().zip(self.digits) {
            entry.details = Some(Details {
                probabilities: &prediction.probabilities,
                pixels: BASE64_STANDARD.encode(found.digit),
                layers: predictor.maps(&found.digit)?.into_iter().map(Layer::of).collect(),
            });
        }
        Ok(object)
    }

    fn entry(&self, found: &Found, prediction: &Prediction) -> Entry<'a> {
        let Bounds { x, y, width, height } = found.bounds;
        Entry {
            digit: prediction.digit,
            class: self.class(prediction),
            probability: prediction.probability(),
            unsure: prediction.unsure,
            bounds: [x, y, width, height],
            details: None,
        }
    }

    fn class(&self, prediction: &Prediction) -> Option<String> {
        (!self.classes.are_digits()).then(|| self.classes.name(prediction.digit))
    }
}

/// What is known about a picture: about its first digit, and about each.
#[derive(Serialize)]
pub(crate) struct Object<'a> {
    file: &'a str,
    /// The place in a file of many images, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    digit: usize,
    /// The name of the class, unless it is a digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    probability: f64,
    runner_up: usize,
    runner_up_probability: f64,
    probabilities: &'a [f64],
    /// Whether it looks like no class; left out if that was not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsure: Option<bool>,
    number: String,
    digits: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    digit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    probability: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsure: Option<bool>,
    /// Left, top, width and height in pixels of the picture.
    #[serde(rename = "box")]
    bounds: [u32; 4],
    #[serde(flatten)]
    details: Option<Details<'a>>,
}

#[derive(Serialize)]
struct Details<'a> {
    probabilities: &'a [f64],
    /// The image that the net sees, 28x28 bytes in base64.
    pixels: String,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    channels: i64,
    height: i64,
    width: i64,
    /// The channels' bytes in base64.
    maps: String,
}

impl Layer {
    fn of(maps: Maps) -> Layer {
        let Maps { name, channels, height, width, bytes } = maps;
        Layer { name, channels, height, width, maps: BASE64_STANDARD.encode(bytes) }
    }
}
