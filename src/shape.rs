//! The shapes of MNIST, in one place.

/// Height and width of an image in pixels.
pub(crate) const SIDE: usize = 28;

/// Pixels of an image.
pub(crate) const PIXELS: usize = SIDE * SIDE;

/// The number of classes; labels are 0 to 9.
pub(crate) const CLASSES: usize = 10;
