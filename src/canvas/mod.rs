//! Pictures: an SVG drawn in memory, and the same SVG as a PNG, with a font that is part of the program.

pub(crate) mod style;

use anyhow::{Context, Result, ensure};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::prelude::SVGBackend;
use resvg::{tiny_skia, usvg};

/// The font of every text in a picture, first the one that comes with the program, then what a viewer may have.
pub(crate) const FONT: &str = "Ubuntu, Helvetica, Arial, sans-serif";

/// An SVG of `width` by `height` pixels, drawn by `draw` with plotters.
pub(crate) fn svg(
    (width, height): (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend, Shift>) -> Result<()>,
) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area)?;
        area.present().context("the picture cannot be drawn")?;
    }
    Ok(text)
}

/// The PNG file of `svg`, `scale` pixels to each of its units: 2 is sharp on a slide.
///
/// Text is set in Ubuntu Light, which is part of the program; fonts of the machine are not used.
pub(crate) fn svg_to_png(svg: &str, scale: f32) -> Result<Vec<u8>> {
    let mut options = usvg::Options::default();
    options.fontdb_mut().load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    options.fontdb_mut().set_sans_serif_family("Ubuntu");
    options.font_family = "Ubuntu".to_string();
    let tree = usvg::Tree::from_str(svg, &options).context("the picture is not a valid SVG")?;

    let pixels = |length: f32| (length * scale).round() as u32;
    let (width, height) = (pixels(tree.size().width()), pixels(tree.size().height()));
    ensure!(width > 0 && height > 0, "a picture of {width} by {height} pixels has no pixels: scale it up");
    let mut pixmap = tiny_skia::Pixmap::new(width, height)
        .with_context(|| format!("a picture of {width} by {height} pixels does not fit in memory"))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().context("the picture cannot be encoded as PNG")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dark_pixels(text: &str) -> usize {
        let svg = format!(
            r##"<svg width="100" height="40" xmlns="http://www.w3.org/2000/svg"><rect width="100" height="40" fill="#fff"/><text x="5" y="30" font-family="{FONT}" font-size="20">{text}</text></svg>"##
        );
        let png = svg_to_png(&svg, 2.0).unwrap();
        let pixmap = tiny_skia::Pixmap::decode_png(&png).unwrap();
        assert_eq!((pixmap.width(), pixmap.height()), (200, 80));
        pixmap.pixels().iter().filter(|pixel| pixel.red() < 128).count()
    }

    #[test]
    fn text_is_drawn_without_a_font_of_the_machine() {
        assert_eq!(dark_pixels(""), 0);
        assert!(dark_pixels("E_total") > 100);
    }

    #[test]
    fn what_is_no_svg_is_refused() {
        assert!(svg_to_png("<html/>", 1.0).is_err());
        assert!(svg_to_png(r#"<svg width="1" height="1" xmlns="http://www.w3.org/2000/svg"/>"#, 0.1).is_err());
    }
}
