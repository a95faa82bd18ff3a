//! Test images that are training images too: an accuracy on them says nothing about new ones.

use super::loader;
use crate::digit::Digit;
use crate::shape::PIXELS;
use anyhow::Result;
use std::collections::HashSet;
use tch::Tensor;

/// A few images that are twice in a dataset, in one of 50, change its accuracy by less than is lost between two seeds.
const MOST: f64 = 0.02;

/// Warns if more than [`MOST`] of the test images are training images too, to the last pixel. Both are float32 [N, 784]
/// from 0 to 1, as tch's loader makes them; blank images, which are all the same, do not count.
pub(super) fn warn(train: &Tensor, test: &Tensor, folder: &str) -> Result<()> {
    let (train, test) = (loader::bytes(train)?, loader::bytes(test)?);
    let ((train, _), (test, _)) = (train.as_chunks::<PIXELS>(), test.as_chunks::<PIXELS>());
    let both = shared(train, test);
    if both as f64 > MOST * test.len() as f64 {
        tracing::warn!(
            "{folder}: {both} of {} test images are training images too, so an accuracy on the test set says little about \
             new images",
            test.len()
        );
    }
    Ok(())
}

/// The number of `test` images that are also in `train`.
fn shared(train: &[Digit], test: &[Digit]) -> usize {
    let known: HashSet<&Digit> = train.iter().collect();
    let is_blank = |image: &Digit| image.iter().all(|byte| *byte == image[0]);
    test.iter().filter(|image| known.contains(image) && !is_blank(image)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_both_parts_are_counted_and_blank_ones_are_not() {
        let image = |byte: u8| {
            let mut image = [0; PIXELS];
            image[0] = byte;
            image
        };
        let train: Vec<Digit> = (0..10).map(image).collect();
        assert_eq!(shared(&train, &[image(3), image(30), image(0), image(9), image(3)]), 3);
        assert_eq!(shared(&train, &[]), 0);
    }
}
