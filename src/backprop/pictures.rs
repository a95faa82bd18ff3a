//! Two pictures for a slide, as SVG: E_total over the steps for every learning rate, and the network with its numbers.

use super::number::number;
use super::{Row, Run};
use crate::report::picture::{FONT, svg};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const INK: RGBColor = RGBColor(33, 37, 41);
const GREY: RGBColor = RGBColor(134, 142, 150);
const GRID: RGBColor = RGBColor(233, 236, 239);
/// A dark blue, an orange and a dark green that stay apart for colour-blind readers (Okabe and Ito, 2008).
const LAYERS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 130, 96)];

/// E_total over the steps, one curve a learning rate.
///
/// # Errors
///
/// When plotters cannot draw it.
pub fn e_total(runs: &[Run]) -> Result<String> {
    let highest = runs.iter().flat_map(|run| &run.rows).map(|row| row.e_total).fold(0.0, f64::max);
    let last_step = runs.iter().map(|run| run.rows.len() - 1).max().unwrap_or(0).max(1);
    // Some room above the highest curve, and a scale even when every error is 0.
    let top = if highest > 0.0 { highest * 1.06 } else { 1.0 };

    svg((1200, 675), |area| {
        area.fill(&WHITE)?;
        let title = TextStyle::from((FONT, 36)).color(&INK);
        let area = area.titled("E_total over the steps of gradient descent", title)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(20)
            .margin_right(40)
            .x_label_area_size(64)
            .y_label_area_size(100)
            .build_cartesian_2d(0..last_step, 0.0..top)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GREY)
            .x_desc("step")
            .y_desc("E_total")
            .y_label_formatter(&|value| number(*value))
            .axis_desc_style(TextStyle::from((FONT, 28)).color(&INK))
            .label_style(TextStyle::from((FONT, 24)).color(&INK))
            .draw()
            .map_err(drawing)?;
        for (k, run) in runs.iter().enumerate() {
            let style = colour(k, runs.len()).stroke_width(4);
            let points = run.rows.iter().map(|row| (row.step, row.e_total));
            chart
                .draw_series(LineSeries::new(points, style))
                .map_err(drawing)?
                .label(format!("lr {}", number(run.lr)))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 40, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(20)
            .legend_area_size(52)
            .label_font(TextStyle::from((FONT, 26)).color(&INK))
            .background_style(WHITE.mix(0.9))
            .border_style(GRID)
            .draw()
            .map_err(drawing)?;
        Ok(())
    })
}

/// The colour of curve `k` of `n`: viridis from its dark end to its green, an order that survives colour blindness
/// and a black-and-white printer. Its yellow is left out as too pale for white paper.
fn colour(k: usize, n: usize) -> RGBColor {
    ViridisRGB.get_color(0.85 * k as f64 / (n.max(2) - 1) as f64)
}

/// The network at `row`, with the value of every weight, neuron, target and error.
///
/// # Errors
///
/// When plotters cannot draw it.
pub fn network(row: &Row) -> Result<String> {
    const COLUMNS: [i32; 4] = [130, 490, 850, 1090];
    const LINES: [i32; 2] = [215, 495];
    svg((1200, 675), |area| {
        area.fill(&WHITE)?;
        let text = |text: String, size: i32, colour: RGBColor, at: (i32, i32)| {
            let style = TextStyle::from((FONT, size)).color(&colour).pos(Pos::new(HPos::Center, VPos::Center));
            area.draw(&Text::new(text, at, style)).map_err(drawing)
        };
        text(format!("The 2-2-2 network at step {}", row.step), 36, INK, (600, 45))?;
        text(format!("E_total = E1 + E2 = {}", number(row.e_total)), 28, INK, (600, 630))?;
        for (column, name) in ["inputs", "hidden", "outputs", "errors"].into_iter().enumerate() {
            text(name.into(), 26, GREY, (COLUMNS[column], 110))?;
        }

        let weights = row.weights();
        for layer in 0..2 {
            for (k, (from, to)) in [(0, 0), (1, 0), (0, 1), (1, 1)].into_iter().enumerate() {
                let (start, end) = ((COLUMNS[layer], LINES[from]), (COLUMNS[layer + 1], LINES[to]));
                let line = PathElement::new([start, end], LAYERS[layer + 1].stroke_width(3));
                area.draw(&line).map_err(drawing)?;
                // Straight lines carry their label in the middle, crossing lines near their start, off the crossing.
                let along = if from == to { 0.5 } else { 0.33 };
                let between = |a: i32, b: i32| a + (f64::from(b - a) * along) as i32;
                let (x, y) = (between(start.0, end.0), between(start.1, end.1));
                let label = format!("w{} = {}", layer * 4 + k + 1, number(weights[layer * 4 + k]));
                let half = 7 * label.len() as i32;
                area.draw(&Rectangle::new([(x - half, y - 18), (x + half, y + 18)], WHITE.filled()))
                    .map_err(drawing)?;
                text(label, 25, INK, (x, y))?;
            }
        }

        let neurons = [
            (0, 0, vec![("i1", row.i1)]),
            (0, 1, vec![("i2", row.i2)]),
            (1, 0, vec![("h1", row.h1), ("a_h1", row.a_h1)]),
            (1, 1, vec![("h2", row.h2), ("a_h2", row.a_h2)]),
            (2, 0, vec![("o1", row.o1), ("a_o1", row.a_o1)]),
            (2, 1, vec![("o2", row.o2), ("a_o2", row.a_o2)]),
            (3, 0, vec![("t1", row.t1), ("E1", row.e1)]),
            (3, 1, vec![("t2", row.t2), ("E2", row.e2)]),
        ];
        for (column, line, values) in neurons {
            let (x, y) = (COLUMNS[column], LINES[line]);
            if column < 3 {
                area.draw(&Circle::new((x, y), 86, WHITE.filled())).map_err(drawing)?;
                area.draw(&Circle::new((x, y), 86, LAYERS[column].mix(0.12).filled())).map_err(drawing)?;
                area.draw(&Circle::new((x, y), 86, LAYERS[column].stroke_width(4))).map_err(drawing)?;
            } else {
                let line = PathElement::new([(COLUMNS[2] + 86, y), (x - 92, y)], GREY.stroke_width(3));
                area.draw(&line).map_err(drawing)?;
                area.draw(&Rectangle::new([(x - 92, y - 50), (x + 92, y + 50)], GREY.stroke_width(3)))
                    .map_err(drawing)?;
            }
            let first = y - 17 * (values.len() as i32 - 1);
            for (k, (name, value)) in values.into_iter().enumerate() {
                text(format!("{name} = {}", number(value)), 25, INK, (x, first + 34 * k as i32))?;
            }
        }
        Ok(())
    })
}

/// plotters' error borrows the picture; its text does not.
fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the picture cannot be drawn: {error}")
}
