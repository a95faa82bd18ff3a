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

/// The digits in words.
const WORDS: [&str; CLASSES] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

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

    /// Classes of these names, which are distinct: names of digits in the digits' order, others as numbers in them say.
    ///
    /// Where the names are 1 to 10, as in SVHN, 10 is the digit 0. Digits that are missing get a place too, so that a
    /// label is the digit.
    pub(super) fn ordered(mut names: Vec<String>) -> Result<Classes> {
        if let Some(digits) = in_order_of_digits(&names) {
            return Ok(Classes(digits.into()));
        }
        names.sort_by_cached_key(|name| by_number(name));
        Classes::new(names)
    }

    /// Whether all of `names` are names of digits.
    pub(super) fn are_names_of_digits(names: &[String]) -> bool {
        in_order_of_digits(names).is_some()
    }

    /// Whether they are called 0 to 9, as in MNIST: then a class needs no name beside its number.
    pub(crate) fn are_digits(&self) -> bool {
        *self == Classes::default()
    }

    /// Whether `other` are the same classes, though a digit may have another name there: `7` and `seven`.
    pub(crate) fn agree(&self, other: &Classes) -> bool {
        let are_digits = |Classes(names): &Classes| in_order_of_digits(names).is_some_and(|digits| digits == names[..]);
        self == other || (are_digits(self) && are_digits(other))
    }

    /// The place of the class with this name.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|other| other == name)
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

/// `names`, all of them names of different digits, in the order of the digits.
fn in_order_of_digits(names: &[String]) -> Option<[String; CLASSES]> {
    let numbers: Vec<usize> = names.iter().map(|name| number(name)).collect::<Option<_>>()?;
    let are_words = names.iter().any(|name| WORDS.contains(&name.to_lowercase().as_str()));
    let mut digits = if are_words { WORDS } else { DIGITS }.map(String::from);
    let mut is_taken = [false; CLASSES];
    for (name, number) in names.iter().zip(numbers) {
        // Beside a 0, 10 is the eleventh class.
        if std::mem::replace(&mut is_taken[number % CLASSES], true) {
            return None;
        }
        digits[number % CLASSES] = name.clone();
    }
    Some(digits)
}

/// The number from 0 to 10 that a name says, in figures or in a word.
fn number(name: &str) -> Option<usize> {
    let word = name.trim().to_lowercase();
    let in_words = || WORDS.iter().chain(&["ten"]).position(|other| *other == word);
    word.parse().ok().filter(|number| *number <= CLASSES).or_else(in_words)
}

/// A key that sorts `class 10` behind `class 9`, and numbers before words.
fn by_number(name: &str) -> (bool, String, u64, String) {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let number = name[stem.len()..].parse().unwrap_or(0);
    (!stem.is_empty(), stem.to_string(), number, name.to_string())
}

/// The first character after Unicode's Latin letters.
const LATIN_ENDS: char = '\u{250}';

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(names: &str) -> String {
        Classes::ordered(names.split(' ').map(String::from).collect()).unwrap().listed()
    }

    #[test]
    fn names_of_digits_are_put_in_the_digits_order() {
        let digits = "0, 1, 2, 3, 4, 5, 6, 7, 8, 9";
        assert_eq!(ordered("3 0 2 1 9 8 7 6 5 4"), digits);
        assert_eq!(ordered("7 2"), digits);
        assert_eq!(ordered("3 10 2 1 9 8 7 6 5 4"), digits.replace('0', "10"));
        let words = "zero, one, two, three, four, five, six, seven, eight, nine";
        assert_eq!(ordered("one eight two"), words);
        assert_eq!(ordered("Seven three Zero"), words.replace("zero", "Zero").replace("seven", "Seven"));
        // Not all are digits, and two are the same.
        assert_eq!(ordered("two one cat"), "cat, one, two");
        assert_eq!(ordered("two 2 1"), "1, 2, two");
        assert_eq!(ordered("class9 class10 class1"), "class1, class9, class10");
        assert_eq!(ordered("12 9 100"), "9, 12, 100");
    }

    #[test]
    fn digits_by_other_names_are_the_same_classes() {
        let classes = |names: &str| Classes::ordered(names.split(' ').map(String::from).collect()).unwrap();
        let digits = Classes::default();
        for names in ["zero one", "10 1 2", "00 01 02", "ZERO"] {
            assert!(digits.agree(&classes(names)) && classes(names).agree(&digits), "{names}");
        }
        assert!(!digits.agree(&classes("cat dog")));
        assert!(classes("cat dog").agree(&classes("dog cat")));
        assert!(!digits.agree(&Classes::of(Dataset::FashionMnist)));
        // In another order they are other classes.
        assert!(!digits.agree(&Classes::new(["one", "zero"].map(String::from).into()).unwrap()));
    }
}
