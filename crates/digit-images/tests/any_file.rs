//! Whatever a file holds, it is read or refused in a sentence, and digits lie within their picture.

use digit_images::{Error, Found, Sign, pages, read, read_all, read_as_it_is, read_raw};
use image::{DynamicImage, ImageFormat, Luma};
use proptest::prelude::*;
use std::io::Cursor;

const FORMATS: [ImageFormat; 8] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::Bmp,
    ImageFormat::Gif,
    ImageFormat::WebP,
    ImageFormat::Tiff,
    ImageFormat::Pnm,
    ImageFormat::Ico,
];

/// A picture of two strokes in a format.
fn encoded(format: ImageFormat) -> Vec<u8> {
    let stroke = |x: u32, y: u32| ((20..26).contains(&x) || (50..56).contains(&x)) && (12..52).contains(&y);
    let image = image::GrayImage::from_fn(80, 64, |x, y| Luma([if stroke(x, y) { 10 } else { 240 }]));
    let image = DynamicImage::from(image);
    let image = if format == ImageFormat::Ico { image.into_rgba8().into() } else { image.into_rgb8().into() };
    let mut bytes = Vec::new();
    DynamicImage::write_to(&image, &mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// The digits of all lines; at least one, if there is no error.
fn digits(bytes: &[u8]) -> Result<Vec<Found>, Error> {
    let digit = |sign| if let Sign::Digit(found) = sign { Some(found) } else { None };
    Ok(read_all(bytes)?.into_iter().flatten().filter_map(digit).collect())
}

/// Each function returns, and its error is one line.
fn is_read_or_refused(bytes: &[u8]) -> Result<(), TestCaseError> {
    let one = read(bytes).map(|found| vec![found]);
    let unchanged =
        [read_raw(bytes), read_as_it_is(bytes).map(|(digit, _)| digit)].map(|digit| Ok(vec![Found::whole(digit?)]));
    for result in unchanged.into_iter().chain([digits(bytes), one]) {
        match result {
            Ok(found) => prop_assert!(!found.is_empty()),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }
    prop_assert!(pages(bytes).len() > 0);
    Ok(())
}

#[test]
fn both_strokes_are_found_in_every_format() {
    for format in FORMATS {
        let found = digits(&encoded(format)).unwrap();
        assert_eq!(found.len(), 2, "{format:?}");
        for (found, left) in found.iter().zip([20, 50]) {
            assert!(found.bounds.x.abs_diff(left) <= 2 && found.bounds.height.abs_diff(40) <= 3, "{:?}", found.bounds);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        is_read_or_refused(&bytes)?;
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(
        format in prop::sample::select(FORMATS.as_slice()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = encoded(format);
        damage.iter().for_each(|(at, byte)| bytes[at.index(400.min(encoded(format).len()))] = *byte);
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        is_read_or_refused(&bytes)?;
    }

    #[test]
    fn digits_lie_within_their_picture(
        width in 1..120u32, height in 1..120u32, pixels in prop::collection::vec(any::<u8>(), 16),
    ) {
        // Squares of random shades.
        let image = image::GrayImage::from_fn(width, height, |x, y| Luma([pixels[(x / 30 * 4 + y / 30) as usize]]));
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        for found in digits(&bytes).unwrap_or_default() {
            let bounds = found.bounds;
            prop_assert!(bounds.x + bounds.width <= width && bounds.y + bounds.height <= height, "{:?}", bounds);
        }
    }
}
