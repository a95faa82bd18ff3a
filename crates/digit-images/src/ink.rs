//! Finds the ink of a picture's digits: what differs enough from the paper and is neither line nor frame nor speck.

use super::mask::{Mask, Piece, neighbours};
use super::picture::Grey;
use super::shade::{Relief, median, relief};
use super::{Error, Result, frame, lines};
use image::Luma;

/// The least contrast of a digit, in grey levels of 256: a JPEG of blank paper varies by less.
const LEAST_CONTRAST: f32 = 12.0;

/// The highest ink stands out from the paper by at least this many standard deviations of the noise. Noise alone
/// reaches about 5 among the million pixels of a picture.
const CONTRAST_TO_NOISE: f32 = 6.0;

/// Anything that differs from paper by at least this many standard deviations of the noise, and by this share of the
/// usual contrast of ink, may be ink: pencil beside a black frame is.
const INK_TO_NOISE: f32 = 4.0;
const FAINTEST: f32 = 0.2;

/// Within a piece, ink has at least this share of the contrast that most of the piece has.
const HALF: f32 = 0.45;

/// A piece with less than this share of the highest contrast of all pieces is a shadow or the rest of a line.
const FAINT: f32 = 0.35;

/// The soft edge of a line fades to 0 at this share of the threshold.
const FADES_AT: f32 = 0.3;

/// A piece of ink with less than this share of the largest piece is a speck. The bar of a 5 has more.
const SPECK: f32 = 0.03;

/// Pieces with less than this share of the picture, or fewer pixels than this, are dust or noise.
const DUST: f32 = 1.0 / 30_000.0;
const LEAST_PIXELS: usize = 3;

/// So far around ink are its soft edges, as a share of the picture's longest side, and at least this many pixels.
const SOFT_EDGE: f32 = 1.0 / 400.0;
const LEAST_EDGE: usize = 2;

/// The ink of a picture.
pub(super) struct Ink {
    relief: Grey,
    /// Pieces of ink that may be parts of digits.
    pub pieces: Vec<Piece>,
    /// Pieces that are too small for that, and as black.
    pub specks: Vec<Piece>,
}

/// Finds the ink in a picture, dark on light or light on dark.
pub(super) fn find(grey: &Grey) -> Result<Ink> {
    let (width, height) = (grey.width() as usize, grey.height() as usize);
    let Relief { pixels: relief, noise } = relief(grey);
    let values = relief.as_raw();
    let highest = values.iter().fold(0.0, |a: f32, &b| a.max(b));
    if highest < LEAST_CONTRAST {
        return Err(Error::ShowsNothing("it is all one colour"));
    }
    if highest < CONTRAST_TO_NOISE * noise {
        return Err(Error::ShowsNothing("no ink stands out from its noise"));
    }

    let usual = otsu(values, highest);
    let contrast = median(values.iter().copied().filter(|value| *value >= usual).collect());
    let threshold = LEAST_CONTRAST.max(INK_TO_NOISE * noise).max(FAINTEST * contrast).min(HALF * highest);
    let mask = Mask { width, height, ink: values.iter().map(|value| *value >= threshold).collect() };
    // Boxes first: without the sides that look like lines of paper, the others would look like digits.
    let mut pieces = mask.pieces();
    pieces.retain(|piece| piece.pixels.len() >= LEAST_PIXELS.max((DUST * values.len() as f32) as usize));
    let mask = lines::without_lines(&mask.with(&frame::without_boxes(pieces, &mask)));
    let pieces = frame::without_frames(mask.pieces(), &mask);
    let (pieces, specks) = sharpened(pieces, values, &mask);
    let pieces = frame::without_frames(pieces, &mask);
    if pieces.is_empty() {
        return Err(Error::ShowsNothing("no ink stands out from its paper"));
    }
    Ok(Ink { relief, pieces, specks })
}

impl Ink {
    /// The contrast of a piece.
    pub(super) fn contrast(&self, piece: &Piece) -> f32 {
        strength(piece, self.relief.as_raw())
    }

