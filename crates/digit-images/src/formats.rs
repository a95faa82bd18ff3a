//! Which files are pictures: the formats that are read, and those that are only recognised, by their first bytes.

use super::{Error, Result};
use image::ImageFormat;

/// The endings of the files that are read, in lower case.
pub const ENDINGS: &[&str] =
    &["png", "jpg", "jpeg", "jfif", "bmp", "gif", "webp", "tif", "tiff", "pbm", "pgm", "ppm", "pnm", "pam", "ico"];

/// The formats that are read, and their names.
const READABLE: [(ImageFormat, &str); 8] = [
    (ImageFormat::Png, "PNG"),
    (ImageFormat::Jpeg, "JPEG"),
    (ImageFormat::Bmp, "BMP"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::WebP, "WebP"),
    (ImageFormat::Tiff, "TIFF"),
    (ImageFormat::Pnm, "PNM"),
    (ImageFormat::Ico, "ICO"),
];

/// How far into a file its `<svg` may stand, behind an XML declaration and comments.
const SVG_WITHIN: usize = 1024;

/// The format of the file `bytes`, whatever its name, and the bytes of the picture in it; an error that says what to do
/// if it is not one that is read.
pub(super) fn recognise(bytes: &[u8]) -> Result<(ImageFormat, &[u8])> {
    let guess = image::guess_format(bytes).ok();
    if let Some(format) = guess.filter(|guess| READABLE.iter().any(|(format, _)| format == guess)) {
        return Ok(match png_in_icon(bytes).filter(|_| format == ImageFormat::Ico) {
            Some(png) => (ImageFormat::Png, png),
            None => (format, bytes),
        });
    }
    if let Some((name, way_out)) = foreign(bytes) {
        return Err(Error::Foreign { name, way_out });
    }
    Err(Error::NotAPicture)
}

/// `PNG, JPEG and ICO`: the formats that are read.
pub(super) fn readable() -> String {
    let names = READABLE.map(|(_, name)| name);
    let (last, names) = names.split_last().expect("there are formats");
    format!("{} and {last}", names.join(", "))
}

/// The name of a picture format that is not read, and how to convert it.
fn foreign(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const JPEG_XL_BOX: &[u8] = b"\0\0\0\x0cJXL \r\n\x87\n";
    const JPEG_2000_BOX: &[u8] = b"\0\0\0\x0cjP  \r\n\x87\n";
    if bytes.get(4..8) == Some(b"ftyp".as_slice()) {
        return iso_media(bytes);
    }
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"%PDF-") {
        Some(("a PDF", "convert a page with `pdftoppm -png -r 150 FILE.pdf page`, or take a screenshot of it"))
    } else if starts(JPEG_2000_BOX) || starts(b"\xff\x4f\xff\x51") {
        Some(("a JPEG 2000 file", "convert it with `magick FILE.jp2 FILE.png`"))
    } else if starts(JPEG_XL_BOX) || starts(b"\xff\x0a") {
        Some(("a JPEG XL file", "convert it with `djxl FILE.jxl FILE.png`"))
    } else if starts(b"version https://git-lfs.github.com/spec/") {
        Some(("a pointer of git-lfs", "run `git lfs pull`, or download the picture itself"))
    } else if is_page(bytes) {
        Some(("a web page", "download the picture by the link to it"))
    } else if is_svg(bytes) {
        Some(("an SVG drawing", "convert it with `rsvg-convert -o FILE.png FILE.svg`, or export it as PNG"))
    } else {
        None
    }
}

/// HEIC and AVIF: both are ISO base media files, and their brands tell them apart.
fn iso_media(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let size = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    // The major brand, a version, then the compatible brands, four bytes each.
    let brands: Vec<&[u8]> = bytes[8..size.clamp(8, bytes.len())].chunks_exact(4).collect();
    let any = |known: &[&[u8; 4]]| brands.iter().any(|brand| known.iter().any(|known| *brand == known.as_slice()));
    if any(&[b"avif", b"avis"]) {
        Some(("an AVIF file", "convert it with `avifdec FILE.avif FILE.png` or `magick FILE.avif FILE.png`"))
    } else if any(&[b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"]) {
        let way_out = "export it as JPEG (an iPhone: Settings, Camera, Formats, Most Compatible), or convert it \
                       with `heif-convert FILE.heic FILE.jpg`";
        Some(("a HEIC photograph", way_out))
    } else {
        None
    }
}

/// The PNG of the largest picture in an ICO file. `image` reads those with transparency only.
fn png_in_icon(bytes: &[u8]) -> Option<&[u8]> {
    // Six bytes with the number of pictures, then 16 for each: its width, where 0 is 256, and its length and place at
    // the end.
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let count = usize::from(u16::from_le_bytes(bytes.get(4..6)?.try_into().ok()?));
    let entries = (0..count).map(|k| 6 + 16 * k).take_while(|entry| entry + 16 <= bytes.len());
    let largest = entries.max_by_key(|&entry| bytes[entry].wrapping_sub(1))?;
    let (length, start) = (number(largest + 8)?, number(largest + 12)?);
    let picture = bytes.get(start..start.checked_add(length)?)?;
    picture.starts_with(b"\x89PNG").then_some(picture)
}

fn is_page(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    let begins = |page: &[u8]| text.get(..page.len()).is_some_and(|start| start.eq_ignore_ascii_case(page));
    begins(b"<!doctype html") || begins(b"<html")
}

fn is_svg(bytes: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(SVG_WITHIN)]);
    let head = head.trim_start_matches('\u{feff}').trim_start();
    head.starts_with('<') && head.contains("<svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_is_that_of_a_readable_format() {
        for ending in ENDINGS {
            // `image` does not know JFIF's ending.
            let format = if *ending == "jfif" { Some(ImageFormat::Jpeg) } else { ImageFormat::from_extension(ending) };
            assert!(READABLE.iter().any(|(readable, _)| Some(*readable) == format), "{ending}");
        }
    }

    #[test]
    fn formats_that_are_not_read_are_named() {
        let heads: [(&[u8], &str); 11] = [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
            (b"\n<!DOCTYPE HTML><html></html>", "web page"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
            (b"%PDF-1.7", "PDF"),
            (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a nine -->\n<svg>", "SVG"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
            (b"\xff\x0a\0\0", "JPEG XL"),
            (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "not a picture"),
            (b"PK\x03\x04", "not a picture"),
            (b"\x93NUMPY", "not a picture"),
        ];
        for (head, name) in heads {
            let message = recognise(head).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn any_bytes_are_recognised_or_refused() {
        for length in 0..16 {
            let _ = recognise(&b"\xff\xff\xff\xffftypheic\0\0\0\0"[..length]);
        }
    }
}
