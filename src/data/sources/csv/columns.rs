//! Which columns of a table hold the pixels and which the label: by their names, or else by what they hold.

use super::super::{LABELS, NUMBERS, order};
use crate::shape::{CLASSES, PIXELS};
use anyhow::{Result, bail, ensure};
use csv::ByteRecord;
use std::fmt::Display;
use std::ops::Range;

/// Labels explain this many times as much of the pixels' variance as chance would. Among 100 images of MNIST they
/// explain 3 times as much, among 1,000 images 25 times.
const EXPLAINS: f64 = 1.5;

/// The end of the sentence on a row with too many fields.
const DECIMAL_COMMAS: &str = "; if its numbers have decimal commas, separate them by semicolons";

/// Among fewer images chance may explain as much.
const FEW: f64 = 50.0;

/// Which columns hold what.
pub(super) struct Columns {
    /// Of all fields of a row.
    pub(super) count: usize,
    pub(super) label: Label,
    pub(super) pixels: Vec<usize>,
}

/// Where the label of a row is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Label {
    /// Nowhere.
    None,
    /// In this column.
    In(usize),
    /// In the one of these columns that is 1, and not 0.
    OneHot(Range<usize>),
}

impl Label {
    /// The label in `row`, if it has one.
    pub(super) fn of(&self, row: &ByteRecord) -> Result<Option<String>> {
        let text = |column: usize| String::from_utf8_lossy(&row[column]).trim().to_string();
        match self {
            Label::None => Ok(None),
            Label::In(column) => {
                let label = text(*column);
                ensure!(!label.is_empty(), "its label is empty");
                Ok(Some(whole(&label).to_string()))
            }
            Label::OneHot(columns) => match hot(row, columns.clone()) {
                Some(class) => Ok(Some(class.to_string())),
                None => bail!("its label is not one 1 among zeros"),
            },
        }
    }
}

/// `3` of `3.0`, `3,0` or `3.000e+00`, as some programs write whole numbers; any other label as it is.
fn whole(label: &str) -> String {
    let number =
        label.replacen(',', ".", 1).parse::<f64>().ok().filter(|number| number.fract() == 0.0 && number.abs() < 1e9);
    match number {
        Some(number) if label.contains(['.', ',', 'e', 'E']) => format!("{number}"),
        _ => label.to_string(),
    }
}

/// The place among `columns` of the only 1 among zeros.
fn hot(row: &ByteRecord, columns: Range<usize>) -> Option<usize> {
    let mut hot = None;
    for (class, column) in columns.enumerate() {
        match number(row.get(column)?)? {
            0.0 => {}
            1.0 if hot.is_none() => hot = Some(class),
            _ => return None,
        }
    }
    hot
}

/// `17`, and `17.0`, `17,0` or `1.7e1` as some programs write it.
pub(super) fn number(field: &[u8]) -> Option<f32> {
    let text = std::str::from_utf8(field).ok()?.trim();
    let with_comma = || text.replacen(',', ".", 1).parse().ok();
    text.parse::<u8>().map(f32::from).ok().or_else(|| text.parse().ok()).or_else(with_comma)
}

/// What the first row says about the columns.
pub(super) struct Names {
    /// Whether it names the columns.
    pub(super) is_header: bool,
    /// All of them.
    names: Vec<String>,
    label: Option<usize>,
    /// The columns that hold neither a label nor a number of the row, for all that is known.
    rest: Vec<usize>,
}

impl Names {
    pub(super) fn of(first: &ByteRecord) -> Result<Names> {
        let clean = |field: &[u8]| String::from_utf8_lossy(field).trim_matches([' ', '#']).to_lowercase();
        let names: Vec<String> = first.iter().map(clean).collect();
        let count = names.len();
        // One word among numbers is a label, unless it says that it names one. pandas numbers columns without names.
        let words = names.iter().filter(|name| number(name.as_bytes()).is_none()).count();
        let is_header =
            2 * words > count || names.iter().any(|name| LABELS.contains(&name.as_str())) || count_up(&names);
        let named = |known: &[&str], name: &String| is_header && known.contains(&name.as_str());
        let mut label = names.iter().position(|name| named(&LABELS, name));
        let mut rest: Vec<usize> = (0..count).filter(|&k| Some(k) != label && !named(&NUMBERS, &names[k])).collect();
        if label.is_none() && is_header && rest.len() == PIXELS + 1 {
            label = odd_one(&rest, &names)?.map(|at| rest.remove(at));
        }
        let has_label = label.is_some();
        let fits = rest.len() == PIXELS || (!has_label && [PIXELS + 1, PIXELS + CLASSES].contains(&rest.len()));
        // Each number but a whole one is two fields then.
        let commas = if count > PIXELS + NUMBERS.len() + CLASSES { DECIMAL_COMMAS } else { "" };
        ensure!(
            fits,
            "row 1 has {count} fields; {PIXELS} pixels and a label are expected, or {PIXELS} pixels alone{commas}"
        );
        Ok(Names { is_header, names, label, rest })
    }

