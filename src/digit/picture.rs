//! Picture files: decoded within limits, transparent parts filled, reduced to one channel.

use super::Digit;
use crate::shape::SIDE;
use anyhow::{Context, Result, ensure};
use image::imageops::thumbnail;
use image::{
    DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits, Luma, Rgb, RgbImage, RgbaImage,
};
use std::io::Cursor;

/// The largest picture that is decoded: larger than most cameras take, too small for a decompression bomb.
const MAX_PIXELS: u64 = 128 << 20;
const MAX_SIDE: u32 = 1 << 16;

/// Larger pictures are scaled down to this longest side: finer detail is lost at 20 pixels anyway.
const WORKING_SIDE: u32 = 256;

/// One channel of a picture, about 0 to 255, with light or dark ink.
pub(super) type Grey = ImageBuffer<Luma<f32>, Vec<f32>>;

/// A decoded picture.
pub(super) struct Picture(RgbaImage);

/// Decodes a PNG, JPEG, BMP or GIF file, rotated as its EXIF data say; the first frame of an animation.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture> {
    ensure!(!bytes.is_empty(), "it is empty");
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let known = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Gif];
    ensure!(reader.format().is_some_and(|it| known.contains(&it)), "it is not a PNG, JPEG, BMP or GIF");
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(8 * MAX_PIXELS);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().context("it cannot be decoded")?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    ensure!(pixels > 0, "it has no pixels");
    ensure!(pixels <= MAX_PIXELS, "it has {width}x{height} pixels, more than {} million", MAX_PIXELS >> 20);
    let orientation = decoder.orientation().context("it cannot be decoded")?;
    let mut image = DynamicImage::from_decoder(decoder).context("it cannot be decoded")?;
    image.apply_orientation(orientation);
    Ok(Picture(image.into_rgba8()))
}

impl Picture {
    /// Its width and height, in pixels.
    pub(super) fn size(&self) -> (u32, u32) {
        self.0.dimensions()
    }

    /// Its bytes, if it is opaque, grey and 28x28.
    pub(super) fn as_it_is(&self) -> Option<Digit> {
        let mut digit = [0; SIDE * SIDE];
        if self.size() != (SIDE as u32, SIDE as u32) {
            return None;
        }
        for (byte, pixel) in digit.iter_mut().zip(self.0.pixels()) {
            let [red, green, blue, alpha] = pixel.0;
            if (red, green, alpha) != (green, blue, 255) {
                return None;
            }
            *byte = red;
        }
        Some(digit)
    }

    /// The brightness of the first 784 pixels; transparent counts as black.
    pub(super) fn luma(&self) -> Digit {
        let mut digit = [0; SIDE * SIDE];
        for (byte, pixel) in digit.iter_mut().zip(self.0.pixels()) {
            *byte = (luma(pixel.0) * f32::from(pixel.0[3]) / 255.0).round() as u8;
        }
        digit
    }

    /// The picture on paper, at most 256 pixels wide and high, in the channel in which it varies most.
    pub(super) fn grey(&self) -> Grey {
        let opaque = self.on_paper();
        let (width, height) = opaque.dimensions();
        let scale = (WORKING_SIDE as f32 / width.max(height) as f32).min(1.0);
        let scaled = |side: u32| ((side as f32 * scale).round() as u32).max(1);
        let small = if scale < 1.0 { thumbnail(&opaque, scaled(width), scaled(height)) } else { opaque };
        strongest_channel(&small)
    }

    /// The picture with its transparent parts filled. If the opaque part has one shade, it is the ink, and the paper becomes
    /// white or black, whichever differs more. If it has several shades, it is paper with ink on it, and the rest is filled
    /// with the colour of that paper.
    fn on_paper(&self) -> RgbImage {
        let opaque: Vec<[u8; 4]> = self.0.pixels().map(|pixel| pixel.0).filter(|pixel| pixel[3] >= 128).collect();
        let count = opaque.len().max(1) as f32;
        let mean = opaque.iter().map(|&pixel| luma(pixel)).sum::<f32>() / count;
        let variance = opaque.iter().map(|&pixel| (luma(pixel) - mean).powi(2)).sum::<f32>() / count;
        let paper = if variance.sqrt() < 24.0 {
            if mean < 128.0 { [255; 3] } else { [0; 3] }
        } else {
            [0, 1, 2].map(|channel| median(opaque.iter().map(|pixel| f32::from(pixel[channel])).collect()) as u8)
        };
        let (width, height) = self.size();
        RgbImage::from_fn(width, height, |x, y| {
            let [red, green, blue, alpha] = self.0.get_pixel(x, y).0;
            let mix = |ink: u8, paper: u8| {
                let alpha = u32::from(alpha);
                ((u32::from(ink) * alpha + u32::from(paper) * (255 - alpha) + 127) / 255) as u8
            };
            Rgb([mix(red, paper[0]), mix(green, paper[1]), mix(blue, paper[2])])
        })
    }
}

/// The brightness of a pixel, 0 to 255 (ITU-R BT.601).
fn luma([red, green, blue, _]: [u8; 4]) -> f32 {
    0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)
}

/// The projection of the colours on their first principal component: red on green is as clear as black on white.
fn strongest_channel(image: &RgbImage) -> Grey {
    let count = f64::from(image.width()) * f64::from(image.height());
    let colour = |pixel: &Rgb<u8>| pixel.0.map(f64::from);
    let mut mean = [0.0; 3];
    image.pixels().for_each(|pixel| (0..3).for_each(|k| mean[k] += colour(pixel)[k] / count));
    let mut covariance = [[0.0; 3]; 3];
    for pixel in image.pixels() {
        let from_mean: [f64; 3] = std::array::from_fn(|k| colour(pixel)[k] - mean[k]);
        (0..9).for_each(|k| covariance[k / 3][k % 3] += from_mean[k / 3] * from_mean[k % 3] / count);
    }
    // The power method, from grey, where it stays for a grey picture and one of a single colour.
    let mut axis = [3f64.sqrt().recip(); 3];
    for _ in 0..50 {
        let next = covariance.map(|row| row.iter().zip(axis).map(|(a, b)| a * b).sum::<f64>());
        let length = next.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 1e-6 {
            axis = next.map(|x| x / length);
        }
    }
    // Grey keeps its values: the unit of an axis along grey would be sqrt(3) of them.
    let scale = axis.iter().sum::<f64>().abs().max(1.0).recip();
    Grey::from_fn(image.width(), image.height(), |x, y| {
        let value: f64 = colour(image.get_pixel(x, y)).iter().zip(axis).map(|(a, b)| a * b).sum();
        Luma([(value * scale) as f32])
    })
}

/// The middle one of `values`; 0 of none.
pub(super) fn median(mut values: Vec<f32>) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}
