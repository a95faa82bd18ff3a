//! What all pictures share: their colours, and how text is set.

use super::{Error, FONT};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Text.
pub const INK: RGBColor = RGBColor(33, 37, 41);
/// Text that matters less, axes.
pub const GREY: RGBColor = RGBColor(108, 117, 125);
/// Lines of a grid.
pub const GRID: RGBColor = RGBColor(233, 236, 239);
/// Colours of curves that stay apart for colour-blind readers (Okabe and Ito, 2008), without their yellow, which is too
/// pale for white paper.
pub const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 130, 96),
    RGBColor(204, 121, 167),
    RGBColor(86, 160, 211),
    RGBColor(196, 138, 0),
    INK,
];

/// The colour of curve `k` of `n`: from viridis, dark to green, when there are more than can be told apart.
pub fn colour(k: usize, n: usize) -> RGBColor {
    match COLOURS.get(k) {
        Some(colour) if n <= COLOURS.len() => *colour,
        _ => ViridisRGB.get_color(0.85 * k as f64 / (n.max(2) - 1) as f64),
    }
}

/// What a picture is drawn on.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Sets one line of text, `at` its middle in height and its `side` in width.
pub fn text(area: &Area, text: &str, size: i32, colour: RGBColor, side: HPos, at: (i32, i32)) -> Result<(), Error> {
    let style = TextStyle::from((FONT, size)).color(&colour).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_string(), at, style)).map_err(drawing)
}

/// plotters' error borrows the picture; its text does not.
pub fn drawing(error: impl std::fmt::Display) -> Error {
    Error::Drawing(error.to_string())
}
