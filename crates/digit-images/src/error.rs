use super::formats::readable;

/// Why a file has no digit to read. Its text is a sentence about "it", the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file has no bytes.
    #[error("it is empty")]
    Empty,
    /// The file is a picture in a format that is recognised and not read.
    #[error("it is {name}, which is not read: {way_out}")]
    Foreign {
        /// The format, with its article.
        name: &'static str,
        /// How to convert it.
        way_out: &'static str,
    },
    /// The file is not a picture.
    #[error("it is not a picture in a format that can be read: {}", readable())]
    NotAPicture,
    /// The file is cut off or damaged.
    #[error("it cannot be decoded")]
    Damaged(#[source] image::ImageError),
    /// The decoder of its format does not know its pixels.
    #[error("its pixels are of a kind that is not read, such as floats or LAB: save it as 8-bit grey or RGB")]
    Pixels(#[source] image::ImageError),
    /// The end of a JPEG is missing; its decoder would make grey of it.
    #[error("it is cut short: the end of the JPEG is missing")]
    CutShort,
    /// A function for one page got a TIFF of several: see [`pages`](crate::pages).
    #[error("it has {0} pages: save each as a file of its own, as `tiffsplit` does")]
    SeveralPages(usize),
    /// A side of the picture is 0 pixels long.
    #[error("it has no pixels")]
    NoPixels,
    /// The picture is a decompression bomb, or larger than any camera makes them.
    #[error("it has {width}x{height} pixels, more than {} million", most / 1_000_000)]
    TooLarge {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// The most pixels that are decoded.
        most: u64,
    },
    /// The picture must be 28x28 to be taken unchanged.
    #[error("it has {width}x{height} pixels, not 28x28")]
    NotMnistSize {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The picture has no ink.
    #[error("it shows nothing: {0}")]
    ShowsNothing(&'static str),
}
