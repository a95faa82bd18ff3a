//! The digits of a picture, whatever it looks like, as MNIST would have them: white ink on black, 20 pixels at the
//! longest side, centred by mass in 28x28.
//!
//! A file passes through these in turn: `pages` takes a TIFF apart, `formats` recognises the file, `jpeg` refuses one that is cut
//! short, `picture` decodes it, `colour` makes one channel of it, `shade` takes the paper out, `ink` finds the ink, with `lines` and `frame` taken out of it, `group` puts pieces of ink
//! together to digits and lines, `marks` tells marks from digits, by the `outline` of a piece among others, and `fit` fits each digit into the square.
//!
//! ```
//! // A PNG with a dark bar on white: it could be a 1.
//! use image::{GrayImage, ImageFormat, Luma};
//!
//! let bar = |x: u32, y: u32| (40..48).contains(&x) && (20..80).contains(&y);
//! let picture = GrayImage::from_fn(100, 100, |x, y| Luma([if bar(x, y) { 20 } else { 250 }]));
//! let mut png = Vec::new();
//! picture.write_to(&mut std::io::Cursor::new(&mut png), ImageFormat::Png)?;
//!
//! let lines = digit_images::read_all(&png)?;
//! let [digit_images::Sign::Digit(found)] = lines[0].as_slice() else { panic!("a bar") };
//! assert!(digit_images::has_mnist_form(&found.digit));
//! println!("{}", digit_images::sketch(&found.digit));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(missing_docs, unreachable_pub)]

mod colour;
mod error;
mod filter;
mod fit;
mod formats;
mod frame;
mod group;
mod ink;
mod jpeg;
mod lines;
mod marks;
mod mask;
mod outline;
mod pages;
mod picture;
mod shade;

pub use error::Error;
pub use formats::ENDINGS;
use ink::Ink;
use marks::Symbol;
use mask::Piece;
pub use pages::pages;
use picture::Picture;
pub use picture::is_animated;

/// Height and width of MNIST's images, in pixels.
pub const SIDE: usize = 28;

/// Pixels of an image of MNIST.
pub const PIXELS: usize = SIDE * SIDE;

type Result<T> = std::result::Result<T, Error>;

/// An image of MNIST: 28x28 bytes, row by row, 0 for paper to 255 for ink.
pub type Digit = [u8; PIXELS];

/// A digit or a mark in a line of a picture.
// A picture has few of them, and nearly all are digits.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum Sign {
    /// A digit.
    Digit(Found),
    /// Something else, such as a point, a minus or a slash, at this place.
    Mark(Bounds),
}

/// The lines of a page, from the top; the signs of each stand from left to right.
pub type Lines = Vec<Vec<Sign>>;

/// A digit of a picture.
#[derive(Debug, Clone)]
pub struct Found {
    /// The digit as MNIST would have it.
    pub digit: Digit,
    /// Where its ink is.
    pub bounds: Bounds,
}

impl Found {
    /// An image of MNIST, which is one digit.
    pub fn whole(digit: Digit) -> Found {
        let side = SIDE as u32;
        Found { digit, bounds: Bounds { x: 0, y: 0, width: side, height: side } }
    }
}

/// A rectangle in pixels of the picture as it is shown: at full size, turned as its EXIF data say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The left edge.
    pub x: u32,
    /// The upper edge.
    pub y: u32,
    /// From the left edge to the right one.
    pub width: u32,
    /// From the upper edge to the lower one.
    pub height: u32,
}

impl Bounds {
    /// The smallest rectangle around both.
    fn with(self, other: Bounds) -> Bounds {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Bounds { x, y, width: right - x, height: bottom - y }
    }
}

