//! Where the columns of pixels are in an image, by their names: `pixel0`, `17`, `1x1`, `row3_col5`, `x5y3`.

use crate::shape::{PIXELS, SIDE};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::fmt::Display;

/// Endings of the words before a number that say that it is of a column, and not of a row.
const COLUMNS: [&str; 4] = ["x", "c", "col", "column"];
const ROWS: [&str; 4] = ["y", "r", "row", "line"];

/// `columns`, those of the pixels, in the order in which the pixels stand in an image, row by row: as `names`, one for each,
/// say, if they number them. Says so if it is another order than that of the file `whose`.
///
/// # Errors
///
/// If two columns have the same place in the image, or one is missing.
pub(super) fn ordered(columns: Vec<usize>, names: &[String], whose: impl Display) -> Result<Vec<usize>> {
    let name = |column: usize| names.get(column).map_or("", String::as_str);
    let Some(places) = columns.iter().map(|&column| Place::of(name(column))).collect::<Option<Vec<_>>>() else {
        return Ok(columns);
    };
    // Names that are no numbering, as those of a first row that was taken for a header.
    if columns.len() != PIXELS || places.iter().any(|place| place.words != places[0].words) {
        return Ok(columns);
    }
    let mut sorted: BTreeMap<[usize; 2], usize> = BTreeMap::new();
    for (&column, place) in columns.iter().zip(&places) {
        if let Some(other) = sorted.insert(place.at, column) {
            bail!(
                "its columns {} and {} are of the same pixel",
                name(other).escape_debug(),
                name(column).escape_debug()
            );
        }
    }
    let first = *sorted.keys().next().expect("an image has pixels");
    let expected =
        |k: usize| if places[0].is_flat { [0, first[1] + k] } else { [first[0] + k / SIDE, first[1] + k % SIDE] };
    if let Some(k) = sorted.keys().enumerate().position(|(k, &at)| at != expected(k)) {
        bail!(
            "the names of its columns, such as {}, leave a pixel out: the one at {k} is missing",
            name(columns[0]).escape_debug()
        );
    }
    let sorted: Vec<usize> = sorted.into_values().collect();
    if sorted != columns {
        tracing::warn!(
            "{whose}: the columns of pixels are put in the order of their names, from {} to {}",
            name(sorted[0]),
            name(sorted[PIXELS - 1])
        );
    }
    Ok(sorted)
}

/// What the name of a column says.
struct Place {
    /// The name without its numbers.
    words: Vec<String>,
    /// Row and column, or 0 and the number of the pixel.
    at: [usize; 2],
    is_flat: bool,
}

impl Place {
    /// `None` of a name with no number, or more than two.
    fn of(name: &str) -> Option<Place> {
        let name = name.trim().to_lowercase();
        let is_digit = |letter: char| letter.is_ascii_digit();
        let numbers: Vec<&str> = name.split(|letter| !is_digit(letter)).filter(|number| !number.is_empty()).collect();
        let words: Vec<String> = name.split(is_digit).filter(|word| !word.is_empty()).map(String::from).collect();
        let numbers: Vec<usize> = numbers.iter().map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let says = |word: Option<&String>, known: &[&str]| {
            let word = word.map_or("", |word| word.trim_matches(|letter: char| !letter.is_alphabetic()));
            known.iter().any(|known| word.ends_with(known))
        };
        let at = match numbers[..] {
            [number] => [0, number],
            // The column first, as in x5y3. In 3x5 the x is a times.
            [one, other] if words.len() > 1 && says(words.first(), &COLUMNS) && says(words.get(1), &ROWS) => {
                [other, one]
            }
            [one, other] => [one, other],
            _ => return None,
        };
        Some(Place { words, at, is_flat: numbers.len() == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where each column of a file with columns of these names stands in the image.
    fn order(name: impl Fn(usize, usize) -> String) -> Result<Vec<usize>> {
        let names: Vec<String> = (0..PIXELS).map(|k| name(k / SIDE, k % SIDE)).collect();
        ordered((0..PIXELS).collect(), &names, "a file")
    }

    #[test]
    fn columns_are_in_the_order_of_their_names() {
        let rows: Vec<usize> = (0..PIXELS).collect();
        let columns: Vec<usize> = (0..PIXELS).map(|k| k % SIDE * SIDE + k / SIDE).collect();
        let backwards: Vec<usize> = rows.iter().rev().copied().collect();
        assert_eq!(order(|y, x| format!("pixel{}", y * SIDE + x)).unwrap(), rows);
        assert_eq!(order(|y, x| format!("{}", y * SIDE + x + 1)).unwrap(), rows);
        assert_eq!(order(|y, x| format!("pixel{}", PIXELS - y * SIDE - x)).unwrap(), backwards);
        assert_eq!(order(|y, x| format!("{}x{}", y + 1, x + 1)).unwrap(), rows);
        assert_eq!(order(|y, x| format!("{}x{}", x + 1, y + 1)).unwrap(), columns);
        assert_eq!(order(|y, x| format!("px_{y:02}_{x:02}")).unwrap(), rows);
        assert_eq!(order(|y, x| format!("row{y}_col{x}")).unwrap(), rows);
        assert_eq!(order(|y, x| format!("x{x}y{y}")).unwrap(), rows);
        assert_eq!(order(|y, x| format!("x{y}y{x}")).unwrap(), columns);
        // No numbering: a first row of pixels that pandas took for names, and words.
        assert_eq!(order(|y, x| if x == 0 { "0".into() } else { format!("0.{}", y * SIDE + x) }).unwrap(), rows);
        assert_eq!(order(|y, x| format!("{}{}", ["a", "b"][x % 2], y * SIDE + x)).unwrap(), rows);
        assert_eq!(order(|_, _| "pixel".into()).unwrap(), rows);
    }

    #[test]
    fn names_that_are_of_no_image_are_refused() {
        for (number, sentence) in [
            (5, "its columns pixel5 and pixel5 are of the same pixel"),
            (784, "the names of its columns, such as pixel0, leave a pixel out: the one at 7 is missing"),
        ] {
            let name = |y: usize, x: usize| format!("pixel{}", if (y, x) == (0, 7) { number } else { y * SIDE + x });
            assert_eq!(order(name).unwrap_err().to_string(), sentence);
        }
    }
}
