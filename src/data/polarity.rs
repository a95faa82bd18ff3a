//! White on black, as MNIST is, or black on white: the border of a dataset's images decides.

use crate::shape::{PIXELS, SIDE};
use anyhow::Result;
use tch::{Kind, Tensor};

/// Height and width of an image without its border.
const INSIDE: i64 = SIDE as i64 - 2;

/// Whether a dataset's images are turned to white on black.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Polarity {
    /// If their border is light.
    #[default]
    Border,
    /// Whatever their border.
    Invert,
    /// Not at all.
    Keep,
}

impl From<Option<bool>> for Polarity {
    /// Of the setting `invert`.
    fn from(invert: Option<bool>) -> Polarity {
        match invert {
            None => Polarity::Border,
            Some(true) => Polarity::Invert,
            Some(false) => Polarity::Keep,
        }
    }
}

impl Polarity {
    /// This, unless the images of a dataset are known to be right: then their border says nothing.
    pub(super) fn unless(self, are_known: bool) -> Polarity {
        if are_known && self == Polarity::Border { Polarity::Keep } else { self }
    }

    /// [`Polarity::turn`] for float32 [N, 784] from 0 to 1.
    pub(super) fn turn_tensor(self, images: &Tensor, whose: &str) -> Result<Tensor> {
        let is_light = || -> Result<bool> {
            let inside =
                images.f_view([-1, SIDE as i64, SIDE as i64])?.f_narrow(1, 1, INSIDE)?.f_narrow(2, 1, INSIDE)?;
            let mean = |pixels: &Tensor| -> Result<f64> { Ok(f64::try_from(pixels.f_mean(Kind::Double)?)?) };
            Ok(Means::of(255.0 * mean(images)?, 255.0 * mean(&inside)?).are_light())
        };
        match self.decide(is_light, whose)? {
            true => Ok(images.f_neg()?.f_add_scalar(1.0)?),
            false => Ok(images.shallow_clone()),
        }
    }

    /// Turns `images` if they are to be turned, all or none, and says so; `whose` names their file or folder.
    pub(crate) fn turn(self, mut images: Vec<&mut [u8; PIXELS]>, whose: &str) {
        let is_light = || Ok(Means::of_images(images.iter().map(|image| &**image)).are_light());
        if self.decide(is_light, whose).is_ok_and(|turn| turn) {
            images.iter_mut().for_each(|image| image.iter_mut().for_each(|byte| *byte = !*byte));
        }
    }

    fn decide(self, is_light: impl FnOnce() -> Result<bool>, whose: &str) -> Result<bool> {
        let turn = match self {
            Polarity::Border => is_light()?,
            Polarity::Invert => return Ok(true),
            Polarity::Keep => false,
        };
        if turn {
            tracing::warn!(
                "{whose}: the images are black on white, as their light border says, and are turned to white on black; \
                 --no-invert takes them as they are"
            );
        }
        Ok(turn)
    }
}

/// How light images are, all together: one image may fill its square, but not a whole dataset.
struct Means {
    border: f64,
    inside: f64,
}

impl Means {
    /// Of the means of all pixels and of those inside the border.
    fn of(all: f64, inside: f64) -> Means {
        let (pixels, inner) = (PIXELS as f64, (INSIDE * INSIDE) as f64);
        Means { border: (all * pixels - inside * inner) / (pixels - inner), inside }
    }

    fn of_images<'a>(images: impl Iterator<Item = &'a [u8; PIXELS]>) -> Means {
        let sum = |pixels: &[u8]| pixels.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        let (mut all, mut inside, mut count) = (0, 0, 0);
        for image in images {
            let rows: Vec<&[u8]> = image.chunks(SIDE).collect();
            all += sum(image);
            inside += rows[1..SIDE - 1].iter().map(|row| sum(&row[1..SIDE - 1])).sum::<u64>();
            count += 1;
        }
        let mean = |sum: u64, pixels: usize| sum as f64 / (count * pixels) as f64;
        Means::of(mean(all, PIXELS), mean(inside, (INSIDE * INSIDE) as usize))
    }

    /// Whether the border is light, and lighter than what it surrounds. Without images it is not.
    fn are_light(&self) -> bool {
        self.border > 127.5 && self.border > self.inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images: a digit on a dark square, and a light one that fills its square.
    fn dataset() -> [[u8; PIXELS]; 5] {
        let mut digit = [0; PIXELS];
        digit[300..420].fill(220);
        [digit, digit, digit, digit, [240; PIXELS]]
    }

    fn turned(polarity: Polarity, mut images: [[u8; PIXELS]; 5]) -> [[u8; PIXELS]; 5] {
        polarity.turn(images.iter_mut().collect(), "a file");
        images
    }

    #[test]
    fn all_images_are_turned_or_none() {
        let white_on_black = dataset();
        let black_on_white = white_on_black.map(|image| image.map(|byte| 255 - byte));
        assert!(turned(Polarity::Border, black_on_white) == white_on_black);
        assert!(turned(Polarity::Border, white_on_black) == white_on_black);
        assert!(turned(Polarity::Keep, black_on_white) == black_on_white);
        assert!(turned(Polarity::Invert, white_on_black) == black_on_white);
        assert!(turned(Polarity::Border.unless(true), black_on_white) == black_on_white);
        assert!(turned(Polarity::Invert.unless(true), black_on_white) == white_on_black);
        Polarity::Border.turn(Vec::new(), "nothing");
    }

    #[test]
    fn tensors_are_turned_as_bytes_are() {
        let tensor = |images: &[[u8; PIXELS]]| {
            Tensor::from_slice(images.as_flattened()).view([-1, PIXELS as i64]).to_kind(Kind::Float) / 255.0
        };
        for images in [dataset(), dataset().map(|image| image.map(|byte| 255 - byte))] {
            for polarity in [Polarity::Border, Polarity::Invert, Polarity::Keep] {
                let found = polarity.turn_tensor(&tensor(&images), "a file").unwrap();
                assert!((found - tensor(&turned(polarity, images))).abs().max().double_value(&[]) < 1e-6);
            }
        }
    }
}
