//! What the numbers of a source mean: bytes, shares of white, or standardised pixels.

use super::{MEAN, STD};
use anyhow::{Result, bail};
use std::fmt::Display;

/// Means and deviations that are undone: MNIST's, and those of `Normalize((0.5,), (0.5,))`.
const STANDARDISED: [(f32, f32); 2] = [(MEAN, STD), (0.5, 0.5)];

/// How far a number may be from a whole one to be the same: float32 has seven digits, and MNIST's mean and deviation
/// are often written with four.
const TOLERANCE: f32 = 0.05;

/// Images of bytes have a pixel of at least this value; where all are below it, they are on another scale.
const FAINTEST: f32 = 32.0;

/// Images have a pixel of at least this share of white. Where all are below it, the images are dim, or their white is 100
/// or 127: then the brightest pixel becomes white.
const DIM: f32 = 0.75;

/// White, as a byte.
const WHITE: f32 = 255.0;

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
    /// Numbers from 0 to this one, which is white: 1, or the highest.
    UpTo(f32),
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
        numbers.into_iter().for_each(|number| survey.add(number, 1));
        survey
    }

    /// Adds a number to those that were seen, `count` times. What is no number is reported where it is read.
    pub(super) fn add(&mut self, number: f32, count: u64) {
        if number.is_nan() || count == 0 {
            return;
        }
        self.count += count;
        self.lowest = self.lowest.min(number);
        self.highest = self.highest.max(number);
        match (0.0..=255.0).contains(&number) {
            true => self.fractions += count * u64::from(number.fract() != 0.0 && whole(number).is_none()),
            false => self.outside += count,
        }
        for (misfits, (mean, deviation)) in self.misfits.iter_mut().zip(STANDARDISED) {
            *misfits += count * u64::from(whole((number * deviation + mean) * WHITE).is_none());
        }
    }

    /// The scale of all numbers of the source `whose`. A few that do not fit it are mistakes, and reported where they are
    /// read.
    ///
    /// # Errors
    ///
    /// If the numbers are on no scale that is known: a guess would train a net that reads nothing else.
    pub(super) fn scale(&self, whose: impl Display) -> Result<Scale> {
        let is_rare = |count: u64| count * 100 < self.count;
        let is_dim = |white: f32| self.highest > 0.0 && self.highest < DIM * white;
        if self.count == 0 || (self.lowest >= 0.0 && self.highest <= 1.0) {
            return Ok(if is_dim(1.0) { self.dim(whose, "1") } else { Scale::UpTo(1.0) });
        }
        if is_rare(self.outside) && self.highest >= FAINTEST {
            return Ok(match is_rare(self.fractions) {
                _ if is_dim(WHITE) => self.dim(whose, "255"),
                true => Scale::Bytes,
                false => Scale::Rounded,
            });
        }
        if let Some(at) = self.misfits.iter().position(|&misfits| misfits == 0) {
            let (mean, deviation) = STANDARDISED[at];
            tracing::info!(
                "{whose}: the pixels are standardised with mean {mean} and deviation {deviation}: this is undone"
            );
            return Ok(Scale::Standardised(mean, deviation));
        }
        bail!(
            "its pixels go from {} to {}; 0 to 255, 0 to 1, or MNIST's standardised with mean {MEAN} and deviation {STD} \
             are expected",
            short(self.lowest),
            short(self.highest)
        )
    }

    /// The scale of images whose brightest pixel is far from `white`.
    fn dim(&self, whose: impl Display, white: &str) -> Scale {
        tracing::warn!(
            "{whose}: the brightest pixel is {}, not {white}: all pixels are scaled so that it is white",
            short(self.highest)
        );
        Scale::UpTo(self.highest)
    }
}

/// How the bytes of images of the source `whose` become pixels, if they are not pixels as they are: zeros and ones are
/// black and white. `counts` is how often each byte is there.
pub(super) fn table(counts: &[u64; 256], whose: impl Display) -> Result<Option<[u8; 256]>> {
    // Nothing was read.
    if counts.iter().all(|&count| count == 0) {
        return Ok(None);
    }
    let mut survey = Survey::default();
    (0..=u8::MAX).zip(counts).for_each(|(byte, &count)| survey.add(f32::from(byte), count));
    let scale = survey.scale(&whose)?;
    if scale == Scale::Bytes || survey.highest == 0.0 {
        return Ok(None);
    }
    if scale == Scale::UpTo(1.0) {
        tracing::info!("{whose}: the pixels are 0 and 1, and become black and white");
    }
    Ok(Some(std::array::from_fn(|byte| scale.pixel(byte as f32).unwrap_or(byte as u8))))
}

