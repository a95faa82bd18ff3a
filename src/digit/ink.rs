//! Separates ink from paper: the shade of the paper is subtracted, what differs enough from it is ink, and specks are dropped.

use super::picture::{Grey, median};
use anyhow::{Result, ensure};
use image::Luma;

/// The least contrast of a digit, in grey levels of 256: a JPEG of blank paper varies by less.
const LEAST_CONTRAST: f32 = 12.0;

/// The highest ink stands out from the paper by at least this many standard deviations of the noise. Noise alone reaches
/// about 4.5 among the 65,536 pixels of a picture.
const CONTRAST_TO_NOISE: f32 = 6.0;

/// Ink differs from paper by at least this many standard deviations of the noise: at 4, one pixel of paper in 30,000 does.
const INK_TO_NOISE: f32 = 4.0;

/// The threshold of ink is at most this share of the highest contrast, so that some ink is left on noisy paper.
const HIGHEST_THRESHOLD: f32 = 0.7;

/// The soft edge of a line fades to 0 at this share of the threshold.
const FADES_AT: f32 = 0.3;

/// A piece of ink with less than this share of the largest piece is a speck. The bar of a 5 has more.
const SPECK: f32 = 0.06;

/// Pieces that touch the edge of the picture are dropped if the largest piece within has at least this share of the largest of
/// all: a digit is smaller than a table edge, but not by much.
const WITHIN: f32 = 0.3;

/// The outer 6 % of the picture on each side are taken as paper at first. Coordinates go from -1 to 1.
const EDGE: f64 = 0.88;

/// The standard deviation of a normal distribution is this many times its median absolute deviation.
const DEVIATIONS_PER_MEDIAN: f64 = 1.4826;

/// Rounds of reweighting: the first half fits the paper to the picture's edge, the second half to all that looks like paper.
const ROUNDS: usize = 16;

/// Pixels within this many standard deviations of the surface look like paper; the deviation counts as at least 2 grey levels,
/// because a clean picture has none.
const PAPER_TO_NOISE: f64 = 3.0;
const LEAST_NOISE: f64 = 2.0;

/// The ink of a digit.
pub(super) struct Ink {
    /// 0 for paper to 1 for ink.
    pub pixels: Grey,
    /// Left, top, width and height of the ink.
    pub bounds: (u32, u32, u32, u32),
    /// How wide its lines are, in pixels.
    pub stroke: f32,
}

/// Finds the ink in a picture, dark on light or light on dark.
pub(super) fn find(grey: &Grey) -> Result<Ink> {
    let (width, height) = grey.dimensions();
    let (mut relief, noise) = without_paper(grey);
    // Ink is darker or lighter than the paper: the side with the larger deviations.
    if relief.iter().map(|value| f64::from(*value).powi(3)).sum::<f64>() < 0.0 {
        relief.iter_mut().for_each(|value| *value = -*value);
    }
    let highest = relief.iter().fold(0.0, |a: f32, &b| a.max(b));
    ensure!(highest >= LEAST_CONTRAST.max(CONTRAST_TO_NOISE * noise), "it shows nothing: it is all one colour");
    let threshold = otsu(&relief, highest).max(INK_TO_NOISE * noise).min(HIGHEST_THRESHOLD * highest);

    let mask = without_specks(&relief, threshold, width as usize);
    let inked: Vec<f32> = relief.iter().zip(&mask).filter(|(_, ink)| **ink).map(|(value, _)| *value).collect();
    ensure!(!inked.is_empty(), "it shows nothing: it is all one colour");
    // The darker half of the ink becomes 1; below the threshold it fades.
    let (full, none) = (median(inked).max(threshold), FADES_AT * threshold);
    let near = spread(&mask, width as usize);
    let value = |k: usize| if near[k] { ((relief[k] - none) / (full - none)).clamp(0.0, 1.0) } else { 0.0 };
    let pixels = Grey::from_fn(width, height, |x, y| Luma([value((y * width + x) as usize)]));
    Ok(Ink { bounds: bounds(&mask, width), stroke: stroke(&mask, width as usize), pixels })
}

