//! The shapes of MNIST, in one place.

pub(crate) use digit_images::{PIXELS, SIDE};

/// The number of classes; labels are 0 to 9.
pub(crate) const CLASSES: usize = 10;

/// What the classes of MNIST are called.
pub(crate) const DIGITS: [&str; CLASSES] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