/// The lines of digits in the picture file `bytes`, of a format of [`ENDINGS`]: at least one digit.
///
/// A picture that already has MNIST's form, or has it when it is turned to white on black, is one digit and is not changed
/// otherwise: see [`has_mnist_form`]. A TIFF of several [`pages`] is an error, in this function and those below.
pub fn read_all(bytes: &[u8]) -> Result<Lines> {
    let picture = picture::decode(bytes)?;
    if let Some(found) = ready(&picture) {
        return Ok(vec![vec![Sign::Digit(found)]]);
    }
    let ink = ink::find(&colour::strongest_channel(&picture.working))?;
    let width = picture.working.width() as usize;
    let group::Grouped { lines, mut rest } = group::grouped(ink.pieces.clone(), width);
    rest.extend(ink.specks.iter().cloned());
    let sign = |symbol: &Symbol<Piece>| match symbol {
        Symbol::Digit(digit) => Ok(Sign::Digit(found(&picture, &ink, digit)?)),
        Symbol::Mark(bounds) => Ok(Sign::Mark(at_full_size(&picture, *bounds))),
    };
    let lines = marks::marked(lines, rest, |piece| ink.contrast(piece), width);
    lines.iter().map(|line| line.iter().map(sign).collect()).collect()
}

/// The picture file `bytes` as one digit, however many pieces of ink it has.
pub fn read(bytes: &[u8]) -> Result<Found> {
    one(&picture::decode(bytes)?)
}

fn one(picture: &Picture) -> Result<Found> {
    if let Some(found) = ready(picture) {
        return Ok(found);
    }
    let ink = ink::find(&colour::strongest_channel(&picture.working))?;
    let pixels = ink.pieces.iter().flat_map(|piece| piece.pixels.iter().copied()).collect();
    found(picture, &ink, &Piece::new(pixels, picture.working.width() as usize))
}

/// The picture file `bytes` as one digit: unchanged if it is opaque and 28x28, else as [`read`]. And whether it is
/// unchanged.
pub fn read_as_it_is(bytes: &[u8]) -> Result<(Digit, bool)> {
    let picture = picture::decode(bytes)?;
    match picture.luma().filter(|_| picture.is_opaque()) {
        Some(digit) => Ok((digit, true)),
        None => Ok((one(&picture)?.digit, false)),
    }
}

/// The grey values of the picture file `bytes`, which must be 28x28, unchanged.
pub fn read_raw(bytes: &[u8]) -> Result<Digit> {
    let picture = picture::decode(bytes)?;
    let (width, height) = picture.size;
    picture.luma().ok_or(Error::NotMnistSize { width, height })
}

/// The whole picture as a digit if it has MNIST's form, white on black or black on white.
fn ready(picture: &Picture) -> Option<Found> {
    let digit = picture.as_it_is()?;
    let digit = [digit, digit.map(|byte| !byte)].into_iter().find(has_mnist_form)?;
    let lit = (0..PIXELS).filter(|&k| digit[k] > 0).collect();
    Some(Found { bounds: Piece::new(lit, SIDE).bounds, digit })
}

/// A digit whose ink was found.
fn found(picture: &Picture, ink: &Ink, digit: &Piece) -> Result<Found> {
    Ok(Found { digit: fit::fit(&ink.cut(digit))?, bounds: at_full_size(picture, digit.bounds) })
}

/// A rectangle of the working copy in the picture itself.
fn at_full_size(picture: &Picture, bounds: Bounds) -> Bounds {
    let (small, full) = (picture.working.dimensions(), picture.size);
    let span = |low: u32, size: u32, small: u32, full: u32| {
        let at = |k: u32| u64::from(k) * u64::from(full);
        let (start, end) = (at(low) / u64::from(small), at(low + size).div_ceil(u64::from(small)));
        (start as u32, (end - start) as u32)
    };
    let Bounds { x, y, width, height } = bounds;
    let (x, width) = span(x, width, small.0, full.0);
    let (y, height) = span(y, height, small.1, full.1);
    Bounds { x, y, width, height }
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
    let (x, y) = fit::centre_of_mass(digit.iter().map(|&byte| f32::from(byte)), SIDE);
    let centred = |at: f32| (at - 14.0).abs() < 0.53;
    (19..=20).contains(&longest) && centred(x) && centred(y) && digit.iter().any(|&byte| byte >= 254)
}

