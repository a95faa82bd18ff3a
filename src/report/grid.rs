//! Grids of digits with their labels: the first training images, as they are and augmented, and the test images that a
//! net gets worst.

use crate::data::{Classes, MEAN, STD, Split};
use crate::evaluate::Mistake;
use crate::shape::{PIXELS, SIDE};
use crate::train::augmentations::{self, Transform};
use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use canvas::style::{COLOURS, GREY, INK, drawing, text};
use canvas::svg;
use image::{GrayImage, ImageFormat};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::io::Cursor;
use tch::{Device, Kind, Tensor};

/// How many training images the first figure of the original shows.
const TRAINING_IMAGES: i64 = 128;

/// How many misclassified images are shown.
const WORST: usize = 20;

const MARGIN: i32 = 40;
const TITLE: i32 = 130;

/// How a grid is laid out, in pixels.
struct Layout {
    columns: i32,
    /// A cell's width and height.
    cell: (i32, i32),
    /// The side of a digit.
    digit: i32,
    font: i32,
}

/// The first images of the training split with their labels, as the original's first figure shows them.
pub(super) fn training_images(split: &Split) -> Result<String> {
    let count = TRAINING_IMAGES.min(split.len());
    let images = images(split, &(0..count).collect::<Vec<_>>())?;
    labelled(&format!("The first {count} training images"), split, &images)
}

/// The same images as the net sees them, each distorted anew.
pub(super) fn augmented_images(split: &Split, transforms: &[Box<dyn Transform>]) -> Result<String> {
    let count = TRAINING_IMAGES.min(split.len());
    let (images, _) = split.batch(&Tensor::f_arange(count, (Kind::Int64, split.device()))?)?;
    let pixels =
        augmentations::apply(transforms, images)?.f_mul_scalar(f64::from(STD))?.f_add_scalar(f64::from(MEAN))?;
    let bytes = pixels.f_mul_scalar(255.0)?.f_round()?.f_clamp(0, 255)?.f_to_kind(Kind::Uint8)?;
    labelled("The same images as a step might see them", split, &pictures(&bytes)?)
}

/// A grid of the first images of a split, each with its label.
fn labelled(title: &str, split: &Split, images: &[GrayImage]) -> Result<String> {
    let labels = Vec::<i64>::try_from(split.labels.f_narrow(0, 0, images.len() as i64)?)?;
    let captions: Vec<_> = labels.iter().map(|&label| vec![(split.classes.caption(label as usize), INK)]).collect();
    draw(title, images, &captions, &Layout { columns: 16, cell: (100, 140), digit: 84, font: 38 })
}

/// The mistakes that the net is most sure of, with label, prediction and confidence; `mistakes` are sorted.
pub(super) fn worst(split: &Split, mistakes: &[Mistake]) -> Result<String> {
    let shown = &mistakes[..mistakes.len().min(WORST)];
    let images = images(split, &shown.iter().map(|mistake| mistake.index).collect::<Vec<_>>())?;
    let caption = |mistake: &Mistake| {
        let Mistake { label, predicted, confidence, .. } = mistake;
        let [label, predicted] = [label, predicted].map(|&class| split.classes.caption(class as usize));
        vec![(format!("{label}, read as {predicted}"), INK), (format!("{:.1} % sure", 100.0 * confidence), COLOURS[1])]
    };
    let captions: Vec<_> = shown.iter().map(caption).collect();
    let (count, part) = (split.len(), split.part);
    let title = match mistakes.len() {
        0 => format!("None of {count} {part} images is misclassified"),
        all if all == shown.len() => format!("All {all} misclassified of {count} {part} images"),
        all => format!("The worst {} of {all} misclassified {part} images", shown.len()),
    };
    draw(&title, &images, &captions, &Layout { columns: 5, cell: (300, 376), digit: 252, font: 46 })
}

/// The images with the highest `scores`: those that look least like any class to the net.
pub(super) fn unfamiliar(split: &Split, scores: &[f64]) -> Result<String> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(WORST);
    let images = images(split, &order.iter().map(|&index| index as i64).collect::<Vec<_>>())?;
    let labels = Vec::<i64>::try_from(&split.labels)?;
    let caption = |&index: &usize| {
        let label = split.classes.caption(labels[index] as usize);
        vec![(label, INK), (format!("distance {:.0}", scores[index].sqrt()), COLOURS[1])]
    };
    let captions: Vec<_> = order.iter().map(caption).collect();
    let title = format!("The {} {} images least like any class", order.len(), split.part);
    draw(&title, &images, &captions, &Layout { columns: 10, cell: (200, 260), digit: 160, font: 34 })
}