impl Ink {
    /// The same ink with lines that are `radius` pixels wider on each side.
    pub(super) fn thicker(&self, radius: i32) -> Ink {
        let (left, top, width, height) = self.bounds;
        let (wide, high) = (width as i32 + 2 * radius, height as i32 + 2 * radius);
        let disc: Vec<(i32, i32)> = (-radius..=radius)
            .flat_map(|y| (-radius..=radius).map(move |x| (x, y)))
            .filter(|(x, y)| x * x + y * y <= radius * radius + radius)
            .collect();
        let at = |x: i32, y: i32| {
            let inside = (0..width as i32).contains(&x) && (0..height as i32).contains(&y);
            if inside { self.pixels.get_pixel(left + x as u32, top + y as u32).0[0] } else { 0.0 }
        };
        let pixels = Grey::from_fn(wide as u32, high as u32, |x, y| {
            let around = disc.iter().map(|(dx, dy)| at(x as i32 - radius + dx, y as i32 - radius + dy));
            Luma([around.fold(0.0, f32::max)])
        });
        Ink { pixels, bounds: (0, 0, wide as u32, high as u32), stroke: self.stroke + 2.0 * radius as f32 }
    }
}

/// The picture minus the shade of its paper, and the standard deviation of the noise.
///
/// The shade is a quadratic surface, as a lamp makes it brighter in a corner or a lens darker at the edges. It is fitted by
/// least absolute deviations: first to the picture's edge, where there is little ink, then to all that looks like paper.
fn without_paper(grey: &Grey) -> (Vec<f32>, f32) {
    let (width, height) = grey.dimensions();
    let coordinate = |k: u32, side: u32| if side > 1 { 2.0 * f64::from(k) / f64::from(side - 1) - 1.0 } else { 0.0 };
    let terms: Vec<[f64; 6]> = (0..width * height)
        .map(|k| (coordinate(k % width, width), coordinate(k / width, height)))
        .map(|(x, y)| [1.0, x, y, x * x, x * y, y * y])
        .collect();
    let values: Vec<f64> = grey.pixels().map(|pixel| f64::from(pixel.0[0])).collect();
    let edge = |terms: &[f64; 6]| terms[1].abs() > EDGE || terms[2].abs() > EDGE;
    let at_edge: Vec<bool> = terms.iter().map(edge).collect();
    let middle = median(values.iter().zip(&at_edge).filter(|(_, edge)| **edge).map(|(v, _)| *v as f32).collect());

    let mut surface = [f64::from(middle), 0.0, 0.0, 0.0, 0.0, 0.0];
    let residuals = |surface: &[f64; 6]| -> Vec<f64> {
        let height = |terms: &[f64; 6]| terms.iter().zip(surface).map(|(a, b)| a * b).sum::<f64>();
        values.iter().zip(&terms).map(|(value, terms)| value - height(terms)).collect()
    };
    let noise_of = |residuals: &[f64]| {
        let at_edge = residuals.iter().zip(&at_edge).filter(|(_, edge)| **edge);
        DEVIATIONS_PER_MEDIAN * f64::from(median(at_edge.map(|(residual, _)| residual.abs() as f32).collect()))
    };
    for round in 0..ROUNDS {
        let left = residuals(&surface);
        let limit = PAPER_TO_NOISE * noise_of(&left).max(LEAST_NOISE);
        let weight = |k: usize| {
            let counts = if round < ROUNDS / 2 { at_edge[k] } else { left[k].abs() < limit };
            // 1 / |residual| makes least squares least absolute deviations; a residual counts as at least 1 grey level.
            if counts { left[k].abs().max(1.0).recip() } else { 0.0 }
        };
        if let Some(better) = least_squares(&terms, &values, weight) {
            surface = better;
        }
    }
    let left = residuals(&surface);
    (left.iter().map(|residual| *residual as f32).collect(), noise_of(&left) as f32)
}

