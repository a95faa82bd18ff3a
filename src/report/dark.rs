//! Pictures on a dark page: rules of CSS that give each colour of an SVG its counterpart on dark paper.

use canvas::style::in_the_dark;
use plotters::style::RGBColor;
use std::collections::BTreeSet;

/// The rules for all colours of `svgs`, in a page that prefers them if its reader does. Attributes of an SVG yield to rules.
pub(super) fn rules<'a>(svgs: impl IntoIterator<Item = &'a str>) -> String {
    let colours: BTreeSet<&str> = svgs.into_iter().flat_map(colours_of).collect();
    let rule = |name: &str| {
        let dark = code(in_the_dark(colour(name)?));
        Some(format!("svg [fill=\"#{name}\"] {{ fill: {dark} }} svg [stroke=\"#{name}\"] {{ stroke: {dark} }}\n"))
    };
    colours.into_iter().filter_map(rule).collect()
}

/// The colour as CSS writes it.
pub(super) fn code(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// The six digits of each colour that is the whole value of an attribute.
fn colours_of(svg: &str) -> impl Iterator<Item = &str> {
    svg.split("=\"#").skip(1).filter_map(|rest| rest.get(..6).filter(|_| rest.as_bytes().get(6) == Some(&b'"')))
}

fn colour(digits: &str) -> Option<RGBColor> {
    let channel = |from: usize| u8::from_str_radix(digits.get(from..from + 2)?, 16).ok();
    Some(RGBColor(channel(0)?, channel(2)?, channel(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_of_a_picture_has_its_rule() {
        let rules =
            rules(["<rect fill=\"#FFFFFF\"/><path stroke=\"#0072B2\"/>", "<text fill=\"#212529\">#123456</text>"]);
        assert_eq!(rules.lines().count(), 3, "{rules}");
        assert!(rules.contains("svg [fill=\"#FFFFFF\"] { fill: #1C2024 }"), "{rules}");
        assert!(rules.contains("svg [stroke=\"#0072B2\"] { stroke: #"), "{rules}");
    }
}
