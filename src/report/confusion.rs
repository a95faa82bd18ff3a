//! The confusion matrix, with its counts.

use crate::data::Classes;
use crate::evaluate::{percent, shown_classes};
use anyhow::Result;
use canvas::style::{COLOURS, GREY, GRID, INK, drawing, fitted, text, width};
use canvas::svg;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// A cell's side, in pixels, and the room at the top and at the right.
const CELL: i32 = 92;
const TOP: i32 = 170;
const RIGHT: i32 = 150;

/// The size of the counts, and the most room that the name of a class takes.
const FONT_SIZE: i32 = 38;
const LONGEST: i32 = 290;

/// The matrix as SVG: `confusion` counts images by label (row) and predicted class (column). Rows have the names of the
/// classes, columns their numbers.
pub(super) fn draw(confusion: &[Vec<i64>], classes: &Classes) -> Result<String> {
    let shown = shown_classes(confusion, classes.count());
    let names: Vec<String> = (0..shown).map(|class| row_name(classes, class)).collect();
    let names: Vec<(String, i32)> = names.iter().map(|name| fitted(name, FONT_SIZE, LONGEST)).collect();
    let left = 40 + names.iter().map(|(name, size)| width(name, *size)).max().unwrap_or(0).max(width("label", 38));
    let count = shown as i32;
    let (right, bottom) = (left + count * CELL, TOP + count * CELL);
    let most_mistaken = confusion.iter().enumerate().flat_map(|(label, row)| {
        row.iter().enumerate().filter(move |(predicted, _)| *predicted != label).map(|(_, &count)| count)
    });
    let most_mistaken = most_mistaken.max().unwrap_or(0).max(1) as f64;

    Ok(svg(((right + RIGHT) as u32, (bottom + 20) as u32), |area| {
        area.fill(&WHITE)?;
        text(area, "Confusion matrix", 52, INK, HPos::Left, (30, 48))?;
        text(area, "predicted", 38, GREY, HPos::Center, ((left + right) / 2, 98))?;
        text(area, "label", 38, GREY, HPos::Left, (14, TOP - 32))?;
        text(area, "recall", 38, GREY, HPos::Right, (right + RIGHT - 14, TOP - 32))?;
        for (label, row) in confusion.iter().enumerate().take(shown) {
            let middle = |k: usize| CELL * k as i32 + CELL / 2;
            let y = TOP + middle(label);
            text(area, &label.to_string(), FONT_SIZE, INK, HPos::Center, (left + middle(label), TOP - 32))?;
            let (name, size) = &names[label];
            text(area, name, *size, INK, HPos::Right, (left - 16, y))?;
            let images: i64 = row.iter().sum();
            for (predicted, &count) in row.iter().enumerate().take(shown) {
                // Right: blue, deeper the more of the row. Wrong: vermilion, by the root, for ones beside tens.
                let (colour, depth) = match label == predicted {
                    true => (COLOURS[0], 0.9 * (count as f64 / images.max(1) as f64).powi(2)),
                    false => (COLOURS[1], 0.75 * (count as f64 / most_mistaken).sqrt()),
                };
                let x = left + CELL * predicted as i32;
                let cell = [(x, y - CELL / 2), (x + CELL, y + CELL / 2)];
                area.draw(&Rectangle::new(cell, blend(colour, depth).filled())).map_err(drawing)?;
                area.draw(&Rectangle::new(cell, GRID.stroke_width(2))).map_err(drawing)?;
                let ink = if label == predicted && depth > 0.55 { WHITE } else { INK };
                if count > 0 {
                    let (count, size) = fitted(&count.to_string(), FONT_SIZE, CELL - 6);
                    text(area, &count, size, ink, HPos::Center, (x + CELL / 2, y))?;
                }
            }
            let share = if images > 0 { format!("{:.1}%", percent(row[label], images)) } else { "-".into() };
            text(area, &share, 38, INK, HPos::Right, (right + RIGHT - 14, y))?;
        }
        Ok(())
    })?)
}

/// `3`, or `3 Dress`
fn row_name(classes: &Classes, class: usize) -> String {
    if classes.are_digits() {
        return class.to_string();
    }
    let name = classes.caption(class);
    if name == class.to_string() { name } else { format!("{class} {name}") }
}

/// `colour` on white paper: 0 is white, 1 the colour itself. Opaque, for viewers that draw seams between
/// transparent cells.
fn blend(colour: RGBColor, depth: f64) -> RGBColor {
    let channel = |c: u8| (255.0 + (f64::from(c) - 255.0) * depth).round() as u8;
    RGBColor(channel(colour.0), channel(colour.1), channel(colour.2))
}
