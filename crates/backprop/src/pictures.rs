//! Two pictures for a slide, as SVG: E_total over the steps for every learning rate, and the network with its numbers.

use super::number::number;
use super::{Row, Run};
use canvas::style::{Area, GRID, INK, text};
use canvas::{Error, FONT, svg};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Both pictures, in pixels: 16 to 9, as slides are.
const SIZE: (u32, u32) = (2400, 1350);

const GREY: RGBColor = RGBColor(134, 142, 150);
/// A blue, a vermilion and a green that stay apart for colour-blind readers (Okabe and Ito, 2008).
const LAYERS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 130, 96)];

/// E_total over the steps, one curve per learning rate.
pub fn e_total(runs: &[Run]) -> Result<String, Error> {
    const LEGEND: i32 = 330;
    let highest = runs.iter().flat_map(|run| &run.rows).map(|row| row.e_total).fold(0.0, f64::max);
    let last_step = runs.iter().map(|run| run.rows.len() - 1).max().unwrap_or(0).max(1);
    // Some room above the highest curve, and a scale even when every error is 0.
    let top = if highest > 0.0 { highest * 1.06 } else { 1.0 };

    svg(SIZE, |area| {
        area.fill(&WHITE)?;
        text(area, "E_total over the steps of gradient descent", 72, INK, HPos::Center, (1200, 80))?;
        let (curves, legend) = area.margin(150, 30, 30, 30).split_horizontally(SIZE.0 as i32 - 60 - LEGEND);
        let mut chart = ChartBuilder::on(&curves)
            .margin(20)
            .x_label_area_size(130)
            .y_label_area_size(200)
            .build_cartesian_2d(0..last_step, 0.0..top)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(2))
            .light_line_style(TRANSPARENT)
            .axis_style(GREY.stroke_width(2))
            .x_desc("step")
            .y_desc("E_total")
            .x_label_formatter(&|step| step.to_string())
            .y_label_formatter(&|value| number(*value))
            .axis_desc_style(TextStyle::from((FONT, 56)).color(&INK))
            .label_style(TextStyle::from((FONT, 48)).color(&INK))
            .set_all_tick_mark_size(12)
            .draw()?;
        for (k, run) in runs.iter().enumerate() {
            // Not more points than the picture is wide; dots if there are too few steps for a curve.
            let stride = run.rows.len().div_ceil(2000);
            let points = run.rows.iter().step_by(stride).chain([run.last()]).map(|row| (row.step, row.e_total));
            let dots = if run.rows.len() <= 20 { 10 } else { 0 };
            let line = LineSeries::new(points, colour(k, runs.len()).filled().stroke_width(8)).point_size(dots);
            chart.draw_series(line)?;
        }

        // Beside the curves, so that it covers none; closer together when there are many.
        let spacing = (1000 / runs.len() as i32).min(80);
        text(&legend, "learning rate", 48, GREY, HPos::Left, (20, 40))?;
        for (k, run) in runs.iter().enumerate() {
            let y = 120 + spacing * k as i32;
            let line = PathElement::new([(20, y), (100, y)], colour(k, runs.len()).stroke_width(8));
            legend.draw(&line)?;
            text(&legend, &number(run.lr), spacing.min(52), INK, HPos::Left, (125, y))?;
        }
        Ok(())
    })
}

/// The colour of curve `k` of `n`: viridis from its dark end to its green, an order that survives colour blindness
/// and a black-and-white printer. Its yellow is left out as too pale for white paper.
fn colour(k: usize, n: usize) -> RGBColor {
    ViridisRGB.get_color(0.85 * k as f64 / (n.max(2) - 1) as f64)
}

/// The centres of inputs, hidden neurons, outputs and errors from left to right, and of the upper and the lower row.
const COLUMNS: [i32; 4] = [240, 950, 1660, 2170];
const ROWS: [i32; 2] = [430, 990];
/// Half the width of a neuron, and of an error's box.
const RADIUS: i32 = 184;
const BOX: (i32, i32) = (190, 100);

