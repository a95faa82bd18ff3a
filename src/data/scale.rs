//! Pixels of IDX files that are not bytes from 0 to 255.

use super::folder::Found;
use anyhow::{Result, bail};
use tch::{Kind, Tensor};

/// Images of bytes have a pixel of at least this value, as in `sources/scale.rs`.
const FAINTEST: i64 = 32;

/// So many images are enough to see that pixels are bytes.
const FIRST: i64 = 1000;

/// The images of a file, float32 [N, 784] from 0 to 1 if their bytes are from 0 to 255. Zeros and ones become black and
/// white.
///
/// # Errors
///
/// If the bytes are on another scale, or all images are black.
pub(super) fn to_bytes(images: &Tensor, found: &Found) -> Result<Tensor> {
    let highest = |images: &Tensor| -> Result<i64> { Ok(f64::try_from(images.f_max()?)?.mul_add(255.0, 0.5) as i64) };
    let first = images.f_narrow(0, 0, FIRST.min(images.size()[0]))?;
    if highest(&first)? >= FAINTEST {
        return Ok(images.shallow_clone());
    }
    let path = found.path.display();
    match highest(images)? {
        0 => bail!("{path} holds black images alone"),
        1 => {
            tracing::warn!("{path}: its pixels are 0 and 1, and are taken for black and white");
            Ok(images.f_gt(0.0)?.f_to_kind(Kind::Float)?)
        }
        highest if highest < FAINTEST => {
            bail!("{path} holds no pixel above {highest}: bytes from 0 to 255 are expected, 255 for white")
        }
        _ => Ok(images.shallow_clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::idx::{self, FILES};
    use std::fs::File;

    /// Of an image of this byte and one of the next below it, or the sentence.
    fn pixels(byte: u8) -> Result<Vec<f32>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(FILES[0].name);
        idx::write(FILES[0].content, &[0; 784], &mut File::create(&path)?)?;
        let found = Found::find(folder.path(), &FILES[0]).expect("it was just written");
        let bytes = Tensor::from_slice(&[byte, byte.saturating_sub(1)]).to_kind(Kind::Float);
        let images = to_bytes(&(bytes / 255.0).unsqueeze(1).repeat([1, 784]), &found)?;
        Ok(Vec::try_from(images.select(1, 0))?)
    }

    #[test]
    fn zeros_and_ones_become_black_and_white_and_other_scales_are_refused() {
        assert_eq!(pixels(1).unwrap(), [1.0, 0.0]);
        assert_eq!(pixels(255).unwrap(), [1.0, 254.0 / 255.0]);
        assert_eq!(pixels(32).unwrap(), [32.0 / 255.0, 31.0 / 255.0]);
        let refused = |byte| pixels(byte).unwrap_err().to_string();
        assert!(refused(0).ends_with("train-images-idx3-ubyte holds black images alone"), "{}", refused(0));
        assert!(refused(16).contains("holds no pixel above 16: bytes from 0 to 255 are expected"), "{}", refused(16));
    }
}
