//! What the classes are called.

use super::Dataset;
use crate::shape::{CLASSES, DIGITS};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Names of at most ten classes in the order of their labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Classes(Vec<String>);

impl Default for Classes {
    fn default() -> Self {
        Classes(DIGITS.map(String::from).into())
    }
}

impl Classes {
    /// Those of a published dataset.
    pub(crate) fn of(dataset: Dataset) -> Classes {
        Classes(dataset.facts().classes.map(String::from).into())
    }

    pub(crate) fn new(names: Vec<String>) -> Result<Classes> {
        let shown = names.iter().take(CLASSES + 1).cloned().collect::<Vec<_>>().join(", ");
        ensure!(names.len() <= CLASSES, "there are more than {CLASSES} classes: {shown}");
        Ok(Classes(names))
    }

    /// Whether they are the ten digits, as in MNIST: then a class needs no name beside its number.
    pub(crate) fn are_digits(&self) -> bool {
        *self == Classes::default()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The name of a class; its number if it has none.
    pub(crate) fn name(&self, class: usize) -> String {
        self.0.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// The digit that a class is called, if its name is one.
    pub(crate) fn digit(&self, class: usize) -> Option<usize> {
        match self.name(class).as_bytes() {
            [digit @ b'0'..=b'9'] => Some(usize::from(digit - b'0')),
            _ => None,
        }
    }

    /// All names in one line.
    pub(crate) fn listed(&self) -> String {
        self.0.join(", ")
    }

    /// The name without the characters that the fonts of the pictures lack.
    pub(crate) fn caption(&self, class: usize) -> String {
        let name: String = self.name(class).chars().filter(|&letter| letter < LATIN_ENDS).collect();
        if name.trim().is_empty() { class.to_string() } else { name.trim().to_string() }
    }

    /// All names, if they say more than their numbers.
    pub(crate) fn names(&self) -> Option<&[String]> {
        (!self.are_digits()).then_some(&self.0)
    }
}

/// The first character after Unicode's Latin letters.
const LATIN_ENDS: char = '\u{250}';