    /// Begins to look at what the columns hold.
    pub(super) fn search(self) -> Search {
        let last = self.rest.len() - 1;
        let is_open = self.rest.len() == PIXELS + 1;
        let candidates = if is_open { [0, last].map(|at| Candidate::new(self.rest[at])).into() } else { Vec::new() };
        let ends = match self.rest.len() == PIXELS + CLASSES {
            true => vec![self.rest[0]..self.rest[0] + CLASSES, self.rest[PIXELS]..self.rest[PIXELS] + CLASSES],
            false => Vec::new(),
        };
        Search { names: self, candidates, ends, square: 0.0 }
    }
}

/// Whether all names but one are numbers that count up, as 0, 1, 2, ... or 1, 2, 3, ..., in any order.
fn count_up(names: &[String]) -> bool {
    let mut numbers: Vec<usize> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.len() >= PIXELS && numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count() <= 1
}

/// The place in `columns` of the one that is named otherwise than the others; `None` if all are named alike.
fn odd_one(columns: &[usize], names: &[String]) -> Result<Option<usize>> {
    let stem = |column: usize| {
        names[column].trim_matches(|letter: char| letter.is_ascii_digit()).replace(|c: char| c.is_ascii_digit(), "")
    };
    let usual = stem(columns[columns.len() / 2]);
    let odd: Vec<usize> = (0..columns.len()).filter(|&at| stem(columns[at]) != usual).collect();
    match odd[..] {
        [] => Ok(None),
        [at] => Ok(Some(at)),
        _ => bail!("row 1 has no column named label, and {} columns are not named like the pixels", odd.len()),
    }
}

/// Looks for the label in the rows, where the names do not tell it.
pub(super) struct Search {
    names: Names,
    /// The first and the last column, if one of them holds the label.
    candidates: Vec<Candidate>,
    /// The first and the last ten columns, if one-hot labels are in either: those that may still be.
    ends: Vec<Range<usize>>,
    /// The sum of the squares of all pixels.
    square: f64,
}

impl Search {
    pub(super) fn has_header(&self) -> bool {
        self.names.is_header
    }

    /// The columns that hold pixels wherever the label is.
    pub(super) fn pixels(&self) -> &[usize] {
        let rest = &self.names.rest;
        match rest.len() - PIXELS {
            0 => rest,
            labels => &rest[labels..PIXELS],
        }
    }

    /// Looks at a row, of which `pixels` are the numbers in [`Search::pixels`].
    pub(super) fn add(&mut self, row: &ByteRecord, pixels: &[f32]) {
        self.ends.retain(|columns| hot(row, columns.clone()).is_some());
        if !self.candidates.is_empty() {
            self.square += pixels.iter().map(|&pixel| f64::from(pixel * pixel)).sum::<f64>();
        }
        self.candidates.iter_mut().for_each(|candidate| candidate.add(row, pixels));
    }

    /// What was found in the file `whose`.
    pub(super) fn end(self, whose: impl Display) -> Result<Columns> {
        let Search { names: Names { is_header, names, label, rest }, candidates, ends, square } = self;
        let count = names.len();
        let label = match (&candidates[..], rest.len() == PIXELS + CLASSES) {
            ([first, last], _) => Label::In(choose(first, last, square)?),
            (_, true) => {
                ensure!(
                    ends.len() == 1,
                    "row 1 has {count} fields; {PIXELS} pixels and a label are expected, or ten columns of one-hot labels"
                );
                Label::OneHot(ends[0].clone())
            }
            _ => label.map_or(Label::None, Label::In),
        };
        let is_label = |column: &usize| match &label {
            Label::None => false,
            Label::In(at) => at == column,
            Label::OneHot(columns) => columns.contains(column),
        };
        let pixels: Vec<usize> = rest.into_iter().filter(|column| !is_label(column)).collect();
        let pixels = if is_header { order::ordered(pixels, &names, whose)? } else { pixels };
        Ok(Columns { count, label, pixels })
    }
}