/// The digit in characters, two to a pixel: what a terminal can show.
pub fn sketch(digit: &Digit) -> String {
    let shade = |byte: &u8| ["  ", "░░", "▒▒", "▓▓", "██"][(usize::from(*byte) + 32) / 64];
    let line = |row: &[u8]| row.iter().map(shade).collect::<String>().trim_end().to_string();
    digit.chunks(SIDE).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageFormat, Luma, imageops::FilterType::Nearest};
    use std::io::Cursor;

    /// A PNG with dark blocks (left, top, width, height) on white, each pixel `scale` pixels wide.
    fn png(size: (u32, u32), blocks: &[Bounds], scale: u32) -> Vec<u8> {
        let inside = |block: &Bounds, x: u32, y: u32| {
            (block.x..block.x + block.width).contains(&x) && (block.y..block.y + block.height).contains(&y)
        };
        let ink = |x, y| blocks.iter().any(|block| inside(block, x, y));
        let image = GrayImage::from_fn(size.0, size.1, |x, y| Luma([if ink(x, y) { 20 } else { 250 }]));
        let image = image::imageops::resize(&image, scale * size.0, scale * size.1, Nearest);
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).expect("memory takes it");
        bytes
    }

    fn digits(bytes: &[u8]) -> Vec<Found> {
        let digit = |sign: Sign| if let Sign::Digit(found) = sign { Some(found) } else { None };
        read_all(bytes).expect("it has digits").into_iter().flatten().filter_map(digit).collect()
    }

    #[test]
    fn a_picture_of_zeros_and_ones_is_black_and_white() {
        let bits = |side: u32| {
            let ink = |x: u32, y: u32| (side * 2 / 5..side / 2).contains(&x) && (side / 5..side * 4 / 5).contains(&y);
            let image = GrayImage::from_fn(side, side, |x, y| Luma([u8::from(ink(x, y))]));
            let mut bytes = Vec::new();
            image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).expect("memory takes it");
            bytes
        };
        for side in [28, 100] {
            assert_eq!(digits(&bits(side)).len(), 1, "{side}");
            assert!(has_mnist_form(&read(&bits(side)).expect("it has ink").digit));
        }
        // Bytes in 16 bits are bytes.
        let wide = image::ImageBuffer::from_fn(28, 28, |x, y| Luma([(x * y % 256) as u16]));
        let mut bytes = Vec::new();
        image::DynamicImage::ImageLuma16(wide)
            .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
            .expect("memory takes it");
        assert_eq!(read_raw(&bytes).expect("it is 28x28")[3 * 28 + 5], 15);
        // `read_raw` returns the pixels unchanged.
        assert_eq!(read_raw(&bits(28)).expect("it is 28x28").iter().max(), Some(&1));
    }

    const BLOCKS: [Bounds; 3] = [
        Bounds { x: 30, y: 20, width: 20, height: 60 },
        Bounds { x: 100, y: 25, width: 30, height: 60 },
        Bounds { x: 30, y: 150, width: 20, height: 60 },
    ];

    #[test]
    fn bounds_are_those_of_the_picture_at_full_size() {
        for scale in [1, 9] {
            let found = digits(&png((200, 240), &BLOCKS, scale));
            assert_eq!(found.len(), 3);
            for (found, block) in found.iter().zip(BLOCKS) {
                let pairs = [(found.bounds.x, block.x), (found.bounds.y, block.y), (found.bounds.width, block.width)];
                // The working copy has 5 pixels of the large picture in one.
                pairs
                    .iter()
                    .for_each(|(is, be)| assert!(is.abs_diff(be * scale) <= 12, "{:?} {block:?}", found.bounds));
            }
        }
    }

    #[test]
    fn a_whole_picture_is_one_digit_if_asked() {
        let found = read(&png((200, 240), &BLOCKS[..2], 1)).expect("it has ink");
        assert!(found.bounds.width >= 99);
        assert_eq!(digits(&png((200, 240), &BLOCKS[..2], 1)).len(), 2);
    }

    #[test]
    fn a_picture_of_one_colour_shows_nothing() {
        for error in [read(&png((60, 60), &[], 1)).err(), read_all(&png((60, 60), &[], 1)).err()] {
            assert_eq!(error.expect("it is blank").to_string(), "it shows nothing: it is all one colour");
        }
        assert_eq!(read_all(&[]).unwrap_err().to_string(), "it is empty");
    }
}
