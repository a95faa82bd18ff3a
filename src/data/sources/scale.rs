//! What the numbers of a source mean: bytes, shares of white, or standardised pixels.

use crate::data::{MEAN, STD};
use anyhow::{Result, bail};

/// Means and deviations that are undone: MNIST's, and those of `Normalize((0.5,), (0.5,))`.
const STANDARDISED: [(f32, f32); 2] = [(MEAN, STD), (0.5, 0.5)];

/// How far a number may be from a whole one to be the same: float32 has seven digits, and MNIST's mean and deviation
/// are often written with four.
const TOLERANCE: f32 = 0.05;

/// Images of bytes have a pixel of at least this value; where all are below it, they are on another scale.
const FAINTEST: f32 = 32.0;

/// What all pixels of a source have in common.
#[derive(Debug)]
pub(super) struct Survey {
    count: u64,
    lowest: f32,
    highest: f32,
    /// Numbers from 0 to 255 that are not whole.
    fractions: u64,
    /// Numbers below 0 or above 255.
    outside: u64,
    /// Numbers that are no byte after each of [`STANDARDISED`] is undone.
    misfits: [u64; STANDARDISED.len()],
}

/// How a number becomes a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// Whole numbers from 0 to 255.
    Bytes,
    /// Any numbers from 0 to 255, to be rounded.
    Rounded,
    /// Numbers from 0 to 1: shares of 255.
    Shares,
    /// Bytes that were divided by 255, less this mean, divided by this deviation.
    Standardised(f32, f32),
}

impl Default for Survey {
    fn default() -> Survey {
        let (lowest, highest) = (f32::INFINITY, f32::NEG_INFINITY);
        Survey { count: 0, lowest, highest, fractions: 0, outside: 0, misfits: [0; STANDARDISED.len()] }
    }
}

impl Survey {
    pub(super) fn of(numbers: impl IntoIterator<Item = f32>) -> Survey {
        let mut survey = Survey::default();
        numbers.into_iter().for_each(|number| survey.add(number));
        survey
    }

    /// Adds a number to those that were seen. What is no number is reported where it is read.
    pub(super) fn add(&mut self, number: f32) {
        if number.is_nan() {
            return;
        }
        self.count += 1;
        self.lowest = self.lowest.min(number);
        self.highest = self.highest.max(number);
        match (0.0..=255.0).contains(&number) {
            true => self.fractions += u64::from(number.fract() != 0.0 && whole(number).is_none()),
            false => self.outside += 1,
        }
        for (misfits, (mean, deviation)) in self.misfits.iter_mut().zip(STANDARDISED) {
            *misfits += u64::from(whole((number * deviation + mean) * 255.0).is_none());
        }
    }

    /// The scale of all numbers. A few that do not fit it are mistakes, and reported where they are read.
    ///
    /// # Errors
    ///
    /// If the numbers are on no scale that is known: a guess would train a net that reads nothing else.
    pub(super) fn scale(&self) -> Result<Scale> {
        let is_rare = |count: u64| count * 100 < self.count;
        if self.count == 0 || (self.lowest >= 0.0 && self.highest <= 1.0) {
            return Ok(Scale::Shares);
        }
        if is_rare(self.outside) && self.highest >= FAINTEST {
            return Ok(if is_rare(self.fractions) { Scale::Bytes } else { Scale::Rounded });
        }
        if let Some(at) = self.misfits.iter().position(|&misfits| misfits == 0) {
            let (mean, deviation) = STANDARDISED[at];
            tracing::info!("the pixels are standardised with mean {mean} and deviation {deviation}: this is undone");
            return Ok(Scale::Standardised(mean, deviation));
        }
        bail!(
            "its pixels go from {} to {}; 0 to 255, 0 to 1, or MNIST's standardised with mean {MEAN} and deviation {STD} \
             are expected",
            short(self.lowest),
            short(self.highest)
        )
    }
}

impl Scale {
    /// The pixel of a number; `None` if the number is not on this scale.
    pub(super) fn pixel(self, number: f32) -> Option<u8> {
        match self {
            Scale::Bytes => whole(number),
            Scale::Rounded => (0.0..=255.0).contains(&number).then(|| number.round() as u8),
            Scale::Shares => (0.0..=1.0).contains(&number).then(|| (255.0 * number).round() as u8),
            Scale::Standardised(mean, deviation) => whole((number * deviation + mean) * 255.0),
        }
    }

    /// What its numbers are called in messages.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Scale::Bytes => "a whole number from 0 to 255",
            Scale::Rounded => "a number from 0 to 255",
            Scale::Shares => "a number from 0 to 1",
            Scale::Standardised(..) => "a standardised pixel",
        }
    }
}

/// The byte that a number is, up to [`TOLERANCE`].
fn whole(number: f32) -> Option<u8> {
    let nearest = number.round();
    ((number - nearest).abs() <= TOLERANCE && (0.0..=255.0).contains(&nearest)).then_some(nearest as u8)
}

/// `-0.42`, `2.82`, `16`
fn short(number: f32) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> impl Iterator<Item = u8> {
        (0..1000u32).map(|k| (k * 7 % 256) as u8)
    }

    /// The bytes that `numbers` are read as.
    fn read(numbers: &[f32]) -> Result<Vec<u8>> {
        let scale = Survey::of(numbers.iter().copied()).scale()?;
        Ok(numbers.iter().filter_map(|&number| scale.pixel(number)).collect())
    }

    #[test]
    fn numbers_on_every_scale_are_the_same_bytes() {
        let scales: [fn(f32) -> f32; 5] = [
            |byte| byte,
            |byte| byte / 255.0,
            |byte| (byte / 255.0 - 0.1307) / 0.3081,
            |byte| (byte / 255.0 - 0.130_660_47) / 0.308_107_8,
            |byte| (byte / 255.0 - 0.5) / 0.5,
        ];
        for scale in scales {
            let numbers: Vec<f32> = bytes().map(|byte| scale(byte.into())).collect();
            assert_eq!(read(&numbers).unwrap(), bytes().collect::<Vec<_>>());
        }
        assert_eq!(read(&[0.0, 1.0, 1.0]).unwrap(), [0, 255, 255]);
        // Scaled pictures have fractions.
        assert_eq!(read(&[0.0, 12.4, 250.6, 99.5]).unwrap(), [0, 12, 251, 100]);
    }

    #[test]
    fn numbers_on_no_known_scale_are_refused() {
        let other: Vec<f32> = bytes().map(|byte| (f32::from(byte) / 255.0 - 0.2) / 0.4).collect();
        for (numbers, range) in
            [(other, "-0.5 to 2"), (vec![0.0, 3.0, 16.0], "0 to 16"), (vec![-128.0, 127.0], "-128 to 127")]
        {
            let sentence = read(&numbers).unwrap_err().to_string();
            assert!(sentence.starts_with(&format!("its pixels go from {range}; 0 to 255, 0 to 1, or ")), "{sentence}");
        }
    }

    #[test]
    fn one_wrong_number_does_not_change_the_scale() {
        for wrong in [-1.0, 300.0, 0.5, f32::NAN] {
            let numbers: Vec<f32> = bytes().map(f32::from).chain([wrong]).collect();
            let scale = Survey::of(numbers).scale().unwrap();
            assert_eq!((scale, scale.pixel(wrong)), (Scale::Bytes, None));
        }
    }
}