/// How often each byte is in `bytes`.
pub(super) fn counts<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> [u64; 256] {
    let mut counts = [0; 256];
    bytes.into_iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    counts
}

impl Scale {
    /// The pixel of a number; `None` if the number is not on this scale.
    pub(super) fn pixel(self, number: f32) -> Option<u8> {
        match self {
            Scale::Bytes => whole(number),
            Scale::Rounded => (0.0..=WHITE).contains(&number).then(|| number.round() as u8),
            Scale::UpTo(white) => (0.0..=white).contains(&number).then(|| (WHITE * (number / white)).round() as u8),
            Scale::Standardised(mean, deviation) => whole((number * deviation + mean) * WHITE),
        }
    }

    /// What its numbers are called in messages.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Scale::Bytes => "a whole number from 0 to 255",
            Scale::Rounded => "a number from 0 to 255",
            Scale::UpTo(1.0) => "a number from 0 to 1",
            Scale::UpTo(_) => "a number from 0 to the brightest pixel",
            Scale::Standardised(..) => "a standardised pixel",
        }
    }
}

/// The byte that a number is, up to [`TOLERANCE`].
fn whole(number: f32) -> Option<u8> {
    let nearest = number.round();
    ((number - nearest).abs() <= TOLERANCE && (0.0..=255.0).contains(&nearest)).then_some(nearest as u8)
}

/// `-0.42`, `2.82`, `16`, `0.0039`
fn short(number: f32) -> String {
    let text = if number.abs() < 0.1 { format!("{number:.4}") } else { format!("{number:.2}") };
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
        let scale = Survey::of(numbers.iter().copied()).scale("a file")?;
        Ok(numbers.iter().filter_map(|&number| scale.pixel(number)).collect())
    }

    #[test]
    fn of_no_pixels_nothing_is_said() {
        assert_eq!(table(&[0; 256], "nothing").unwrap(), None);
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
    fn the_brightest_pixel_of_dim_images_is_white() {
        let whites: [(f32, f32); 6] =
            [(100.0, 1.0), (127.0, 1.0), (180.0, 1.0), (1.0 / 255.0, 1.0), (0.5, 1.0), (60.0, 0.5)];
        for (white, step) in whites {
            let numbers: Vec<f32> =
                bytes().map(|byte| (f32::from(byte) / 255.0 * white / step).round() * step).collect();
            let exact: Vec<f32> = bytes().map(|byte| f32::from(byte) / 255.0 * white).collect();
            assert_eq!(read(&exact).unwrap(), bytes().collect::<Vec<_>>(), "up to {white}");
            if white >= 1.0 {
                let off = read(&numbers).unwrap().iter().zip(bytes()).map(|(&one, other)| one.abs_diff(other)).max();
                assert!(off <= Some((128.0 * step / white) as u8 + 1), "whole numbers up to {white}: {off:?}");
            }
        }
        // A few shades less than white are no other scale.
        assert_eq!(read(&[0.0, 200.0]).unwrap(), [0, 200]);
    }

    #[test]
    fn zeros_and_ones_are_black_and_white_and_bytes_stay_as_they_are() {
        let table = |bytes: &[u8]| table(&counts(bytes), "a file").unwrap();
        assert_eq!(table(&[0, 1, 1]).unwrap()[..2], [0, 255]);
        assert_eq!(table(&[0, 50, 100]).unwrap()[50], 128);
        assert!(table(&[0, 7, 255]).is_none() && table(&[0, 0]).is_none());
        assert!(super::table(&counts(&[0, 3]), "a file").is_err());
    }

    #[test]
    fn one_wrong_number_does_not_change_the_scale() {
        for wrong in [-1.0, 300.0, 0.5, f32::NAN] {
            let numbers: Vec<f32> = bytes().map(f32::from).chain([wrong]).collect();
            let scale = Survey::of(numbers).scale("a file").unwrap();
            assert_eq!((scale, scale.pixel(wrong)), (Scale::Bytes, None));
        }
    }
}