/// How many images of each class a sheet shows.
pub(crate) const SHEET_COLUMNS: usize = 16;

/// Rows of images, 784 bytes each, one row per class.
pub(crate) fn sheet(name: &str, rows: &[Vec<&[u8]>], classes: &Classes) -> Result<String> {
    let (mut images, mut captions) = (Vec::new(), Vec::new());
    for (class, row) in rows.iter().enumerate() {
        for bytes in row {
            images.push(picture(bytes)?);
            captions.push(vec![(classes.caption(class), INK)]);
        }
    }
    let columns = SHEET_COLUMNS as i32;
    draw(
        &format!("{name}: the first images of each class"),
        &images,
        &captions,
        &Layout { columns, cell: (100, 140), digit: 84, font: 24 },
    )
}

/// The images at `indices` of a split.
fn images(split: &Split, indices: &[i64]) -> Result<Vec<GrayImage>> {
    let indices = Tensor::from_slice(indices).to_device(split.device());
    pictures(&split.images.f_index_select(0, &indices)?)
}

/// Images of bytes [N, 1, 28, 28], dark on light as ink is on paper.
fn pictures(bytes: &Tensor) -> Result<Vec<GrayImage>> {
    let bytes = Vec::<u8>::try_from(bytes.f_to_device(Device::Cpu)?.f_view([-1])?)?;
    bytes.chunks(PIXELS).map(picture).collect()
}

/// 784 bytes, dark on light.
fn picture(bytes: &[u8]) -> Result<GrayImage> {
    let inverted = bytes.iter().map(|byte| 255 - byte).collect();
    GrayImage::from_raw(SIDE as u32, SIDE as u32, inverted).context("28x28 pixels make an image")
}

fn draw(title: &str, images: &[GrayImage], captions: &[Vec<(String, RGBColor)>], layout: &Layout) -> Result<String> {
    let Layout { columns, cell, digit, font } = *layout;
    let rows = (images.len() as i32 + columns - 1) / columns;
    let (width, height) = (columns * cell.0, rows * cell.1);
    let size = ((width + 2 * MARGIN) as u32, (height + TITLE + MARGIN) as u32);
    let at = |k: usize| (MARGIN + k as i32 % columns * cell.0, TITLE + k as i32 / columns * cell.1);
    let text_only = svg(size, |area| {
        area.fill(&WHITE)?;
        text(area, title, 56, INK, HPos::Left, (MARGIN, 62))?;
        for (k, lines) in captions.iter().enumerate() {
            let (x, y) = at(k);
            let frame = [(x + (cell.0 - digit) / 2 - 2, y - 2), (x + (cell.0 + digit) / 2 + 1, y + digit + 1)];
            area.draw(&Rectangle::new(frame, GREY.mix(0.35).stroke_width(2))).map_err(drawing)?;
            for (line, (caption, colour)) in lines.iter().enumerate() {
                let y = y + digit + font * 3 / 5 + line as i32 * (font + 6);
                text(area, caption, font, *colour, HPos::Center, (x + cell.0 / 2, y))?;
            }
        }
        Ok(())
    })?;
    let digits = images.iter().enumerate().map(|(k, image)| {
        let (x, y) = at(k);
        embedded(image, x + (cell.0 - digit) / 2, y, digit)
    });
    let digits = digits.collect::<Result<String>>()?;
    let end = text_only.rfind("</svg>").context("an SVG has an end")?;
    Ok(format!("{}{digits}{}", &text_only[..end], &text_only[end..]))
}

/// An SVG element that shows `image` with its pixels as they are.
fn embedded(image: &GrayImage, x: i32, y: i32, side: i32) -> Result<String> {
    let mut png = Vec::new();
    image.write_to(&mut Cursor::new(&mut png), ImageFormat::Png)?;
    let data = BASE64_STANDARD.encode(png);
    Ok(format!(
        "<image x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" style=\"image-rendering:pixelated\" \
         href=\"data:image/png;base64,{data}\"/>\n"
    ))
}
