//! A picture of a digit, whatever it looks like, as MNIST would have it: white ink on black, 20 pixels at its longest
//! side, centred by mass in 28x28.
//!
//! [`picture`] decodes a file into one channel, [`ink`] separates ink from paper, and this file fits the ink into the
//! square, as the page of MNIST describes (<http://yann.lecun.com/exdb/mnist/>).

mod ink;
mod picture;

use crate::shape::{PIXELS, SIDE};
use anyhow::{Result, ensure};
use image::imageops::{FilterType, crop_imm, resize};
use image::{ImageBuffer, Luma};
use ink::Ink;

/// The longest side of a digit in it.
const LONGEST: u32 = 20;

/// The thinnest line that is not thickened, in pixels of the square: lines in MNIST are 2 to 3 wide.
const THINNEST: f32 = 2.2;

/// An image of MNIST: 28x28 bytes, row by row, 0 for paper to 255 for ink.
/// The endings of picture files that are read.
pub const ENDINGS: &[&str] =
    &["png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff", "pbm", "pgm", "ppm", "pnm", "ico"];

pub type Digit = [u8; PIXELS];

/// The digit in the picture file `bytes`: PNG, JPEG, BMP or GIF.
///
/// A picture that already has MNIST's form is not changed: see [`has_mnist_form`].
pub fn read(bytes: &[u8]) -> Result<Digit> {
    let picture = picture::decode(bytes)?;
    match picture.as_it_is() {
        Some(digit) if has_mnist_form(&digit) => Ok(digit),
        _ => fit(&ink::find(&picture.grey())?),
    }
}

/// The grey values of the picture file `bytes`, which must be 28x28, unchanged.
pub fn read_raw(bytes: &[u8]) -> Result<Digit> {
    let picture = picture::decode(bytes)?;
    let (width, height) = picture.size();
    ensure!((width, height) == (SIDE as u32, SIDE as u32), "it has {width}x{height} pixels; --raw takes 28x28");
    Ok(picture.luma())
}

/// Whether `digit` is as MNIST's are made: on pure black, with pure white in it, 19 or 20 pixels at its longest side,
/// its centre of mass within half a pixel (and a rounding) of pixel 14.
///
/// All 70,000 images of MNIST are. Fitting them again would only blur them.
pub fn has_mnist_form(digit: &Digit) -> bool {
    let lit = |x: usize, y: usize| digit[y * SIDE + x] > 0;
    let columns: Vec<usize> = (0..SIDE).filter(|&x| (0..SIDE).any(|y| lit(x, y))).collect();
    let rows: Vec<usize> = (0..SIDE).filter(|&y| (0..SIDE).any(|x| lit(x, y))).collect();
    let extent = |lines: &[usize]| lines.last().map_or(0, |last| last + 1 - lines[0]);
    let longest = extent(&columns).max(extent(&rows));
    let (x, y) = centre_of_mass(digit.iter().map(|&byte| f32::from(byte)), SIDE);
    let centred = |at: f32| (at - 14.0).abs() < 0.53;
    (19..=20).contains(&longest) && centred(x) && centred(y) && digit.iter().any(|&byte| byte >= 254)
}

/// Scales the ink into 20x20, keeping its shape, and puts its centre of mass on pixel 14 of 28x28.
fn fit(ink: &Ink) -> Result<Digit> {
    let (_, _, width, height) = ink.bounds;
    let scale = LONGEST as f32 / width.max(height) as f32;
    // A line thinner than a pixel of the square would become grey.
    let missing = THINNEST / scale - ink.stroke;
    let ink = if missing > 0.0 { &ink.thicker((missing / 2.0).round() as i32) } else { ink };

    let (left, top, width, height) = ink.bounds;
    let cut = crop_imm(&ink.pixels, left, top, width, height).to_image();
    let longest = width.max(height);
    let scaled = |side: u32| ((side * LONGEST) as f32 / longest as f32).round().max(1.0) as u32;
    let (width, height) = (scaled(width), scaled(height));
    let small: ImageBuffer<Luma<f32>, Vec<f32>> = resize(&cut, width, height, FilterType::Triangle);
    let brightest = small.pixels().map(|pixel| pixel.0[0]).fold(0.0, f32::max);
    ensure!(brightest > 0.0, "it shows no digit");

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

/// The centre of mass of pixels in rows of `width`, in pixels from the centre of the first.
fn centre_of_mass(pixels: impl Iterator<Item = f32>, width: usize) -> (f32, f32) {
    let sums = pixels.enumerate().fold((0.0, 0.0, 0.0), |(mass, x, y), (k, pixel)| {
        (mass + pixel, x + pixel * (k % width) as f32, y + pixel * (k / width) as f32)
    });
    if sums.0 > 0.0 { (sums.1 / sums.0, sums.2 / sums.0) } else { (0.0, 0.0) }
}

/// The digit in characters, two to a pixel: what a terminal can show.
pub fn sketch(digit: &Digit) -> String {
    let shade = |byte: &u8| ["  ", "░░", "▒▒", "▓▓", "██"][(usize::from(*byte) + 32) / 64];
    let line = |row: &[u8]| row.iter().map(shade).collect::<String>().trim_end().to_string();
    digit.chunks(SIDE).map(line).collect::<Vec<_>>().join("\n")
}
