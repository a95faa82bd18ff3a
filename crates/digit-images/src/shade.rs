//! Takes the shade of the paper out of a picture: what is left is how much darker, or lighter, than the paper each
//! pixel is.

use super::filter::{blur, enlarge, shrink};
use super::mask::neighbours;
use super::picture::Grey;
use image::Luma;

/// The shade of paper is smooth: it is estimated on a copy of this longest side.
const COARSE_SIDE: u32 = 96;

/// Whatever is narrower than twice this share of the picture's longest side is ink on paper, not a shade of it: the
/// lines of a bold digit that fills a picture are a fifth of it. In a long row of digits it is this share of the
/// shorter side.
const WIDEST_INK: f32 = 0.12;
const WIDEST_IN_ROW: f32 = 0.3;

/// Within this share of the longest side around an edge of ink, less than half is ink.
const MINORITY: f32 = 0.3;

/// The edges of ink are at least this share of the steepest slope in the picture; those of shadows are not.
const SHARP: f32 = 0.3;

/// The shade between pixels of paper is averaged over this share of the longest side: finer than the edge of a soft
/// shadow.
const SMOOTHING: f32 = 0.04;

/// A pixel looks like paper up to this difference from its shade, in grey levels.
const LIKE_PAPER: f32 = 8.0;

/// A soft shadow changes by at most this much from one coarse pixel to the next, in grey levels; ink changes by more.
const GENTLE: f32 = 9.0;

/// Faint ink changes by more than this share of its contrast.
const GENTLE_TO_INK: f32 = 0.08;

/// Rounds of averaging; each takes away most of what the one before missed.
const PASSES: usize = 3;

/// A shadow makes ink fainter as well as paper. Contrast is restored by at most this factor.
const MOST_GAIN: f32 = 4.0;

/// Grain is finer than this share of the longest side, lines are not: it is blurred away.
const GRAIN: f32 = 1.0 / 600.0;

/// This share of a picture is paper, whatever ink and lines there are; and the standard deviation of a normal
/// distribution is so many times the largest of its smallest deviations of this share.
const QUIETEST: f32 = 0.3;
const DEVIATIONS_PER_QUIETEST: f32 = 2.595;

/// Rounds of reweighting in the fit of a quadratic surface.
const ROUNDS: usize = 16;

/// A picture minus its paper.
pub(super) struct Relief {
    /// 0 for paper, positive for ink, in grey levels.
    pub pixels: Grey,
    /// The standard deviation of paper from 0.
    pub noise: f32,
}

/// Takes the paper out of a picture with dark ink on light paper or light ink on dark.
pub(super) fn relief(grey: &Grey) -> Relief {
    let (width, height) = grey.dimensions();
    let scale = (COARSE_SIDE as f32 / width.max(height) as f32).min(1.0);
    let scaled = |side: u32| ((side as f32 * scale).round() as u32).max(1);
    let mut coarse = shrink(grey, scaled(width), scaled(height));
    let mut surface = quadratic(&coarse);
    let light_ink = is_ink_light(&coarse, &surface);
    if light_ink {
        coarse.pixels_mut().for_each(|pixel| pixel.0[0] = -pixel.0[0]);
        surface.iter_mut().for_each(|shade| *shade = -*shade);
    }
    let paper = enlarge(&shade(&coarse, &surface), width, height);
    let gain = gain(&paper, light_ink);
    let sign = if light_ink { -1.0 } else { 1.0 };
    let pixels = Grey::from_fn(width, height, |x, y| {
        let paper = paper.get_pixel(x, y).0[0];
        Luma([(paper - sign * grey.get_pixel(x, y).0[0]) * gain(paper)])
    });
    let grain = GRAIN * width.max(height) as f32;
    let pixels = if grain > 0.3 { blur(&pixels, grain) } else { pixels };
    Relief { noise: noise(&pixels), pixels }
}

