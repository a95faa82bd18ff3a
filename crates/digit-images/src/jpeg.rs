//! Whether a JPEG is whole. The decoder fills what is missing with grey, without a word.

/// The marker at its end, behind the byte 0xff that begins each marker.
const END: u8 = 0xd9;

/// Whether the file `bytes` has the marker of its end behind its last segment.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(step) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) {
        at += step + 1;
        match bytes.get(at) {
            Some(&END) => return true,
            // A byte of 0xff among the pixels, a restart between them, or a filling byte.
            Some(0x00 | 0x01 | 0xd0..=0xd8 | 0xff) | None => {}
            // Skip a segment by its length: an embedded thumbnail contains its own end marker.
            Some(_) => {
                let length = bytes.get(at + 1..at + 3).map_or(0, |length| u16::from_be_bytes([length[0], length[1]]));
                at += 1 + usize::from(length);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, read, read_as_it_is};
    use image::{GrayImage, ImageFormat, Luma};
    use std::io::Cursor;

    fn jpeg() -> Vec<u8> {
        let image = GrayImage::from_fn(90, 90, |x, y| Luma([((x * y * 7 + x * 31) % 251) as u8]));
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg).expect("memory takes it");
        bytes
    }

    #[test]
    fn a_jpeg_that_is_cut_anywhere_is_refused() {
        let whole = jpeg();
        assert!(is_whole(&whole));
        for length in (2..whole.len()).step_by(37).chain([whole.len() - 1]) {
            assert!(!is_whole(&whole[..length]), "{length} of {}", whole.len());
            assert!(matches!(read(&whole[..length]), Err(Error::CutShort | Error::NotAPicture)), "{length}");
        }
        assert!(matches!(read_as_it_is(&whole[..whole.len() / 2]), Err(Error::CutShort)));
    }

    #[test]
    fn what_is_around_the_pixels_does_not_matter() {
        let whole = jpeg();
        // A thumbnail, cut short or not, is in a segment; cameras write more behind the end.
        let thumbnail = [&[0xff, 0xe1][..], &((whole.len() + 2) as u16).to_be_bytes(), &whole].concat();
        let with_thumbnail = [&whole[..2], &thumbnail, &whole[2..]].concat();
        assert!(is_whole(&with_thumbnail));
        assert!(is_whole(&[&whole[..], b"more"].concat()));
        assert!(!is_whole(&with_thumbnail[..with_thumbnail.len() - 9]));
        assert!(!is_whole(&[]) && !is_whole(&[0xff; 9]));
    }
}
