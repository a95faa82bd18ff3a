//! Grids of digits with captions: the first training images, as they are and augmented, and the images that a net gets
//! worst. A grid is a picture, and a part of a page, where captions break into lines as the page is wide.

use crate::data::{Classes, MEAN, STD, Split};
use crate::evaluate::{Findings, Mistake};
use crate::shape::{PIXELS, SIDE};
use crate::train::augmentations::{self, Transform};
use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use canvas::style::{Area, COLOURS, GREY, INK, drawing, fitted, text, width};
use canvas::svg;
use image::{GrayImage, ImageFormat};
use minijinja::{Value, context};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::io::Cursor;
use tch::{Device, Kind, Tensor};

/// How many training images the first figure of the original shows.
const TRAINING_IMAGES: i64 = 128;

/// How many misclassified images are shown.
const WORST: usize = 20;

const MARGIN: i32 = 30;
const TITLE: i32 = 110;

/// About how wide a picture is, in pixels.
const WIDTH: i32 = 1480;

/// Images with captions.
pub(super) struct Grid {
    title: String,
    /// A sentence below the title; empty if there is none.
    note: String,
    size: Size,
    cells: Vec<Cell>,
}

/// How large the images are drawn.
#[derive(Clone, Copy)]
enum Size {
    Small,
    Large,
}

struct Cell {
    /// The PNG of an image, dark on light, in base64.
    png: String,
    captions: Vec<Caption>,
}

struct Caption {
    text: String,
    tone: Tone,
}

#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Pale,
    Warning,
}

impl Tone {
    /// Its class in the page's style sheet.
    fn class(self) -> &'static str {
        match self {
            Tone::Plain => "plain",
            Tone::Pale => "pale",
            Tone::Warning => "warning",
        }
    }

    fn colour(self) -> RGBColor {
        match self {
            Tone::Plain => INK,
            Tone::Pale => GREY,
            Tone::Warning => COLOURS[1],
        }
    }

    fn caption(self, text: String) -> Caption {
        Caption { text, tone: self }
    }
}

impl Size {
    /// Its class in the page's style sheet.
    fn class(self) -> &'static str {
        match self {
            Size::Small => "small",
            Size::Large => "large",
        }
    }

    /// The side of an image, the size of a caption and the most room that it takes, in pixels. A longer caption is set
    /// smaller, and then cut.
    fn pixels(self) -> (i32, i32, i32) {
        match self {
            Size::Small => (78, 32, 130),
            Size::Large => (236, 38, 300),
        }
    }
}

/// The first images of the training split with their labels, as the original's first figure shows them.
pub(super) fn training_images(split: &Split) -> Result<Grid> {
    let count = TRAINING_IMAGES.min(split.len());
    let images = images(split, &(0..count).collect::<Vec<_>>())?;
    labelled(&format!("The first {count} training images"), split, &images)
}

/// The same images as the net sees them, each distorted anew.
pub(super) fn augmented_images(split: &Split, transforms: &[Box<dyn Transform>]) -> Result<Grid> {
    let count = TRAINING_IMAGES.min(split.len());
    let (images, _) = split.batch(&Tensor::f_arange(count, (Kind::Int64, split.device()))?)?;
    let pixels =
        augmentations::apply(transforms, images)?.f_mul_scalar(f64::from(STD))?.f_add_scalar(f64::from(MEAN))?;
    let bytes = pixels.f_mul_scalar(255.0)?.f_round()?.f_clamp(0, 255)?.f_to_kind(Kind::Uint8)?;
    labelled("The same images as a step might see them", split, &pictures(&bytes)?)
}

/// A grid of the first images of a split, each with its label.
fn labelled(title: &str, split: &Split, images: &[GrayImage]) -> Result<Grid> {
    let labels = Vec::<i64>::try_from(split.labels.f_narrow(0, 0, images.len() as i64)?)?;
    let captions = labels.iter().map(|&label| vec![Tone::Plain.caption(split.classes.caption(label as usize))]);
    Grid::of(title.to_string(), String::new(), Size::Small, images, captions)
}

/// The mistakes that the net is most sure of, with label, prediction, confidence and index; `mistakes` are sorted.
pub(super) fn worst(split: &Split, mistakes: &[Mistake]) -> Result<Grid> {
    let shown = &mistakes[..mistakes.len().min(WORST)];
    let images = images(split, &shown.iter().map(|mistake| mistake.index).collect::<Vec<_>>())?;
    let captions = shown.iter().map(|mistake| {
        let Mistake { index, label, predicted, confidence } = *mistake;
        let mut captions = classified(&split.classes, label, predicted);
        captions.push(Tone::Warning.caption(format!("{:.1} % sure", 100.0 * confidence)));
        captions.push(Tone::Pale.caption(format!("image {}", split.index_in_file(index))));
        captions
    });
    let (count, part) = (split.len(), split.part);
    let title = match mistakes.len() {
        0 => format!("None of {count} {part} images is misclassified"),
        all if all == shown.len() => format!("All {all} misclassified of {count} {part} images"),
        all => format!("The worst {} of {all} misclassified {part} images", shown.len()),
    };
    let note = if shown.is_empty() { String::new() } else { numbered(split) };
    Grid::of(title, note, Size::Large, &images, captions)
}

