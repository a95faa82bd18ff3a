//! Which pixels are ink, and the connected pieces of them.

use super::Bounds;

/// One truth value for each pixel, row by row.
#[derive(Clone)]
pub(super) struct Mask {
    pub width: usize,
    pub height: usize,
    pub ink: Vec<bool>,
}

/// Pixels of ink that touch each other, at sides or corners.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Their indices in the picture's rows.
    pub pixels: Vec<usize>,
    /// The smallest rectangle around them.
    pub bounds: Bounds,
}

impl Mask {
    /// A mask of the same size with these pieces alone.
    pub(super) fn with(&self, pieces: &[Piece]) -> Mask {
        let mut ink = vec![false; self.ink.len()];
        pieces.iter().flat_map(|piece| &piece.pixels).for_each(|&k| ink[k] = true);
        Mask { ink, ..*self }
    }

    pub(super) fn transposed(&self) -> Mask {
        let ink = (0..self.ink.len()).map(|k| self.ink[k % self.height * self.width + k / self.height]).collect();
        Mask { width: self.height, height: self.width, ink }
    }

    /// The connected pieces of ink, from top to bottom by their first pixel.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        let mut left = self.ink.clone();
        let mut pieces = Vec::new();
        for start in 0..left.len() {
            if !std::mem::take(&mut left[start]) {
                continue;
            }
            let (mut pixels, mut next) = (vec![start], 0);
            while next < pixels.len() {
                for neighbour in neighbours(pixels[next], self.width, self.height) {
                    if std::mem::take(&mut left[neighbour]) {
                        pixels.push(neighbour);
                    }
                }
                next += 1;
            }
            pieces.push(Piece::new(pixels, self.width));
        }
        pieces
    }
}

impl Piece {
    pub(super) fn new(pixels: Vec<usize>, width: usize) -> Piece {
        let bounds = |at: &dyn Fn(usize) -> usize| {
            pixels.iter().fold((usize::MAX, 0), |(low, high), &k| (low.min(at(k)), high.max(at(k))))
        };
        let ((left, right), (top, bottom)) = (bounds(&|k| k % width), bounds(&|k| k / width));
        let size = |low: usize, high: usize| (high + 1 - low) as u32;
        let bounds = Bounds { x: left as u32, y: top as u32, width: size(left, right), height: size(top, bottom) };
        Piece { pixels, bounds }
    }

    /// About the width of its strokes, in a picture of this width: a long stroke has two pixels of edge to each of its
    /// length.
    pub(super) fn pen(&self, width: usize) -> f32 {
        let Bounds { x, y, width: columns, height: rows } = self.bounds;
        let (columns, rows) = (columns as usize, rows as usize);
        let mut ink = vec![false; columns * rows];
        let place = |k: usize| (k / width - y as usize) * columns + k % width - x as usize;
        self.pixels.iter().for_each(|&k| ink[place(k)] = true);
        let is_inner = |k: usize| {
            let (x, y) = (k % columns, k / columns);
            let within = x > 0 && y > 0 && x + 1 < columns && y + 1 < rows;
            within && [k - 1, k + 1, k - columns, k + columns].iter().all(|&other| ink[other])
        };
        let edge = self.pixels.iter().filter(|&&k| !is_inner(place(k))).count();
        2.0 * self.pixels.len() as f32 / edge as f32
    }
}

/// The up to eight pixels around pixel `k`.
pub(super) fn neighbours(k: usize, width: usize, height: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (k % width, k / width);
    let (xs, ys) = (x.saturating_sub(1)..=(x + 1).min(width - 1), y.saturating_sub(1)..=(y + 1).min(height - 1));
    ys.flat_map(move |y| xs.clone().map(move |x| y * width + x)).filter(move |&other| other != k)
}