/// The network at `row`, with the value of every weight, neuron, target and error.
pub fn network(row: &Row) -> Result<String, Error> {
    svg(SIZE, |area| {
        area.fill(&WHITE)?;
        text(area, &format!("The 2-2-2 network at step {}", row.step), 72, INK, HPos::Center, (1200, 80))?;
        for (column, name) in ["inputs", "hidden", "outputs", "errors"].into_iter().enumerate() {
            text(area, name, 52, GREY, HPos::Center, (COLUMNS[column], 205))?;
        }
        weights(area, &row.weights())?;
        for (column, values) in [
            [vec![("i1", row.i1)], vec![("i2", row.i2)]],
            [vec![("h1", row.h1), ("a_h1", row.a_h1)], vec![("h2", row.h2), ("a_h2", row.a_h2)]],
            [vec![("o1", row.o1), ("a_o1", row.a_o1)], vec![("o2", row.o2), ("a_o2", row.a_o2)]],
            [vec![("t1", row.t1), ("E1", row.e1)], vec![("t2", row.t2), ("E2", row.e2)]],
        ]
        .into_iter()
        .enumerate()
        {
            for (y, values) in ROWS.into_iter().zip(values) {
                outline(area, column, y)?;
                let first = y - 34 * (values.len() as i32 - 1);
                for (k, (name, value)) in values.into_iter().enumerate() {
                    let at = (COLUMNS[column], first + 68 * k as i32);
                    text(area, &format!("{name} = {}", number(value)), 50, INK, HPos::Center, at)?;
                }
            }
        }
        text(area, &format!("E_total = E1 + E2 = {}", number(row.e_total)), 56, INK, HPos::Center, (1200, 1275))
    })
}

/// The eight lines between the layers, each with its weight written on it.
fn weights(area: &Area, weights: &[f64; 8]) -> Result<(), Error> {
    // w1 and w5 stay in the upper row, w2 and w6 rise, w3 and w7 fall, w4 and w8 stay in the lower row.
    const ENDS: [(usize, usize); 4] = [(0, 0), (1, 0), (0, 1), (1, 1)];
    for (k, weight) in weights.iter().enumerate() {
        let (layer, (from, to)) = (k / 4, ENDS[k % 4]);
        let (start, end) = ((COLUMNS[layer], ROWS[from]), (COLUMNS[layer + 1], ROWS[to]));
        let line = PathElement::new([start, end], LAYERS[layer + 1].stroke_width(6));
        area.draw(&line)?;
        // Straight lines carry their weight in the middle, crossing lines before they cross.
        let along = if from == to { 0.5 } else { 0.36 };
        let between = |a: i32, b: i32| a + (f64::from(b - a) * along) as i32;
        let (x, y) = (between(start.0, end.0), between(start.1, end.1));
        let label = format!("w{} = {}", k + 1, number(*weight));
        let half = 11 * label.len() as i32 + 4;
        area.draw(&Rectangle::new([(x - half, y - 34), (x + half, y + 34)], WHITE.filled()))?;
        text(area, &label, 50, INK, HPos::Center, (x, y))?;
    }
    Ok(())
}

/// The circle of a neuron, or the box of an error and the line that leads to it.
fn outline(area: &Area, column: usize, y: i32) -> Result<(), Error> {
    let x = COLUMNS[column];
    if column < 3 {
        for style in [WHITE.filled(), LAYERS[column].mix(0.12).filled(), LAYERS[column].stroke_width(8)] {
            area.draw(&Circle::new((x, y), RADIUS, style))?;
        }
        return Ok(());
    }
    let corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)].map(|(h, v)| (x + h * BOX.0, y + v * BOX.1));
    area.draw(&PathElement::new(corners, GREY.stroke_width(6)))?;
    let line = PathElement::new([(COLUMNS[2] + RADIUS + 4, y), (x - BOX.0, y)], GREY.stroke_width(6));
    Ok(area.draw(&line)?)
}