/// The images with the highest `scores`, squared distances: those that look least like any class to the net. `predict`
/// marks an image that is farther than `threshold`.
pub(super) fn unfamiliar(split: &Split, findings: &Findings, scores: &[f64], threshold: f64) -> Result<Grid> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(WORST);
    let images = images(split, &order.iter().map(|&index| index as i64).collect::<Vec<_>>())?;
    let labels = Vec::<i64>::try_from(&split.labels)?;
    let captions = order.iter().map(|&index| {
        let (label, distance) = (labels[index], scores[index].sqrt());
        let predicted = findings.prediction(index as i64).unwrap_or(label);
        let tone = if distance > threshold { Tone::Warning } else { Tone::Pale };
        let mut captions = classified(&split.classes, label, predicted);
        captions.push(tone.caption(format!("distance {distance:.1}")));
        captions.push(Tone::Pale.caption(format!("image {}", split.index_in_file(index as i64))));
        captions
    });
    let marked = scores.iter().filter(|score| score.sqrt() > threshold).count();
    let title = format!("The {} {} images least like any class", order.len(), split.part);
    let note = format!(
        "predict marks an image whose distance is above {threshold:.1}: {marked} of these {}. {}",
        scores.len(),
        numbered(split)
    );
    Grid::of(title, note, Size::Large, &images, captions)
}

/// What the numbers of images count.
pub(super) fn numbered(split: &Split) -> String {
    format!("Images are numbered as in {}, from 0.", split.part.images_file())
}

/// The label of an image and what the net reads.
fn classified(classes: &Classes, label: i64, predicted: i64) -> Vec<Caption> {
    let [label, predicted] = [label, predicted].map(|class| classes.caption(class as usize));
    let line = |text| Tone::Plain.caption(text);
    match classes.are_digits() {
        true => vec![line(format!("{label}, read as {predicted}"))],
        false => vec![line(label), line(format!("read as {predicted}"))],
    }
}

/// How many images of each class a sheet shows.
pub(crate) const SHEET_COLUMNS: usize = 16;

