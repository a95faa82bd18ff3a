//! The output for a page: the text of `predict`, and the JSON of `predict` and `serve`.

use super::{Maps, Prediction, Predictor};
use crate::data::Classes;
use crate::digit::{Bounds, Found};
use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

/// What stands for a mark, and for a digit that does not look like one.
const DOUBT: &str = "?";

/// Between the lines of a page, where they share one line of output.
const LINE_BREAK: &str = " / ";

/// The lines of a page, and what the net says about each digit in them.
pub(crate) struct Reading<'a> {
    /// With at least one digit.
    lines: Vec<Vec<Symbol>>,
    classes: &'a Classes,
}

/// What stands in a line.
// A picture has few of them, and nearly all are digits.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Symbol {
    Digit(Found, Prediction),
    /// Something that is no digit.
    Mark(Bounds),
}

/// Where a page or an image stands in its file. Numbers that are `None` would say nothing: of a file with one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// The number of a page, from 1, and how many there are.
    pub(crate) page: Option<(usize, usize)>,
    /// The place in a file of many images, from 0.
    pub(crate) index: Option<usize>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(lines: Vec<Vec<Symbol>>, classes: &'a Classes) -> Reading<'a> {
        Reading { lines, classes }
    }

    /// All digits, line by line.
    pub(crate) fn digits(&self) -> impl Iterator<Item = (&Found, &Prediction)> {
        self.symbols().filter_map(|(_, _, symbol)| match symbol {
            Symbol::Digit(found, prediction) => Some((found, prediction)),
            Symbol::Mark(_) => None,
        })
    }

    /// All that stands in the lines: the number of the line, the place in it, and the symbol.
    fn symbols(&self) -> impl Iterator<Item = (usize, usize, &Symbol)> {
        let numbered = self.lines.iter().enumerate();
        numbered
            .flat_map(|(line, symbols)| symbols.iter().enumerate().map(move |(place, symbol)| (line, place, symbol)))
    }

    /// Whether the text has a [`DOUBT`].
    pub(crate) fn has_doubt(&self) -> bool {
        self.symbols().any(|(_, _, symbol)| symbol.is_doubtful())
    }

    /// The name of the first class, whatever the image looks like: for a file of images, which are one digit each.
    pub(crate) fn class(&self) -> String {
        self.digits().next().map_or(String::new(), |(_, prediction)| self.classes.name(prediction.digit))
    }

    /// All lines as one line of text.
    pub(crate) fn label(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(|line| self.text(line, true)).collect();
        lines.join(LINE_BREAK)
    }

    /// A line as one number, or the names of its classes. If `is_critical`, a [`DOUBT`] stands for what does not look like a
    /// digit too, otherwise for marks alone.
    fn text(&self, line: &[Symbol], is_critical: bool) -> String {
        let name = |symbol: &Symbol| match symbol {
            Symbol::Digit(_, prediction) if !is_critical || !symbol.is_doubtful() => {
                self.classes.name(prediction.digit)
            }
            _ => DOUBT.into(),
        };
        let names: Vec<String> = line.iter().map(name).collect();
        names.join(if self.classes.are_digits() { "" } else { " " })
    }

    /// Each line: `3 99.98%, 8 0.01%`, or `10 (1 99.90%, 0 99.80%)` for several digits. What does not look like a digit
    /// is a `?`, with the nearest digit behind it.
    pub(crate) fn words(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(|line| {
            if let [Symbol::Digit(_, only)] = line.as_slice() {
                let runner_up = self.classes.name(only.runner_up);
                return format!("{}, {runner_up} {:.2}%", self.percent(only), 100.0 * only.runner_up_probability());
            }
            let each = |symbol: &Symbol| match symbol {
                Symbol::Digit(_, prediction) => self.percent(prediction),
                Symbol::Mark(_) => "a mark".into(),
            };
            let each: Vec<String> = line.iter().map(each).collect();
            format!("{} ({})", self.text(line, true), each.join(", "))
        })
    }

    /// `3 99.98%`
    fn percent(&self, prediction: &Prediction) -> String {
        let doubt = if prediction.unsure == Some(true) { "? " } else { "" };
        format!("{doubt}{} {:.2}%", self.classes.name(prediction.digit), 100.0 * prediction.probability())
    }

    /// The object for the page or image of `file` at `place`.
    pub(crate) fn object(&self, file: &'a str, place: Place) -> Object<'_> {
        let (_, first) = self.digits().next().expect("a page has a digit");
        let lines: Vec<String> = self.lines.iter().map(|line| self.text(line, false)).collect();
        let mut object = Object {
            file,
            page: place.page.map(|(page, _)| page),
            pages: place.page.map(|(_, pages)| pages),
            index: place.index,
            digit: self.classes.digit(first.digit),
            class: self.name(first.digit),
            probability: first.probability(),
            runner_up: self.classes.digit(first.runner_up),
            runner_up_class: self.name(first.runner_up),
            runner_up_probability: first.runner_up_probability(),
            probabilities: &first.probabilities,
            unsure: first.unsure,
            number: lines.join("\n"),
            lines,
            digits: Vec::new(),
            marks: Vec::new(),
        };
        for (line, place, symbol) in self.symbols() {
            match symbol {
                Symbol::Digit(found, prediction) => object.digits.push(self.entry(line, found, prediction)),
                Symbol::Mark(bounds) => object.marks.push(Mark { line, place, bounds: sides(*bounds) }),
            }
        }
        object
    }

    /// The same with what the net sees and computes.
    pub(crate) fn detailed(&self, file: &'a str, place: Place, predictor: &Predictor) -> Result<Object<'_>> {
        let mut object = self.object(file, place);
        for (entry, (found, prediction)) in object.digits.iter_mut().zip(self.digits()) {
            entry.details = Some(Details {
                probabilities: &prediction.probabilities,
                pixels: BASE64_STANDARD.encode(found.digit),
                layers: predictor.maps(&found.digit)?.into_iter().map(Layer::of).collect(),
            });
        }
        Ok(object)
    }

    fn entry<'b>(&self, line: usize, found: &Found, prediction: &'b Prediction) -> Entry<'b> {
        Entry {
            digit: self.classes.digit(prediction.digit),
            class: self.name(prediction.digit),
            probability: prediction.probability(),
            unsure: prediction.unsure,
            line,
            bounds: sides(found.bounds),
            details: None,
        }
    }

    /// The name of a class, unless the classes are the ten digits.
    fn name(&self, class: usize) -> Option<String> {
        (!self.classes.are_digits()).then(|| self.classes.name(class))
    }
}

