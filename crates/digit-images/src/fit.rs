//! Fits the ink of a digit into MNIST's square, as the page of MNIST describes (<http://yann.lecun.com/exdb/mnist/>).

use super::picture::Grey;
use super::{Digit, Error, Result, SIDE};
use image::Luma;
use image::imageops::{FilterType, resize};

/// The longest side of a digit in the square.
const LONGEST: u32 = 20;

/// The ink is scaled down to this longest side first: eight pixels to one of the square, enough to measure and widen
/// lines.
const FINE: u32 = 8 * LONGEST;

/// The thinnest line that is not thickened, in pixels of the square: lines in MNIST are 2 to 3 wide.
const THINNEST: f32 = 2.2;

/// From this value on a pixel belongs to a line when the line's width is measured.
const INKED: f32 = 0.4;

/// Scales the ink, 0 for paper to 1, which fills its rectangle, into 20x20, keeping its shape, and puts its centre of
/// mass on pixel 14 of 28x28.
pub(super) fn fit(ink: &Grey) -> Result<Digit> {
    let ink = within(ink, ink.width().max(ink.height()).min(FINE));
    let scale = LONGEST as f32 / ink.width().max(ink.height()) as f32;
    // A line thinner than a pixel of the square would become grey.
    let missing = THINNEST / scale - stroke(&ink);
    let ink = if missing > 0.0 { thicker(&ink, (missing / 2.0).round() as i32) } else { ink };

    let small = within(&ink, LONGEST);
    let (width, height) = small.dimensions();
    let brightest = small.pixels().map(|pixel| pixel.0[0]).fold(0.0, f32::max);
    if brightest <= 0.0 {
        return Err(Error::ShowsNothing("its ink is no digit"));
    }
    let (x, y) = centre_of_mass(small.pixels().map(|pixel| pixel.0[0]), width as usize);
    let offset = |centre: f32, side: u32| ((14.0 - centre).round().max(0.0) as u32).min(SIDE as u32 - side);
    let (left, top) = (offset(x, width), offset(y, height));
    let mut digit = [0; SIDE * SIDE];
    for (x, y, pixel) in small.enumerate_pixels() {
        let at = (top + y) as usize * SIDE + (left + x) as usize;
        digit[at] = (255.0 * pixel.0[0] / brightest).round().clamp(0.0, 255.0) as u8;
    }
    Ok(digit)
}

/// The ink with its longest side scaled to `longest`.
fn within(ink: &Grey, longest: u32) -> Grey {
    let from = ink.width().max(ink.height());
    let scaled = |side: u32| ((side * longest) as f32 / from as f32).round().max(1.0) as u32;
    resize(ink, scaled(ink.width()), scaled(ink.height()), FilterType::Triangle)
}

/// The same ink with lines that are `radius` pixels wider on each side.
fn thicker(ink: &Grey, radius: i32) -> Grey {
    let disc: Vec<(i32, i32)> = (-radius..=radius)
        .flat_map(|y| (-radius..=radius).map(move |x| (x, y)))
        .filter(|(x, y)| x * x + y * y <= radius * radius + radius)
        .collect();
    let (width, height) = (ink.width() as i32, ink.height() as i32);
    let at = |x: i32, y: i32| {
        let inside = (0..width).contains(&x) && (0..height).contains(&y);
        if inside { ink.get_pixel(x as u32, y as u32).0[0] } else { 0.0 }
    };
    Grey::from_fn((width + 2 * radius) as u32, (height + 2 * radius) as u32, |x, y| {
        let around = disc.iter().map(|(dx, dy)| at(x as i32 - radius + dx, y as i32 - radius + dy));
        Luma([around.fold(0.0, f32::max)])
    })
}

/// The width of the ink's lines. In a bar of width w, the mean depth of a pixel below the edge is (w + 2) / 4.
fn stroke(ink: &Grey) -> f32 {
    let (width, height) = (ink.width() as usize, ink.height() as usize);
    let mut layer: Vec<bool> = ink.pixels().map(|pixel| pixel.0[0] >= INKED).collect();
    let (count, mut depths) = (layer.iter().filter(|ink| **ink).count() as f32, 0.0);
    loop {
        let left = layer.iter().filter(|ink| **ink).count();
        if left == 0 {
            return (4.0 * depths / count.max(1.0) - 2.0).max(1.0);
        }
        depths += left as f32;
        // Outside the rectangle is paper.
        let inner = |k: usize| {
            let (x, y) = (k % width, k / width);
            let within = x > 0 && y > 0 && x + 1 < width && y + 1 < height;
            within && (y - 1..=y + 1).all(|y| (x - 1..=x + 1).all(|x| layer[y * width + x]))
        };
        layer = (0..layer.len()).map(inner).collect();
    }
}

/// The centre of mass of pixels in rows of `width`, in pixels from the centre of the first.
pub(super) fn centre_of_mass(pixels: impl Iterator<Item = f32>, width: usize) -> (f32, f32) {
    let sums = pixels.enumerate().fold((0.0, 0.0, 0.0), |(mass, x, y), (k, pixel)| {
        (mass + pixel, x + pixel * (k % width) as f32, y + pixel * (k / width) as f32)
    });
    if sums.0 > 0.0 { (sums.1 / sums.0, sums.2 / sums.0) } else { (0.0, 0.0) }
}
