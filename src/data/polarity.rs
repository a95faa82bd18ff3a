//! White on black, as MNIST is, or black on white: the border of a dataset's images decides.

use crate::digit::Digit;
use crate::shape::SIDE;

/// The paper is the middle of the brightness in the four corners, each so many pixels wide and high: a digit rarely
/// reaches there.
const CORNER: usize = 4;

/// The ink is within this distance of the edges of an image.
const EDGE: usize = 3;

/// An image tells its polarity if its paper differs from the mean of its inside by at least this share of the range of
/// its pixels. All of MNIST's images do, by more than twice as much.
const CLEAR: f32 = 1.0 / 64.0;

/// A dataset is mixed if at least this share of its images is of the other polarity than most are.
const MIXED: f32 = 0.05;

/// Whether a dataset's images are turned to white on black.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Polarity {
    /// If the border of most is lighter than their ink.
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
    /// Turns `images` if they are to be turned, all or none, and says so; `whose` names their file or folder. Returns
    /// whether they are turned.
    pub(super) fn turn(self, images: &mut [&mut Digit], whose: &str) -> bool {
        let turn = match self {
            Polarity::Border => Votes::of(images).decide(whose),
            Polarity::Invert => true,
            Polarity::Keep => false,
        };
        if turn {
            images.iter_mut().for_each(|image| image.iter_mut().for_each(|byte| *byte = !*byte));
        }
        turn
    }
}

/// How many images there are of each polarity; some tell none.
#[derive(Default)]
struct Votes {
    black_on_white: usize,
    white_on_black: usize,
    images: usize,
}

impl Votes {
    fn of(images: &[&mut Digit]) -> Votes {
        let mut votes = Votes { images: images.len(), ..Votes::default() };
        for image in images {
            match is_black_on_white(image) {
                Some(true) => votes.black_on_white += 1,
                Some(false) => votes.white_on_black += 1,
                None => {}
            }
        }
        votes
    }

    /// Whether the images are to be turned.
    fn decide(&self, whose: &str) -> bool {
        let turn = self.black_on_white > self.white_on_black;
        let most = if turn { self.black_on_white } else { self.white_on_black };
        let fewest = self.black_on_white + self.white_on_black - most;
        if fewest > 0 && fewest as f32 >= MIXED * self.images as f32 {
            let share = |count: usize| 100.0 * count as f32 / self.images as f32;
            tracing::warn!(
                "{whose}: the images are mixed, {:.0} % white on black and {:.0} % black on white: {}, which is wrong for the \
                 {fewest} that differ from the others; as sources of their own each kind is turned as it needs it",
                share(self.white_on_black),
                share(self.black_on_white),
                if turn { "all are turned" } else { "none is turned" }
            );
        } else if turn {
            tracing::warn!(
                "{whose}: the images are black on white, as their light border says, and are turned to white on black; \
                 --no-invert takes them as they are"
            );
        }
        turn
    }
}

/// Whether the paper of an image is lighter than its ink; `None` if it has none, or is all noise.
fn is_black_on_white(image: &Digit) -> Option<bool> {
    let is_at_end = |at: usize, length: usize| at < length || at >= SIDE - length;
    let (mut corners, mut inside, mut count) = (Vec::with_capacity(4 * CORNER * CORNER), 0, 0);
    for (k, &byte) in image.iter().enumerate() {
        let (x, y) = (k % SIDE, k / SIDE);
        if is_at_end(x, CORNER) && is_at_end(y, CORNER) {
            corners.push(byte);
        }
        if !is_at_end(x, EDGE) && !is_at_end(y, EDGE) {
            inside += u32::from(byte);
            count += 1;
        }
    }
    corners.sort_unstable();
    let range = f32::from(image.iter().max()? - image.iter().min()?);
    let lighter = f32::from(corners[corners.len() / 2]) - inside as f32 / count as f32;
    (range > 0.0 && lighter.abs() >= CLEAR * range).then_some(lighter > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::PIXELS;

    /// Nine digits of a brightness on a paper, and an image that fills its square.
    fn dataset(paper: u8, ink: u8) -> Vec<Digit> {
        let mut digits = vec![[paper; PIXELS]; 10];
        for (k, digit) in digits[..9].iter_mut().enumerate() {
            digit[280 + 28 * k..][5..23].fill(ink);
        }
        digits[9] = [ink; PIXELS];
        digits
    }

    fn turned(polarity: Polarity, images: &[Digit]) -> Vec<Digit> {
        let mut found = images.to_vec();
        let is_turned = polarity.turn(&mut found.iter_mut().collect::<Vec<_>>(), "a file");
        assert_eq!(is_turned, found != images);
        found
    }

    fn inverse(images: &[Digit]) -> Vec<Digit> {
        images.iter().map(|image| image.map(|byte| !byte)).collect()
    }

    #[test]
    fn all_images_are_turned_or_none() {
        let white_on_black = dataset(0, 220);
        let black_on_white = inverse(&white_on_black);
        assert!(turned(Polarity::Border, &black_on_white) == white_on_black);
        assert!(turned(Polarity::Border, &white_on_black) == white_on_black);
        assert!(turned(Polarity::Keep, &black_on_white) == black_on_white);
        assert!(turned(Polarity::Invert, &white_on_black) == black_on_white);
        assert!(!Polarity::Border.turn(&mut [], "nothing"));
    }

    #[test]
    fn paper_of_any_brightness_is_told_from_ink() {
        for (paper, ink) in [(120, 0), (120, 90), (60, 10), (200, 150), (255, 0), (140, 120)] {
            let images = dataset(paper, ink);
            assert!(turned(Polarity::Border, &images) == inverse(&images), "{paper} {ink}");
            let images = dataset(ink, paper);
            assert!(turned(Polarity::Border, &images) == images, "{ink} {paper}");
        }
    }

    #[test]
    fn a_frame_and_noise_are_no_paper() {
        let mut framed = dataset(0, 220);
        for image in &mut framed {
            for k in 0..SIDE {
                [k, PIXELS - SIDE + k, SIDE * k, SIDE * k + SIDE - 1].iter().for_each(|&at| image[at] = 255);
            }
        }
        assert!(turned(Polarity::Border, &framed) == framed);
        // A generator of Lehmer's.
        let mut state = 1u64;
        let mut noise = || {
            state = state * 48_271 % 0x7fff_ffff;
            (state >> 8) as u8
        };
        let mut noisy: Vec<Digit> = (0..200).map(|_| std::array::from_fn(|_| noise())).collect();
        let votes = Votes::of(&noisy.iter_mut().collect::<Vec<_>>());
        assert!(votes.black_on_white.abs_diff(votes.white_on_black) < 60, "noise is of either polarity");
    }

    #[test]
    fn the_share_that_is_the_other_way_round_is_counted() {
        let (white_on_black, black_on_white) = (dataset(0, 220), dataset(255, 20));
        let mixed = [&white_on_black[..9], &black_on_white[..4], &[[0; PIXELS]]].concat();
        let votes = Votes::of(&mixed.clone().iter_mut().collect::<Vec<_>>());
        assert_eq!((votes.white_on_black, votes.black_on_white, votes.images), (9, 4, 14));
        assert!(turned(Polarity::Border, &mixed) == mixed);
        let mixed = [&white_on_black[..4], &black_on_white[..9]].concat();
        assert!(turned(Polarity::Border, &mixed) == inverse(&mixed));
    }
}
