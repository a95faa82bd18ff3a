//! Picture files: decoded within limits, and scaled down before anything else is done with them.

use super::{Digit, Error, Result, SIDE, colour, formats, jpeg, pages};
use image::codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::imageops::thumbnail;
use image::metadata::Orientation;
use image::{
    AnimationDecoder, DynamicImage, GrayImage, ImageBuffer, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    Luma, RgbImage, RgbaImage,
};
use std::io::Cursor;

/// The largest picture that is decoded: larger than the 200 megapixels of today's phones, too small for a decompression
/// bomb.
const MAX_PIXELS: u64 = 256 << 20;
const MAX_SIDE: u32 = 1 << 16;

/// Bytes a pixel of the largest picture: four channels of 8 bits. Pictures of 16 bits may have half as many pixels.
const MAX_PIXEL_BYTES: u64 = 4;

/// Larger pictures are scaled down to this longest side. A digit that takes a thirtieth of it is still larger than the
/// 20 pixels of MNIST, and lines of paper are still lines.
const WORKING_SIDE: u32 = 1024;

/// One channel of a picture, about 0 to 255, with light or dark ink.
pub(super) type Grey = ImageBuffer<Luma<f32>, Vec<f32>>;

/// A decoded picture, at working size.
pub(super) struct Picture {
    /// Transparent parts filled, at most [`WORKING_SIDE`] wide and high.
    pub working: RgbImage,
    /// Width and height of the whole picture.
    pub size: (u32, u32),
    /// The whole picture, if it has the size of MNIST's.
    tiny: Option<RgbaImage>,
}

/// Size and memory limits for image decoders.
fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_PIXEL_BYTES * MAX_PIXELS);
    limits
}

/// Whether the file is an animated GIF, PNG or WebP. Only the first frame is read.
pub fn is_animated(bytes: &[u8]) -> bool {
    let source = Cursor::new(bytes);
    let several = |mut gif: GifDecoder<_>| gif.set_limits(limits()).is_ok() && gif.into_frames().nth(1).is_some();
    match formats::recognise(bytes) {
        Ok((ImageFormat::Gif, _)) => GifDecoder::new(source).is_ok_and(several),
        Ok((ImageFormat::Png, _)) => PngDecoder::new(source).is_ok_and(|png| png.is_apng().unwrap_or(false)),
        Ok((ImageFormat::WebP, _)) => WebPDecoder::new(source).is_ok_and(|webp| webp.has_animation()),
        _ => false,
    }
}

/// Decodes a picture file, rotated as its EXIF data say; the first frame of an animation.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture> {
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    let pages = pages(bytes).len();
    if pages > 1 {
        return Err(Error::SeveralPages(pages));
    }
    let (format, bytes) = formats::recognise(bytes)?;
    if format == ImageFormat::Jpeg && !jpeg::is_whole(bytes) {
        return Err(Error::CutShort);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(undecoded)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Error::NoPixels);
    }
    if pixels > MAX_PIXELS {
        return Err(Error::TooLarge { width, height, most: MAX_PIXELS });
    }
    let orientation = decoder.orientation().map_err(undecoded)?;
    let image = DynamicImage::from_decoder(decoder).map_err(undecoded)?;
    Ok(Picture::new(narrowed(image), orientation))
}

/// Maps a decoder error to an [`Error`].
fn undecoded(error: ImageError) -> Error {
    match error {
        ImageError::Unsupported(_) => Error::Pixels(error),
        _ => Error::Damaged(error),
    }
}

impl Picture {
    /// The picture is scaled down first and turned then: a photograph of 200 megapixels must not be in memory twice.
    fn new(image: DynamicImage, orientation: Orientation) -> Picture {
        let turned = |mut image: DynamicImage| {
            image.apply_orientation(orientation);
            image
        };
        let (width, height) = (image.width(), image.height());
        let tiny = (width, height) == (SIDE as u32, SIDE as u32);
        let tiny = tiny.then(|| turned(image.clone()).into_rgba8());
        let working = spread(turned(scaled_down(image)).into_rgb8());
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        let lies = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
        let size = if lies { (height, width) } else { (width, height) };
        Picture { working, size, tiny }
    }

    /// Its bytes, if it is opaque, grey and 28x28.
    pub(super) fn as_it_is(&self) -> Option<Digit> {
        let mut digit = [0; SIDE * SIDE];
        for (byte, pixel) in digit.iter_mut().zip(self.tiny.as_ref()?.pixels()) {
            let [red, green, blue, alpha] = pixel.0;
            if (red, green, alpha) != (green, blue, 255) {
                return None;
            }
            *byte = red;
        }
        Some(digit)
    }