    /// The ink of a digit, 0 for paper to 1, cut out to its bounds.
    pub(super) fn cut(&self, digit: &Piece) -> Grey {
        let width = self.relief.width();
        let values = self.relief.as_raw();
        let threshold = HALF * strength(digit, values);
        // The darker half of the ink becomes 1; below the threshold it fades.
        let full = median(digit.pixels.iter().map(|&k| values[k]).collect()).max(threshold);
        let none = FADES_AT * threshold;
        let near = self.near(digit);
        let bounds = digit.bounds;
        Grey::from_fn(bounds.width, bounds.height, |x, y| {
            let k = ((bounds.y + y) * width + bounds.x + x) as usize;
            Luma([if near[k] { ((values[k] - none) / (full - none)).clamp(0.0, 1.0) } else { 0.0 }])
        })
    }

    /// A digit's pixels and those around it, where its soft edges are.
    fn near(&self, digit: &Piece) -> Vec<bool> {
        let (width, height) = (self.relief.width() as usize, self.relief.height() as usize);
        let mut near = vec![false; width * height];
        digit.pixels.iter().for_each(|&k| near[k] = true);
        let mut edge = digit.pixels.clone();
        let steps = ((SOFT_EDGE * width.max(height) as f32).round() as usize).max(LEAST_EDGE);
        for _ in 0..steps {
            let mut next = Vec::new();
            for k in edge {
                next.extend(neighbours(k, width, height).filter(|&other| !std::mem::replace(&mut near[other], true)));
            }
            edge = next;
        }
        near
    }
}

/// The contrast of most of a piece.
fn strength(piece: &Piece, relief: &[f32]) -> f32 {
    median(piece.pixels.iter().map(|&k| relief[k]).collect())
}

/// The pieces again, each with a threshold of its own: rests of lines fall off, and digits that only blur joins come
/// apart. The specks among them are apart too.
fn sharpened(pieces: Vec<Piece>, relief: &[f32], mask: &Mask) -> (Vec<Piece>, Vec<Piece>) {
    let strengths: Vec<f32> = pieces.iter().map(|piece| strength(piece, relief)).collect();
    let highest = strengths.iter().copied().fold(0.0, f32::max);
    let mut sharp = Mask { ink: vec![false; mask.ink.len()], ..*mask };
    for (piece, strength) in pieces.iter().zip(strengths) {
        if strength >= FAINT * highest {
            piece.pixels.iter().for_each(|&k| sharp.ink[k] = relief[k] >= HALF * strength);
        }
    }
    let pieces = sharp.pieces();
    let largest = pieces.iter().map(|piece| piece.pixels.len()).max().unwrap_or(0);
    pieces.into_iter().partition(|piece| piece.pixels.len() as f32 >= SPECK * largest as f32)
}

/// Otsu's threshold between 0 and `highest`: it separates the values into the two most different classes.
fn otsu(values: &[f32], highest: f32) -> f32 {
    const BINS: usize = 128;
    let mut histogram = [0.0f64; BINS];
    for value in values {
        histogram[((value.max(0.0) / highest * BINS as f32) as usize).min(BINS - 1)] += 1.0;
    }
    let total: f64 = histogram.iter().sum();
    let sum: f64 = histogram.iter().enumerate().map(|(bin, count)| bin as f64 * count).sum();
    let (mut best, mut threshold) = (0.0, BINS / 2);
    let (mut below, mut sum_below) = (0.0, 0.0);
    for (bin, count) in histogram.iter().enumerate() {
        below += count;
        sum_below += bin as f64 * count;
        let above = total - below;
        if below > 0.0 && above > 0.0 {
            let between = below * above * (sum_below / below - (sum - sum_below) / above).powi(2);
            if between > best {
                (best, threshold) = (between, bin + 1);
            }
        }
    }
    highest * threshold as f32 / BINS as f32
}
