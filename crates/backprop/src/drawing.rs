//! The network drawn in text, at most 100 columns wide.

use super::Row;
use super::number::fitting;

/// Where the boxes of the three layers begin, and how wide they are, in columns.
const BOXES: [(usize, usize); 3] = [(1, 14), (35, 19), (74, 21)];
/// The rows of the upper and the lower line between two layers; the crossing lines run between them.
const UPPER: usize = 2;
const LOWER: usize = 12;
const ROWS: usize = 15;

/// The network at `row` as lines of text, with the value of every weight and neuron.
pub(crate) fn network(row: &Row) -> Vec<String> {
    let mut canvas = Canvas(vec![vec![' '; 100]; ROWS]);
    let weights = row.weights();
    for (layer, gap) in BOXES.windows(2).enumerate() {
        let (left, right) = (gap[0].0 + gap[0].1, gap[1].0);
        canvas.edges(left, right, layer * 4, &weights[layer * 4..layer * 4 + 4]);
    }
    let value = |name: &str, x: f64| format!("{name:<4} {}", fitting(x, 11));
    for (line, name, x) in [(UPPER, "i1", row.i1), (LOWER, "i2", row.i2)] {
        canvas.boxed(BOXES[0], line, &[format!("{name} {}", fitting(x, 8))]);
    }
    for (line, names, x, a) in [(UPPER, ["h1", "a_h1"], row.h1, row.a_h1), (LOWER, ["h2", "a_h2"], row.h2, row.a_h2)] {
        canvas.boxed(BOXES[1], line, &[value(names[0], x), value(names[1], a)]);
    }
    for (line, names, values) in [
        (UPPER, ["o1", "a_o1", "t1"], [row.o1, row.a_o1, row.t1]),
        (LOWER, ["o2", "a_o2", "t2"], [row.o2, row.a_o2, row.t2]),
    ] {
        canvas.boxed(BOXES[2], line, &[0, 1, 2].map(|k| value(names[k], values[k])));
    }
    canvas.0.iter().map(|line| line.iter().collect::<String>().trim_end().to_string()).collect()
}

struct Canvas(Vec<Vec<char>>);

impl Canvas {
    /// Writes `text` from (`line`, `column`) on, as far as it fits.
    fn put(&mut self, line: usize, column: usize, text: &str) {
        for (offset, character) in text.chars().enumerate() {
            if let Some(cell) = self.0.get_mut(line).and_then(|line| line.get_mut(column + offset)) {
                *cell = character;
            }
        }
    }

    /// A box whose text is centred on `line`, where the lines between the layers end.
    fn boxed(&mut self, (column, width): (usize, usize), line: usize, text: &[String]) {
        let top = line - text.len() / 2 - 1;
        let rule = "─".repeat(width - 2);
        self.put(top, column, &format!("┌{rule}┐"));
        for (k, text) in text.iter().enumerate() {
            self.put(top + 1 + k, column, &format!("│ {text:<0$}│", width - 3));
        }
        self.put(top + 1 + text.len(), column, &format!("└{rule}┘"));
    }

    /// The four lines between two layers, each with its weight written on it. `weights` are those from the upper left
    /// to the upper right neuron, lower left to upper right, upper left to lower right, lower left to lower right.
    fn edges(&mut self, left: usize, right: usize, first: usize, weights: &[f64]) {
        let label = |k: usize| format!(" w{} {} ", first + k + 1, fitting(weights[k], 9));
        let straight = "─".repeat(right - left - 3) + "▶";
        for (line, k) in [(UPPER, 0), (LOWER, 3)] {
            self.put(line, left + 1, &straight);
            self.put(line, left + 4, &label(k));
        }
        // The crossing lines drop one row in two columns, and meet in the middle of an odd number of rows.
        let rows = LOWER - UPPER - 1;
        let start = left + (right - left - 2 * rows) / 2;
        for k in 0..rows {
            self.put(UPPER + 1 + k, start + 2 * k, "╲");
            self.put(LOWER - 1 - k, start + 2 * k, "╱");
        }
        self.put((UPPER + LOWER) / 2, start + rows - 1, "╳");
        for (line, k) in [(UPPER + 3, 2), (LOWER - 3, 1)] {
            let label = label(k);
            let column = (start + 4).saturating_sub(label.chars().count() / 2);
            self.put(line, column, &label);
        }
    }
}