/// A column that may hold the labels.
struct Candidate {
    column: usize,
    /// The values in it, each with its images: no more than there may be classes.
    groups: Vec<Group>,
    /// Whether it may still hold labels.
    fits: bool,
    /// How many of its values are no numbers.
    words: f64,
}

/// The images with the same value in a column.
struct Group {
    value: String,
    images: f64,
    /// Of each pixel.
    sums: Vec<f64>,
}

impl Candidate {
    fn new(column: usize) -> Candidate {
        Candidate { column, groups: Vec::new(), fits: true, words: 0.0 }
    }

    fn add(&mut self, row: &ByteRecord, pixels: &[f32]) {
        // An empty field is a mistake in any column, and reported when its row is read.
        let Some(field) = row.get(self.column).filter(|field| self.fits && !field.trim_ascii().is_empty()) else {
            return;
        };
        let number = number(field);
        self.words += f64::from(u8::from(number.is_none()));
        let value = String::from_utf8_lossy(field).trim().to_string();
        let at = self.groups.iter().position(|group| group.value == value);
        let at = at.unwrap_or_else(|| {
            self.groups.push(Group { value, images: 0.0, sums: vec![0.0; pixels.len()] });
            self.groups.len() - 1
        });
        let is_class = number.is_none_or(|number| number >= 0.0 && number.fract() == 0.0);
        self.fits = is_class && self.groups.len() <= CLASSES;
        let group = &mut self.groups[at];
        group.images += 1.0;
        group.sums.iter_mut().zip(pixels).for_each(|(sum, &pixel)| *sum += f64::from(pixel));
    }

    fn images(&self) -> f64 {
        self.groups.iter().map(|group| group.images).sum()
    }

    /// Whether its values are words; one among numbers is a mistake.
    fn has_words(&self) -> bool {
        2.0 * self.words > self.images()
    }

    /// Whether no value in it is above the number of classes.
    fn is_small(&self) -> bool {
        self.groups.iter().all(|group| group.value.parse::<f64>().is_ok_and(|value| value <= CLASSES as f64))
    }

    /// Whether its only value is 0.
    fn is_zero(&self) -> bool {
        self.groups.iter().all(|group| group.value.parse() == Ok(0.0))
    }

    /// How many times as much of the pixels' variance its values explain as chance would: the F-ratio of an analysis of
    /// variance. 1 if there are too few images to tell.
    fn explains(&self, square: f64) -> f64 {
        let (images, groups) = (self.images(), self.groups.len() as f64);
        let pixels = 0..self.groups.first().map_or(0, |group| group.sums.len());
        let all = pixels.map(|k| self.groups.iter().map(|group| group.sums[k]).sum::<f64>().powi(2)).sum::<f64>();
        let of_groups: f64 = self.groups.iter().map(|group| squared(&group.sums) / group.images).sum();
        // Rounding may make a difference of equal numbers negative.
        let (between, within) = (of_groups - all / images, (square - of_groups).max(0.0));
        let ratio = (between / (groups - 1.0)) / (within / (images - groups));
        if groups < 2.0 || images <= groups || ratio.is_nan() { 1.0 } else { ratio }
    }
}

fn squared(sums: &[f64]) -> f64 {
    sums.iter().map(|sum| sum * sum).sum()
}

/// The column with the labels: the only one that can hold them, or the one that tells the images apart.
fn choose(first: &Candidate, last: &Candidate, square: f64) -> Result<usize> {
    let unclear =
        || "the label may be in the first column or in the last: name the columns in a first row, as in label,1x1,1x2";
    match (first.fits, last.fits) {
        // If neither fits, the labels are of too many classes, as they are if the other column is black.
        (false, false) => return Ok(first.column),
        (false, true) => return Ok(if last.is_zero() { first.column } else { last.column }),
        (true, false) => return Ok(if first.is_zero() { last.column } else { first.column }),
        (true, true) if first.has_words() => return Ok(first.column),
        (true, true) if last.has_words() => return Ok(last.column),
        (true, true) => {}
    }
    let (of_first, of_last) = (first.explains(square), last.explains(square));
    let is_first = if first.images() >= FEW && first.groups.len() + last.groups.len() > 2 {
        ensure!(of_first.max(of_last) >= EXPLAINS, unclear());
        of_first >= of_last
    } else if first.is_small() != last.is_small() {
        first.is_small()
    } else if first.is_zero() || last.is_zero() {
        // A corner pixel is black.
        last.is_zero()
    } else {
        ensure!(of_first.max(of_last) >= EXPLAINS * of_first.min(of_last), unclear());
        of_first >= of_last
    };
    Ok(if is_first { first.column } else { last.column })
}