/// The standard deviation of paper from 0, from the pixels nearest to 0.
fn noise(relief: &Grey) -> f32 {
    let mut deviations: Vec<f32> = relief.pixels().map(|pixel| pixel.0[0].abs()).collect();
    let middle = (QUIETEST * deviations.len() as f32) as usize;
    DEVIATIONS_PER_QUIETEST * *deviations.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// Whether ink is lighter than paper. It is the minority wherever it is, so the third moment of the differences from
/// the median around each pixel has its sign.
fn is_ink_light(coarse: &Grey, surface: &[f32]) -> bool {
    let mut flat = coarse.clone();
    flat.pixels_mut().zip(surface).for_each(|(pixel, shade)| pixel.0[0] -= shade);
    let (width, height) = flat.dimensions();
    let radius = ((MINORITY * width.max(height) as f32).round() as u32).max(1);
    let span = |at: u32, side: u32| at.saturating_sub(radius)..(at + radius + 1).min(side);
    let median_around = |x: u32, y: u32| {
        // Every other pixel of every other row is enough.
        let around = span(y, height).step_by(2).flat_map(|y| span(x, width).step_by(2).map(move |x| (x, y)));
        median(around.map(|(x, y)| flat.get_pixel(x, y).0[0]).collect())
    };
    // Only at sharp edges, which shadows do not have.
    let values = flat.as_raw();
    let steepest = |k: usize| {
        let around = neighbours(k, width as usize, height as usize);
        around.map(|other| (values[other] - values[k]).abs()).fold(0.0, f32::max)
    };
    let lean = |k: usize| f64::from(values[k] - median_around(k as u32 % width, k as u32 / width)).powi(3);
    let steepness: Vec<f32> = (0..values.len()).map(steepest).collect();
    let sharp = SHARP * steepness.iter().copied().fold(0.0, f32::max);
    (0..values.len()).filter(|&k| steepness[k] >= sharp).map(lean).sum::<f64>() > 0.0
}

/// The shade of the paper below dark ink: the quadratic surface, plus what it misses, such as a shadow.
fn shade(coarse: &Grey, surface: &[f32]) -> Grey {
    let (width, height) = coarse.dimensions();
    let at = |values: &[f32], x: u32, y: u32| values[(y * width + x) as usize];
    let missed = Grey::from_fn(width, height, |x, y| Luma([coarse.get_pixel(x, y).0[0] - at(surface, x, y)]));
    let widest = (WIDEST_INK * width.max(height) as f32).min(WIDEST_IN_ROW * width.min(height) as f32);
    let radius = (widest.round() as u32).max(1);
    // A closing, the largest and then the smallest value around, fills dark parts narrower than its window: lines of
    // paper with the first, ink with the second.
    let missed = around(&around(&missed, 1, f32::max), 1, f32::min);
    let closed = around(&around(&missed, radius, f32::max), radius, f32::min);

    // It is biased towards light: average what looks like paper instead, wherever there is some.
    let paper = like_paper(&missed, &closed);
    let weight = |x: u32, y: u32| if paper[(y * width + x) as usize] { 1.0 } else { 1e-3 };
    let sigma = (SMOOTHING * width.max(height) as f32).max(0.5);
    let weights = blur(&Grey::from_fn(width, height, |x, y| Luma([weight(x, y)])), sigma);
    let target = Grey::from_fn(width, height, |x, y| {
        if paper[(y * width + x) as usize] { *missed.get_pixel(x, y) } else { *closed.get_pixel(x, y) }
    });
    let mut shade = Grey::new(width, height);
    for _ in 0..PASSES {
        let wrong = |x: u32, y: u32| weight(x, y) * (target.get_pixel(x, y).0[0] - shade.get_pixel(x, y).0[0]);
        let sums = blur(&Grey::from_fn(width, height, |x, y| Luma([wrong(x, y)])), sigma);
        shade.enumerate_pixels_mut().for_each(|(x, y, shade)| {
            shade.0[0] += sums.get_pixel(x, y).0[0] / weights.get_pixel(x, y).0[0];
        });
    }
    Grey::from_fn(width, height, |x, y| Luma([at(surface, x, y) + shade.get_pixel(x, y).0[0]]))
}

/// Which pixels are paper: those near the closed picture, and those that a gentle slope joins to them. Closing fills
/// the valley of a shadow too, and is wrong near the edges, where its window is cut off.
fn like_paper(missed: &Grey, closed: &Grey) -> Vec<bool> {
    let (width, height) = (missed.width() as usize, missed.height() as usize);
    let depths: Vec<f32> =
        missed.pixels().zip(closed.pixels()).map(|(pixel, closed)| closed.0[0] - pixel.0[0]).collect();
    let deepest = depths.iter().copied().fold(0.0, f32::max);
    let gentle = GENTLE.min(GENTLE_TO_INK * deepest);
    let mut paper: Vec<bool> = depths.iter().map(|depth| *depth < LIKE_PAPER.min(deepest / 2.0)).collect();
    let mut reached: Vec<usize> = (0..paper.len()).filter(|&k| paper[k]).collect();
    let values = missed.as_raw();
    while let Some(k) = reached.pop() {
        for other in neighbours(k, width, height) {
            if !paper[other] && (values[other] - values[k]).abs() < gentle {
                paper[other] = true;
                reached.push(other);
            }
        }
    }
    paper
}

/// The factor by which contrast is restored where the paper has some shade.
fn gain(paper: &Grey, light_ink: bool) -> impl Fn(f32) -> f32 {
    let lightest = paper.pixels().map(|pixel| pixel.0[0]).fold(0.0, f32::max);
    // Light ink on dark paper, and channels in which dark is not 0, have no shade to divide by.
    let least = lightest / MOST_GAIN;
    let divides = !light_ink && lightest > 0.0;
    move |shade| if divides { lightest / shade.clamp(least, lightest) } else { 1.0 }
}

/// The picture with each pixel replaced by the largest, or smallest, of the square around it.
fn around(image: &Grey, radius: u32, pick: impl Fn(f32, f32) -> f32 + Copy) -> Grey {
    let (width, height) = image.dimensions();
    let rows = Grey::from_fn(width, height, |x, y| {
        let span = x.saturating_sub(radius)..=(x + radius).min(width - 1);
        Luma([span.map(|x| image.get_pixel(x, y).0[0]).reduce(pick).unwrap_or(0.0)])
    });
    Grey::from_fn(width, height, |x, y| {
        let span = y.saturating_sub(radius)..=(y + radius).min(height - 1);
        Luma([span.map(|y| rows.get_pixel(x, y).0[0]).reduce(pick).unwrap_or(0.0)])
    })
}

/// The quadratic surface nearest to the picture by least absolute deviations, which ink on a minority of pixels does
/// not move: a lamp makes paper brighter in a corner, a lens darker at the edges.
fn quadratic(image: &Grey) -> Vec<f32> {
    let (width, height) = image.dimensions();
    let coordinate = |k: u32, side: u32| if side > 1 { 2.0 * f64::from(k) / f64::from(side - 1) - 1.0 } else { 0.0 };
    let terms: Vec<[f64; 6]> = (0..width * height)
        .map(|k| (coordinate(k % width, width), coordinate(k / width, height)))
        .map(|(x, y)| [1.0, x, y, x * x, x * y, y * y])
        .collect();
    let values: Vec<f64> = image.pixels().map(|pixel| f64::from(pixel.0[0])).collect();
    let middle = median(image.pixels().map(|pixel| pixel.0[0]).collect());
    let mut surface = [f64::from(middle), 0.0, 0.0, 0.0, 0.0, 0.0];
    let height_at = |surface: &[f64; 6], terms: &[f64; 6]| terms.iter().zip(surface).map(|(a, b)| a * b).sum::<f64>();
    for _ in 0..ROUNDS {
        // 1 / |residual| makes least squares least absolute deviations; a residual counts as at least 1 grey level.
        let weight = |k: usize| (values[k] - height_at(&surface, &terms[k])).abs().max(1.0).recip();
        match least_squares(&terms, &values, weight) {
            Some(better) => surface = better,
            None => break,
        }
    }
    terms.iter().map(|terms| height_at(&surface, terms) as f32).collect()
}

/// The coefficients that minimise the weighted squares; `None` if there are too few pixels for a fit.
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

/// The middle one of `values`; 0 of none.
pub(super) fn median(mut values: Vec<f32>) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paper with a lamp at one side, `darker` on its right half with a soft edge, and a cross of ink.
    fn sheet(darker: f32) -> Grey {
        Grey::from_fn(200, 200, |x, y| {
            let shadow = 1.0 - darker / (1.0 + (-(x as f32 - 100.0) / 12.0).exp());
            let ink = (90..110).contains(&x) && (40..160).contains(&y);
            Luma([if ink { 40.0 } else { 200.0 + y as f32 / 10.0 } * shadow])
        })
    }

    #[test]
    fn a_shadow_is_paper_and_ink_is_not() {
        for darker in [0.0, 0.3, 0.6] {
            let relief = relief(&sheet(darker)).pixels;
            for (x, y) in [(5, 5), (60, 100), (140, 100), (195, 195)] {
                assert!(relief.get_pixel(x, y).0[0].abs() < 20.0, "{darker} {x} {y}: {:?}", relief.get_pixel(x, y));
            }
            assert!(relief.get_pixel(100, 100).0[0] > 100.0);
        }
    }

    #[test]
    fn light_ink_on_dark_is_positive_too() {
        let mut sheet = sheet(0.0);
        sheet.pixels_mut().for_each(|pixel| pixel.0[0] = 255.0 - pixel.0[0]);
        assert!(relief(&sheet).pixels.get_pixel(100, 100).0[0] > 100.0);
    }
}
