//! Pictures: an SVG drawn in memory with [plotters], and the same SVG as a PNG, with a font that is part of the crate.
//!
//! ```
//! use canvas::style::{Area, INK, text};
//! use plotters::style::text_anchor::HPos;
//!
//! let svg = canvas::svg((200, 100), |area: &Area| text(area, "E_total", 20, INK, HPos::Left, (10, 50)))?;
//! let png = canvas::svg_to_png(&svg, 2.0)?;
//! assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
//! # Ok::<(), canvas::Error>(())
//! ```

#![deny(missing_docs, unreachable_pub)]

mod error;
pub mod style;

pub use error::Error;
use plotters::drawing::IntoDrawingArea;
use plotters::prelude::SVGBackend;
use resvg::{tiny_skia, usvg};
use style::Area;

/// The font of every text in a picture: the one that is part of the crate, then what a viewer may have.
pub const FONT: &str = "Ubuntu, Helvetica, Arial, sans-serif";

/// An SVG of `width` by `height` pixels, drawn by `draw` with plotters.
pub fn svg((width, height): (u32, u32), draw: impl FnOnce(&Area) -> Result<(), Error>) -> Result<String, Error> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    Ok(text)
}

/// The PNG file of `svg`, `scale` pixels to each of its units: 2 is sharp on a slide.
///
/// Text is set in Ubuntu Light, which is part of the crate; fonts of the machine are not used.
pub fn svg_to_png(svg: &str, scale: f32) -> Result<Vec<u8>, Error> {
    let mut options = usvg::Options::default();
    options.fontdb_mut().load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    options.fontdb_mut().set_sans_serif_family("Ubuntu");
    options.font_family = "Ubuntu".to_string();
    let tree = usvg::Tree::from_str(svg, &options).map_err(Error::Svg)?;

    let pixels = |length: f32| (length * scale).round() as u32;
    let (width, height) = (pixels(tree.size().width()), pixels(tree.size().height()));
    if width == 0 || height == 0 {
        return Err(Error::NoPixels { width, height });
    }
    let mut pixmap = tiny_skia::Pixmap::new(width, height).ok_or(Error::TooLarge { width, height })?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| Error::Png(error.to_string()))
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
