//! Colours: transparent parts filled, and the one channel in which ink differs most from paper.

use super::picture::Grey;
use image::{Luma, Rgb, RgbImage, RgbaImage};

/// Opaque parts that vary by less than this standard deviation, in grey levels, have one shade: they are ink.
const ONE_SHADE: f32 = 24.0;

/// Rounds of the power method; it converges by the ratio of the two largest eigenvalues.
const ROUNDS: usize = 50;

/// The picture with its transparent parts filled. If the opaque part has one shade, it is the ink, and the paper
/// becomes white or black, whichever differs more. If it has several shades, it is paper with ink on it, and the rest
/// is filled with the colour of that paper.
pub(super) fn on_paper(image: &RgbaImage) -> RgbImage {
    let opaque = || image.pixels().map(|pixel| pixel.0).filter(|pixel| pixel[3] >= 128);
    let shade = |[red, green, blue, _]: [u8; 4]| f64::from(luma([red, green, blue]));
    let count = opaque().count().max(1) as f64;
    let mean = (opaque().map(shade).sum::<f64>() / count) as f32;
    let variance = opaque().map(|pixel| (shade(pixel) - f64::from(mean)).powi(2)).sum::<f64>() / count;
    let paper = if (variance.sqrt() as f32) < ONE_SHADE {
        if mean < 128.0 { [255; 3] } else { [0; 3] }
    } else {
        [0, 1, 2].map(|channel| median_byte(opaque().map(|pixel| pixel[channel])))
    };
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        let mix = |ink: u8, paper: u8| {
            let alpha = u32::from(alpha);
            ((u32::from(ink) * alpha + u32::from(paper) * (255 - alpha) + 127) / 255) as u8
        };
        Rgb([mix(red, paper[0]), mix(green, paper[1]), mix(blue, paper[2])])
    })
}

/// The middle one of `bytes`, counted and not sorted: they may be those of a whole photograph.
fn median_byte(bytes: impl Iterator<Item = u8>) -> u8 {
    let mut counts = [0u64; 256];
    bytes.for_each(|byte| counts[usize::from(byte)] += 1);
    let (middle, mut below) = (counts.iter().sum::<u64>() / 2, 0);
    let reaches = |count: &u64| {
        below += count;
        below > middle
    };
    counts.iter().position(reaches).unwrap_or(0) as u8
}

/// The brightness of a pixel, 0 to 255 (ITU-R BT.601).
pub(super) fn luma([red, green, blue]: [u8; 3]) -> f32 {
    0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)
}

/// The projection of the colours on their first principal component: red on green is as clear as black on white.
pub(super) fn strongest_channel(image: &RgbImage) -> Grey {
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
    for _ in 0..ROUNDS {
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