/// Rows of images, 784 bytes each, one row per class, as SVG.
pub(crate) fn sheet(name: &str, rows: &[Vec<&[u8]>], classes: &Classes) -> Result<String> {
    let (mut images, mut captions) = (Vec::new(), Vec::new());
    for (class, row) in rows.iter().enumerate() {
        for bytes in row {
            images.push(picture(bytes)?);
            captions.push(vec![Tone::Plain.caption(classes.caption(class))]);
        }
    }
    let title = format!("{name}: the first images of each class");
    Grid::of(title, String::new(), Size::Small, &images, captions)?.svg_in_columns(Some(SHEET_COLUMNS as i32))
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

impl Grid {
    fn of(
        title: String,
        note: String,
        size: Size,
        images: &[GrayImage],
        captions: impl IntoIterator<Item = Vec<Caption>>,
    ) -> Result<Grid> {
        let cell = |(image, captions)| Ok(Cell { png: png(image)?, captions });
        let cells = images.iter().zip(captions).map(cell).collect::<Result<_>>()?;
        Ok(Grid { title, note, size, cells })
    }

    /// For the template of a page.
    pub(super) fn for_page(&self) -> Value {
        let caption = |caption: &Caption| context! { text => &caption.text, tone => caption.tone.class() };
        let cell = |cell: &Cell| {
            let captions: Vec<Value> = cell.captions.iter().map(caption).collect();
            context! { png => &cell.png, captions }
        };
        let cells: Vec<Value> = self.cells.iter().map(cell).collect();
        let is_named = self.cells.iter().flat_map(|cell| &cell.captions).any(|caption| caption.text.len() > 2);
        context! { title => &self.title, note => &self.note, size => self.size.class(), is_named, cells }
    }

    /// As a picture.
    pub(super) fn svg(&self) -> Result<String> {
        self.svg_in_columns(None)
    }

    /// As a picture of so many columns; `None`: as many as there is room for.
    fn svg_in_columns(&self, columns: Option<i32>) -> Result<String> {
        let (digit, font, most) = self.size.pixels();
        let captions = || self.cells.iter().flat_map(|cell| &cell.captions);
        let longest = captions().map(|caption| width(&caption.text, font)).max().unwrap_or(0);
        let cell = digit.max(longest.min(most)) + 16;
        let count = self.cells.len() as i32;
        let columns = columns.unwrap_or((WIDTH / cell).clamp(1, count.max(1)));
        let lines = self.cells.iter().map(|cell| cell.captions.len()).max().unwrap_or(0) as i32;
        let row = digit + lines * (font + 5) + 22;
        let top = if self.note.is_empty() { TITLE - 16 } else { TITLE + 36 };
        let size = ((columns * cell).max(1000) + 2 * MARGIN, count.div_euclid(columns) * row + top + MARGIN);
        let size = (size.0, size.1 + if count % columns > 0 { row } else { 0 });
        let at = |k: usize| (MARGIN + k as i32 % columns * cell, top + k as i32 / columns * row);
        let line = |area: &Area, words: &str, font, colour, y| {
            let (words, font) = fitted(words, font, size.0 - 2 * MARGIN);
            text(area, &words, font, colour, HPos::Left, (MARGIN, y))
        };
        let text_only = svg((size.0 as u32, size.1 as u32), |area| {
            area.fill(&WHITE)?;
            line(area, &self.title, 44, INK, 48)?;
            line(area, &self.note, 30, GREY, 104)?;
            for (k, Cell { captions, .. }) in self.cells.iter().enumerate() {
                let (x, y) = at(k);
                let frame = [(x + (cell - digit) / 2 - 2, y - 2), (x + (cell + digit) / 2 + 1, y + digit + 1)];
                area.draw(&Rectangle::new(frame, GREY.mix(0.35).stroke_width(2))).map_err(drawing)?;
                for (line, Caption { text: caption, tone }) in captions.iter().enumerate() {
                    let (caption, size) = fitted(caption, font, cell - 8);
                    let y = y + digit + 6 + font / 2 + line as i32 * (font + 5);
                    text(area, &caption, size, tone.colour(), HPos::Center, (x + cell / 2, y))?;
                }
            }
            Ok(())
        })?;
        let digits: String = self
            .cells
            .iter()
            .enumerate()
            .map(|(k, image)| {
                let (x, y) = at(k);
                embedded(&image.png, x + (cell - digit) / 2, y, digit)
            })
            .collect();
        let end = text_only.rfind("</svg>").context("an SVG has an end")?;
        Ok(format!("{}{digits}{}", &text_only[..end], &text_only[end..]))
    }
}

/// The PNG of an image in base64.
fn png(image: &GrayImage) -> Result<String> {
    let mut png = Vec::new();
    image.write_to(&mut Cursor::new(&mut png), ImageFormat::Png)?;
    Ok(BASE64_STANDARD.encode(png))
}

/// An SVG element that shows a PNG with its pixels as they are.
fn embedded(png: &str, x: i32, y: i32, side: i32) -> String {
    format!(
        "<image x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" style=\"image-rendering:pixelated\" \
         href=\"data:image/png;base64,{png}\"/>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of an SVG with their middle, their size and their y.
    fn texts(svg: &str) -> Vec<(String, i32, i32, i32)> {
        let number = |element: &str, name: &str| {
            let value = element.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap();
            value.parse::<f64>().unwrap().round() as i32
        };
        let text = |element: &str| {
            let words = element.split('>').nth(1).unwrap().trim().to_string();
            // plotters divides sizes by this.
            let size = (1.24 * f64::from(number(element, "font-size"))).round() as i32;
            (words, number(element, "x"), size, number(element, "y"))
        };
        svg.split("<text").skip(1).map(|rest| text(rest.split("</text>").next().unwrap())).collect()
    }

    fn grid(names: &[&str], size: Size) -> String {
        let images = vec![picture(&[0; PIXELS]).unwrap(); 40];
        let caption = |k: usize| {
            let name = names[k % names.len()];
            vec![Tone::Plain.caption(name.to_string()), Tone::Plain.caption(format!("read as {name}"))]
        };
        Grid::of("Images".into(), "A note.".into(), size, &images, (0..40).map(caption)).unwrap().svg().unwrap()
    }

    #[test]
    fn captions_do_not_overlap_however_long_the_classes_are_called() {
        let names =
            [&["7"][..], &["T-shirt/top", "Ankle boot"], &["American black bear (Ursus americanus)", "WOMBAT MWMWMW"]];
        for (names, size) in names.into_iter().flat_map(|names| [(names, Size::Small), (names, Size::Large)]) {
            let captions: Vec<_> = texts(&grid(names, size)).into_iter().skip(2).collect();
            assert_eq!(captions.len(), 80);
            for (one, x, font, y) in &captions {
                let half = width(one, *font) / 2;
                assert!(x - half >= 0, "{one}");
                for (other, at, size, _) in captions.iter().filter(|other| other.3 == *y && other.1 > *x) {
                    assert!(at - width(other, *size) / 2 >= x + half, "{one} at {x} and {other} at {at}");
                }
            }
        }
    }

    #[test]
    fn names_of_classes_are_not_cut_where_they_are_as_long_as_those_of_fashion_mnist() {
        let svg = grid(&["T-shirt/top", "Ankle boot"], Size::Large);
        assert!(svg.contains("read as Ankle boot") && !svg.contains(".."));
    }
}
