//! The tone of a source's images: white on black, from 0 to 255, in the same way for training, `import` and `predict`.

use super::{Polarity, loader, scale};
use crate::digit::Digit;
use crate::shape::PIXELS;
use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

/// Brings the images of the source `whose` to that tone, all in the same way, and says so. Returns whether they changed.
///
/// # Errors
///
/// If their pixels are on no scale that is known.
pub(crate) fn settle(mut images: Vec<&mut Digit>, polarity: Polarity, whose: &str) -> Result<bool> {
    let counts = scale::counts(images.iter().flat_map(|image| image.iter()));
    let table = scale::table(&counts, whose)?;
    if let Some(table) = &table {
        images.iter_mut().for_each(|image| image.iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]));
    }
    Ok(polarity.turn(&mut images, whose) || table.is_some())
}

/// [`settle`] for a dataset in a tensor, float32 [N, 784] from 0 to 1; one that is blank is refused.
pub(super) fn settle_dataset(images: &Tensor, polarity: Polarity, whose: &str) -> Result<Tensor> {
    let mut bytes = loader::bytes(images)?;
    let (digits, _) = bytes.as_chunks_mut::<PIXELS>();
    refuse_blank(digits, whose)?;
    if !settle(digits.iter_mut().collect(), polarity, whose).with_context(|| whose.to_string())? {
        return Ok(images.shallow_clone());
    }
    // As tch's loader makes floats of bytes.
    Ok(Tensor::from_slice(&bytes).f_view([-1, PIXELS as i64])?.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?)
}

/// Refuses a dataset of images that show nothing, each of one colour; warns of some.
pub(super) fn refuse_blank(images: &[Digit], whose: &str) -> Result<()> {
    let blank = images.iter().filter(|image| image.iter().all(|byte| *byte == image[0])).count();
    ensure!(
        blank == 0 || blank < images.len(),
        "{whose}: each image is of one colour, so there is nothing to learn: is the right file, column or array named?"
    );
    if blank > 0 {
        tracing::warn!("{whose}: {blank} of {} images show nothing, for each is of one colour", images.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digits of a brightness on a paper.
    fn dataset(paper: u8, ink: u8) -> Vec<Digit> {
        let mut digits = vec![[paper; PIXELS]; 9];
        for (k, digit) in digits.iter_mut().enumerate() {
            digit[280 + 28 * k..][5..23].fill(ink);
        }
        digits
    }

    fn settled(polarity: Polarity, images: &[Digit]) -> Vec<Digit> {
        let mut found = images.to_vec();
        let changed = settle(found.iter_mut().collect(), polarity, "a file").unwrap();
        assert_eq!(changed, found != images);
        found
    }

    #[test]
    fn images_of_every_tone_become_white_on_black() {
        let expected = dataset(0, 255);
        for (paper, ink) in [(0, 255), (255, 0), (0, 1), (1, 0), (0, 100), (120, 0)] {
            assert!(settled(Polarity::Border, &dataset(paper, ink)) == expected, "{ink} on {paper}");
        }
        assert!(settled(Polarity::Keep, &dataset(1, 0)) == dataset(255, 0));
        assert!(settled(Polarity::Invert, &expected) == dataset(255, 0));
        let sentence = settle(dataset(0, 9).iter_mut().collect(), Polarity::Border, "a file").unwrap_err().to_string();
        assert!(sentence.starts_with("its pixels go from 0 to 9; 0 to 255"), "{sentence}");
    }

    #[test]
    fn tensors_are_settled_as_bytes_are() {
        let tensor = |images: &[Digit]| {
            Tensor::from_slice(images.as_flattened()).view([-1, PIXELS as i64]).to_kind(Kind::Float) / 255.0
        };
        for images in [dataset(0, 220), dataset(255, 30), dataset(0, 1), dataset(120, 0)] {
            for polarity in [Polarity::Border, Polarity::Invert, Polarity::Keep] {
                let found = settle_dataset(&tensor(&images), polarity, "a file").unwrap();
                assert!(found.equal(&tensor(&settled(polarity, &images))));
            }
        }
    }

    #[test]
    fn a_dataset_that_shows_nothing_is_refused() {
        for blank in [vec![[0; PIXELS]; 3], vec![[255; PIXELS]; 3], vec![[0; PIXELS], [90; PIXELS]]] {
            let sentence = refuse_blank(&blank, "a file").unwrap_err().to_string();
            assert!(
                sentence.starts_with("a file: each image is of one colour, so there is nothing to learn"),
                "{sentence}"
            );
        }
        let mut some = dataset(0, 255);
        some[0] = [0; PIXELS];
        refuse_blank(&some, "a file").unwrap();
        refuse_blank(&[], "nothing").unwrap();
    }
}
