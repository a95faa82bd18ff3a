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

/// About how wide `text` is, in pixels, in the widest of the fonts that a viewer may have.
pub fn width(text: &str, size: i32) -> i32 {
    let share = |letter: char| match letter {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.31,
        'f' | 't' | 'r' | ' ' | '(' | ')' | '-' | '/' => 0.4,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.95,
        'A'..='Z' => 0.74,
        _ => 0.6,
    };
    // plotters' size is the line height, about 1.24 times the font size.
    (f64::from(size) / 1.24 * text.chars().map(share).sum::<f64>()).ceil() as i32
}

/// `text` and its size so that it is at most `most` pixels wide: set smaller, down to two thirds of `size`, and else cut.
pub fn fitted(text: &str, size: i32, most: i32) -> (String, i32) {
    let smallest = size * 2 / 3;
    if let Some(size) = (smallest..=size).rev().find(|&size| width(text, size) <= most) {
        return (text.to_string(), size);
    }
    let letters: Vec<char> = text.chars().collect();
    let cut = |count: usize| format!("{}..", letters[..count].iter().collect::<String>().trim_end());
    let count = (1..letters.len()).rev().find(|&count| width(&cut(count), smallest) <= most).unwrap_or(1);
    (cut(count), smallest)
}

/// The colour of dark paper.
const DARK_PAPER: RGBColor = RGBColor(28, 32, 36);

/// The colour that stands for `colour` on dark paper: of the same hue, and as far from the paper.
pub fn in_the_dark(colour: RGBColor) -> RGBColor {
    if colour == WHITE {
        return DARK_PAPER;
    }
    let (hue, saturation, lightness) = to_hsl(colour);
    // Colours of ink and curves stay in the upper half, and those that are pale on white are as near to the dark paper.
    let lightness = match lightness < 0.65 {
        true => 0.925 - 0.5 * lightness,
        false => 0.125 + 0.475 * (1.0 - lightness) / 0.35,
    };
    from_hsl(hue, saturation, lightness)
}

/// Hue from 0 to 6, saturation and lightness from 0 to 1.
fn to_hsl(RGBColor(red, green, blue): RGBColor) -> (f64, f64, f64) {
    let [red, green, blue] = [red, green, blue].map(|channel| f64::from(channel) / 255.0);
    let (high, low) = (red.max(green).max(blue), red.min(green).min(blue));
    let (range, lightness) = (high - low, (high + low) / 2.0);
    if range == 0.0 {
        return (0.0, 0.0, lightness);
    }
    let hue = if high == red {
        ((green - blue) / range).rem_euclid(6.0)
    } else if high == green {
        (blue - red) / range + 2.0
    } else {
        (red - green) / range + 4.0
    };
    (hue, range / (1.0 - (2.0 * lightness - 1.0).abs()), lightness)
}

fn from_hsl(hue: f64, saturation: f64, lightness: f64) -> RGBColor {
    let chroma = saturation * (1.0 - (2.0 * lightness - 1.0).abs());
    let channel = |offset: f64| {
        let place = (hue + offset).rem_euclid(6.0);
        let share = (2.0 - (place - 3.0).abs()).clamp(0.0, 1.0);
        (255.0 * (lightness + chroma * (0.5 - share))).round().clamp(0.0, 255.0) as u8
    };
    RGBColor(channel(0.0), channel(4.0), channel(2.0))
}

/// plotters' error borrows the picture; its text does not.
pub fn drawing(error: impl std::fmt::Display) -> Error {
    Error::Drawing(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contrast ratio of WCAG 2.
    fn contrast(a: RGBColor, b: RGBColor) -> f64 {
        let luminance = |RGBColor(red, green, blue)| {
            let linear = |channel: u8| {
                let share = f64::from(channel) / 255.0;
                if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
        };
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn ink_and_curves_stand_out_on_dark_paper_too() {
        let paper = in_the_dark(WHITE);
        assert!(contrast(in_the_dark(INK), paper) > 10.0);
        assert!(contrast(in_the_dark(GREY), paper) > 4.5);
        for colour in COLOURS.into_iter().chain((0..20).map(|k| colour(k, 20))) {
            assert!(contrast(in_the_dark(colour), paper) > 3.0, "{colour:?}: {:?}", in_the_dark(colour));
        }
        // Lines of a grid stay in the background.
        assert!(contrast(in_the_dark(GRID), paper) < 1.5);
    }

    #[test]
    fn a_colour_keeps_its_hue_in_the_dark() {
        for colour in COLOURS {
            let difference = (to_hsl(colour).0 - to_hsl(in_the_dark(colour)).0).abs();
            assert!(difference < 0.1, "{colour:?}: {difference}");
            let (hue, saturation, lightness) = to_hsl(colour);
            assert_eq!(from_hsl(hue, saturation, lightness), colour);
        }
    }

    #[test]
    fn text_is_set_smaller_and_then_cut_until_it_fits() {
        assert_eq!(fitted("7", 40, 100), ("7".into(), 40));
        let (text, size) = fitted("Ankle boot", 40, 150);
        assert!(text == "Ankle boot" && size < 40 && width(&text, size) <= 150, "{text} {size}");
        let (text, size) = fitted("Northern cardinal (juvenile)", 40, 200);
        assert!(text.starts_with("North") && text.ends_with("..") && width(&text, size) <= 200, "{text} {size}");
    }
}