/// The coefficients that minimise the weighted squares; `None` if the weights leave too few pixels for a fit.
fn least_squares(terms: &[[f64; 6]], values: &[f64], weight: impl Fn(usize) -> f64) -> Option<[f64; 6]> {
    let mut system = [[0.0; 7]; 6];
    for (k, terms) in terms.iter().enumerate() {
        let weight = weight(k);
        for row in 0..6 {
            (0..6).for_each(|column| system[row][column] += weight * terms[row] * terms[column]);
            system[row][6] += weight * terms[row] * values[k];
        }
    }
    // Gauss-Jordan elimination with pivots. A pivot of almost 0 means that a coefficient is undetermined.
    for column in 0..6 {
        let pivot = (column..6).max_by(|&a, &b| system[a][column].abs().total_cmp(&system[b][column].abs()))?;
        system.swap(column, pivot);
        if system[column][column].abs() < 1e-9 {
            return None;
        }
        let pivot_row = system[column];
        for (row, line) in system.iter_mut().enumerate() {
            if row != column {
                let factor = line[column] / pivot_row[column];
                (column..7).for_each(|k| line[k] -= factor * pivot_row[k]);
            }
        }
    }
    Some(std::array::from_fn(|k| system[k][6] / system[k][k]))
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

/// Which pixels are ink: those above the threshold, in pieces that are not specks. Pieces that touch the edge, such as the table
/// beside the paper, are left out if there is a piece within.
fn without_specks(relief: &[f32], threshold: f32, width: usize) -> Vec<bool> {
    let height = relief.len() / width;
    let mut pieces: Vec<(f32, bool, Vec<usize>)> = Vec::new();
    let mut seen = vec![false; relief.len()];
    for start in 0..relief.len() {
        if seen[start] || relief[start] < threshold {
            continue;
        }
        seen[start] = true;
        let (mut piece, mut next) = (vec![start], 0);
        while next < piece.len() {
            for neighbour in neighbours(piece[next], width, height) {
                if !seen[neighbour] && relief[neighbour] >= threshold {
                    seen[neighbour] = true;
                    piece.push(neighbour);
                }
            }
            next += 1;
        }
        let mass = piece.iter().map(|&k| relief[k]).sum();
        let on_edge = |&k: &usize| k % width == 0 || k % width + 1 == width || k < width || k / width + 1 == height;
        pieces.push((mass, piece.iter().any(on_edge), piece));
    }
    let largest = |pieces: &[(f32, bool, Vec<usize>)]| pieces.iter().map(|piece| piece.0).fold(0.0, f32::max);
    let within: Vec<_> = pieces.iter().filter(|piece| !piece.1).cloned().collect();
    if largest(&within) > WITHIN * largest(&pieces) {
        pieces = within;
    }
    let least = SPECK * largest(&pieces);
    let mut mask = vec![false; relief.len()];
    pieces.iter().filter(|piece| piece.0 >= least).flat_map(|piece| &piece.2).for_each(|&k| mask[k] = true);
    mask
}

/// The up to eight pixels around pixel `k`.
fn neighbours(k: usize, width: usize, height: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (k % width, k / width);
    let (xs, ys) = (x.saturating_sub(1)..=(x + 1).min(width - 1), y.saturating_sub(1)..=(y + 1).min(height - 1));
    ys.flat_map(move |y| xs.clone().map(move |x| y * width + x)).filter(move |&other| other != k)
}

/// The mask and the two pixels around it, where its soft edges are.
fn spread(mask: &[bool], width: usize) -> Vec<bool> {
    let height = mask.len() / width;
    let grown = |mask: &[bool]| -> Vec<bool> {
        (0..mask.len()).map(|k| mask[k] || neighbours(k, width, height).any(|other| mask[other])).collect()
    };
    grown(&grown(mask))
}

fn bounds(mask: &[bool], width: u32) -> (u32, u32, u32, u32) {
    let inked = || (0..mask.len() as u32).filter(|&k| mask[k as usize]);
    let (left, right) = inked().fold((u32::MAX, 0), |(low, high), k| (low.min(k % width), high.max(k % width)));
    let (top, bottom) = inked().fold((u32::MAX, 0), |(low, high), k| (low.min(k / width), high.max(k / width)));
    (left, top, right + 1 - left, bottom + 1 - top)
}

/// The width of the mask's lines. In a bar of width w, the mean depth of a pixel below the edge is (w + 2) / 4.
fn stroke(mask: &[bool], width: usize) -> f32 {
    let height = mask.len() / width;
    let count = mask.iter().filter(|ink| **ink).count() as f32;
    let (mut layer, mut depths) = (mask.to_vec(), 0.0);
    loop {
        let left = layer.iter().filter(|ink| **ink).count();
        if left == 0 {
            return (4.0 * depths / count - 2.0).max(1.0);
        }
        depths += left as f32;
        // Outside the picture is paper.
        let inner = |k: usize| layer[k] && neighbours(k, width, height).filter(|&other| layer[other]).count() == 8;
        layer = (0..layer.len()).map(inner).collect();
    }
}