impl Symbol {
    fn is_doubtful(&self) -> bool {
        matches!(self, Symbol::Mark(_) | Symbol::Digit(_, Prediction { unsure: Some(true), .. }))
    }
}

/// Left, top, width and height in pixels of the picture.
fn sides(Bounds { x, y, width, height }: Bounds) -> [u32; 4] {
    [x, y, width, height]
}

/// What is known about a page: about its first digit, and about each.
#[derive(Serialize)]
pub(crate) struct Object<'a> {
    file: &'a str,
    /// The number of the page, from 1, in a file of several, and how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<usize>,
    /// The place in a file of many images, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// Left out if the name of the class is no digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    digit: Option<usize>,
    /// The name of the class, unless the classes are the ten digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    probability: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    runner_up: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runner_up_class: Option<String>,
    runner_up_probability: f64,
    probabilities: &'a [f64],
    /// Whether it looks like no class; left out if that was not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsure: Option<bool>,
    number: String,
    lines: Vec<String>,
    digits: Vec<Entry<'a>>,
    marks: Vec<Mark>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    digit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    probability: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsure: Option<bool>,
    /// From 0.
    line: usize,
    #[serde(rename = "box")]
    bounds: [u32; 4],
    #[serde(flatten)]
    details: Option<Details<'a>>,
}

#[derive(Serialize)]
struct Mark {
    /// From 0.
    line: usize,
    /// From 0, among the digits and marks of the line.
    place: usize,
    #[serde(rename = "box")]
    bounds: [u32; 4],
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

#[cfg(test)]
mod tests {
    use super::*;

    fn digit(class: usize, unsure: bool) -> Symbol {
        let mut probabilities = vec![0.01; 10];
        (probabilities[class], probabilities[(class + 1) % 10]) = (0.9, 0.02);
        let runner_up = (class + 1) % 10;
        Symbol::Digit(
            Found::whole([0; 784]),
            Prediction { digit: class, runner_up, probabilities, unsure: Some(unsure) },
        )
    }

    fn mark() -> Symbol {
        Symbol::Mark(Bounds { x: 5, y: 6, width: 7, height: 8 })
    }

    fn json(reading: &Reading) -> serde_json::Value {
        serde_json::to_value(reading.object("a.png", Place::default())).unwrap()
    }

    #[test]
    fn lines_are_apart_and_marks_and_doubts_are_question_marks() {
        let lines = vec![vec![digit(3, false), mark(), digit(1, false)], vec![digit(7, true), digit(2, false)]];
        let classes = Classes::default();
        let reading = Reading::new(lines, &classes);
        assert_eq!(reading.label(), "3?1 / ?2");
        let words: Vec<String> = reading.words().collect();
        assert_eq!(words, ["3?1 (3 90.00%, a mark, 1 90.00%)", "?2 (? 7 90.00%, 2 90.00%)"]);
        let object = json(&reading);
        assert_eq!(object["lines"], serde_json::json!(["3?1", "72"]));
        assert_eq!(object["number"], "3?1\n72");
        assert_eq!(object["marks"], serde_json::json!([{ "line": 0, "place": 1, "box": [5, 6, 7, 8] }]));
        let lines: Vec<_> = object["digits"].as_array().unwrap().iter().map(|digit| digit["line"].clone()).collect();
        assert_eq!(lines, [0, 0, 1, 1]);
    }

    #[test]
    fn the_digit_is_the_name_of_its_class_or_left_out() {
        let names = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "none"].map(String::from);
        let classes = Classes::new(names.into()).unwrap();
        let object = json(&Reading::new(vec![vec![digit(6, false), digit(9, false), digit(8, false)]], &classes));
        assert_eq!((&object["digit"], &object["class"]), (&7.into(), &"7".into()));
        assert_eq!((&object["runner_up"], &object["runner_up_class"]), (&8.into(), &"8".into()));
        let none = &object["digits"][1];
        assert!(none.get("digit").is_none() && none["class"] == "none", "{none}");
        assert_eq!((&object["digits"][2]["digit"], &object["digits"][2]["class"]), (&9.into(), &"9".into()));
        let plain = Classes::default();
        let object = json(&Reading::new(vec![vec![digit(6, false)]], &plain));
        assert!(object["digit"] == 6 && object.get("class").is_none(), "{object}");
    }
}
