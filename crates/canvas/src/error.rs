use plotters::drawing::DrawingAreaErrorKind;
use std::io;

/// Why a picture cannot be drawn. Displays as one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something cannot be drawn: plotters' reason.
    #[error("the picture cannot be drawn: {0}")]
    Drawing(String),
    /// The text is not an SVG.
    #[error("the picture is not a valid SVG")]
    Svg(#[source] resvg::usvg::Error),
    /// The scale makes a side shorter than a pixel.
    #[error("a picture of {width} by {height} pixels has no pixels: scale it up")]
    NoPixels {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The scale makes more pixels than there is memory for.
    #[error("a picture of {width} by {height} pixels does not fit in memory")]
    TooLarge {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The pixels cannot be written as a PNG.
    #[error("the picture cannot be encoded as PNG: {0}")]
    Png(String),
}

/// plotters' error borrows the picture; its text does not.
impl From<DrawingAreaErrorKind<io::Error>> for Error {
    fn from(error: DrawingAreaErrorKind<io::Error>) -> Error {
        Error::Drawing(error.to_string())
    }
}