    /// Whether it is 28x28 and no part of it is transparent.
    pub(super) fn is_opaque(&self) -> bool {
        self.tiny.as_ref().is_some_and(|tiny| tiny.pixels().all(|pixel| pixel.0[3] == u8::MAX))
    }

    /// Its brightness, if it is 28x28; transparent counts as black.
    pub(super) fn luma(&self) -> Option<Digit> {
        let mut digit = [0; SIDE * SIDE];
        for (byte, pixel) in digit.iter_mut().zip(self.tiny.as_ref()?.pixels()) {
            let [red, green, blue, alpha] = pixel.0;
            *byte = (colour::luma([red, green, blue]) * f32::from(alpha) / 255.0).round() as u8;
        }
        Some(digit)
    }
}

/// A picture of bytes that are stored in 16 bits, as NumPy's arrays may be, in 8 bits.
fn narrowed(image: DynamicImage) -> DynamicImage {
    let are_bytes = |samples: &[u16]| samples.iter().all(|sample| *sample <= u8::MAX.into());
    let bytes = |samples: Vec<u16>| samples.into_iter().map(|sample| sample as u8).collect();
    let (width, height) = (image.width(), image.height());
    let narrow = match image {
        DynamicImage::ImageLuma16(image) if are_bytes(&image) => {
            GrayImage::from_raw(width, height, bytes(image.into_raw())).map(DynamicImage::ImageLuma8)
        }
        DynamicImage::ImageRgb16(image) if are_bytes(&image) => {
            RgbImage::from_raw(width, height, bytes(image.into_raw())).map(DynamicImage::ImageRgb8)
        }
        image => Some(image),
    };
    narrow.expect("there are as many samples as before")
}

/// A picture of zeros and ones, such as a mask, as black and white.
fn spread(mut picture: RgbImage) -> RgbImage {
    if picture.iter().all(|byte| *byte <= 1) {
        picture.iter_mut().for_each(|byte| *byte *= u8::MAX);
    }
    picture
}

/// The picture at working size and without transparent parts, in its own channels: no copy at full size is made, except
/// of a transparent picture, whose paper must be known before its pixels are mixed.
fn scaled_down(image: DynamicImage) -> DynamicImage {
    let (width, height) = (image.width(), image.height());
    let scale = (f64::from(WORKING_SIDE) / f64::from(width.max(height))).min(1.0);
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    if image.color().has_alpha() && !is_opaque(&image) {
        let opaque = colour::on_paper(&image.into_rgba8());
        let small = if scale < 1.0 { thumbnail(&opaque, scaled(width), scaled(height)) } else { opaque };
        DynamicImage::ImageRgb8(small)
    } else if scale < 1.0 {
        image.thumbnail_exact(scaled(width), scaled(height))
    } else {
        image
    }
}

/// Whether no pixel is transparent, as in most screenshots.
fn is_opaque(image: &DynamicImage) -> bool {
    match image {
        DynamicImage::ImageLumaA8(image) => image.pixels().all(|pixel| pixel.0[1] == u8::MAX),
        DynamicImage::ImageRgba8(image) => image.pixels().all(|pixel| pixel.0[3] == u8::MAX),
        DynamicImage::ImageLumaA16(image) => image.pixels().all(|pixel| pixel.0[1] == u16::MAX),
        DynamicImage::ImageRgba16(image) => image.pixels().all(|pixel| pixel.0[3] == u16::MAX),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Frame;
    use image::codecs::gif::GifEncoder;

    #[test]
    fn a_picture_of_several_frames_is_animated() {
        for frames in [1, 2, 3] {
            let mut gif = Vec::new();
            let frame = || Frame::new(RgbaImage::new(20, 20));
            GifEncoder::new(&mut gif).encode_frames((0..frames).map(|_| frame())).unwrap();
            assert_eq!(is_animated(&gif), frames > 1, "{frames} frames");
        }
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
            let mut bytes = Vec::new();
            RgbaImage::new(20, 20).write_to(&mut Cursor::new(&mut bytes), format).unwrap_or_default();
            assert!(!is_animated(&bytes), "{format:?}");
        }
        assert!(!is_animated(b"") && !is_animated(b"GIF89a"));
    }
}
