//! Tells frames from digits: boxes of forms, borders of cells, black edges of a scan, bars of a screenshot.

use super::Bounds;
use super::mask::{Mask, Piece};

/// A piece that lies along this share of a side of the picture is its edge, not a digit that reaches out of it.
const ALONG_SIDE: f32 = 0.5;

/// A piece that lies along an edge for this share of its own length, and is not deeper than this share of the picture,
/// is the rest of a border that was cut off.
const ALONG_ITSELF: f32 = 0.6;
const SHALLOW: f32 = 0.08;

/// A bar from edge to edge is so many times as long as a digit is high. If it were longer, the digit beside it would be
/// a speck.
const LONGER_THAN_DIGIT: f32 = 1.4;
const LONGEST_TO_DIGIT: f32 = 3.0;

/// Edges are dropped if there is a piece clear of them that has at least this share of the picture's height: a digit.
const LEAST_DIGIT: f32 = 0.06;

/// A digit has at least this share of the height of the frame around it.
const DIGIT_IN_FRAME: f32 = 0.2;

/// The sides of a box lie within this share of its size, and cover this share of its length.
const SIDE_DEPTH: f32 = 0.1;
const SIDE_COVERED: f32 = 0.7;

/// So many of a box's four sides are there; a cut may have taken the others.
const SIDES: usize = 2;

/// The pieces that are not boxes, clear of the picture's edges, with a digit in them.
pub(super) fn without_boxes(pieces: Vec<Piece>, mask: &Mask) -> Vec<Piece> {
    let is_box: Vec<bool> =
        pieces.iter().map(|piece| clear(piece, mask) && is_box(piece, &pieces, mask.width)).collect();
    pieces.into_iter().zip(is_box).filter(|(_, is_box)| !is_box).map(|(piece, _)| piece).collect()
}

/// The pieces that are not frames. A picture whose only ink looks like a frame keeps it: it may be a digit cut tightly.
pub(super) fn without_frames(pieces: Vec<Piece>, mask: &Mask) -> Vec<Piece> {
    let tallest_clear =
        pieces.iter().filter(|piece| clear(piece, mask)).map(|piece| piece.bounds.height).max().unwrap_or(0);
    let frame = |piece: &Piece| {
        is_box(piece, &pieces, mask.width)
            || tallest_clear as f32 >= LEAST_DIGIT * mask.height as f32
                && (is_edge(piece, mask, tallest_clear) || is_bar(piece, mask, tallest_clear))
    };
    let left: Vec<Piece> = pieces.iter().filter(|piece| !frame(piece)).cloned().collect();
    if left.is_empty() { pieces } else { left }
}

/// Whether a piece touches the picture's left, right, top and bottom edge.
fn sides_touched(piece: &Piece, mask: &Mask) -> [bool; 4] {
    let Bounds { x, y, width, height } = piece.bounds;
    [x == 0, (x + width) as usize == mask.width, y == 0, (y + height) as usize == mask.height]
}

/// Whether a piece touches none of the picture's edges.
fn clear(piece: &Piece, mask: &Mask) -> bool {
    sides_touched(piece, mask) == [false; 4]
}

/// Whether a piece lies along an edge of the picture.
fn is_edge(piece: &Piece, mask: &Mask, digit: u32) -> bool {
    let count = |on: &dyn Fn(usize, usize) -> bool| {
        piece.pixels.iter().filter(|&&k| on(k % mask.width, k / mask.width)).count() as f32
    };
    let Bounds { width, height, .. } = piece.bounds;
    let upright = [count(&|x, _| x == 0), count(&|x, _| x + 1 == mask.width)];
    let level = [count(&|_, y| y == 0), count(&|_, y| y + 1 == mask.height)];
    let longer = width.max(height) as f32 >= LONGER_THAN_DIGIT * digit as f32;
    let lies = |contact: f32, side: usize, length: u32, depth: u32, across: usize| {
        let long = contact >= ALONG_SIDE * side as f32 && longer;
        let remains = contact >= ALONG_ITSELF * length as f32 && depth as f32 <= SHALLOW * across as f32;
        long || contact > 0.0 && remains
    };
    upright.iter().any(|contact| lies(*contact, mask.height, height, width, mask.width))
        || level.iter().any(|contact| lies(*contact, mask.width, width, height, mask.height))
}

/// Whether a piece reaches from one edge of the picture to another and is longer than digits are high.
fn is_bar(piece: &Piece, mask: &Mask, digit: u32) -> bool {
    let edges = sides_touched(piece, mask).iter().filter(|touched| **touched).count();
    let longest = piece.bounds.width.max(piece.bounds.height) as f32;
    edges >= 2 && (LONGER_THAN_DIGIT..LONGEST_TO_DIGIT).contains(&(longest / digit as f32))
}

/// Whether a piece is a box with a digit in it.
fn is_box(piece: &Piece, pieces: &[Piece], picture_width: usize) -> bool {
    let outer = piece.bounds;
    let holds = |inner: &Piece| {
        let inner = inner.bounds;
        let within = |low: u32, size: u32, outer_low: u32, outer_size: u32| {
            low > outer_low && low + size < outer_low + outer_size
        };
        within(inner.x, inner.width, outer.x, outer.width)
            && within(inner.y, inner.height, outer.y, outer.height)
            && inner.height as f32 >= DIGIT_IN_FRAME * outer.height as f32
    };
    pieces.iter().any(holds) && sides_covered(piece, picture_width) >= SIDES
}

/// How many sides of its rectangle a piece covers.
fn sides_covered(piece: &Piece, picture_width: usize) -> usize {
    let Bounds { x, y, width, height } = piece.bounds;
    let depth = |size: u32| ((SIDE_DEPTH * size as f32) as usize).max(1);
    let (deep, high) = (depth(width), depth(height));
    let (width, height) = (width as usize, height as usize);
    let mut rows = [vec![false; height], vec![false; height]];
    let mut columns = [vec![false; width], vec![false; width]];
    for &k in &piece.pixels {
        let (x, y) = (k % picture_width - x as usize, k / picture_width - y as usize);
        rows[0][y] |= x < deep;
        rows[1][y] |= x + deep >= width;
        columns[0][x] |= y < high;
        columns[1][x] |= y + high >= height;
    }
    let covered =
        |side: &&Vec<bool>| side.iter().filter(|there| **there).count() as f32 >= SIDE_COVERED * side.len() as f32;
    rows.iter().chain(&columns).filter(covered).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 200;

    /// How many pieces of a square picture are left.
    fn left(ink: impl Fn(usize, usize) -> bool) -> Vec<Bounds> {
        let mask = Mask { width: SIDE, height: SIDE, ink: (0..SIDE * SIDE).map(|k| ink(k % SIDE, k / SIDE)).collect() };
        without_frames(mask.pieces(), &mask).iter().map(|piece| piece.bounds).collect()
    }

    fn digit(x: usize, y: usize) -> bool {
        (90..105).contains(&x) && (50..150).contains(&y)
    }

    const DIGIT: Bounds = Bounds { x: 90, y: 50, width: 15, height: 100 };

    #[test]
    fn boxes_borders_and_bars_go_and_the_digit_stays() {
        let from_edge = |x: usize, y: usize| x.min(y).min(SIDE - 1 - x).min(SIDE - 1 - y);
        assert_eq!(left(|x, y| digit(x, y) || (10..14).contains(&from_edge(x, y))), [DIGIT], "a box");
        assert_eq!(left(|x, y| digit(x, y) || from_edge(x, y) < 12), [DIGIT], "a black edge all around");
        assert_eq!(left(|x, y| digit(x, y) || x < 9 || y < 4), [DIGIT], "the border of a cell, cut off on two sides");
        assert_eq!(left(|x, y| digit(x, y) || (180..190).contains(&y)), [DIGIT], "a bar from edge to edge");
    }

    #[test]
    fn a_digit_cut_tightly_is_not_a_frame() {
        assert_eq!(left(|x, _| (80..120).contains(&x)).len(), 1);
        // A 1 and an 8 that fill the height of the picture, and a shorter digit between them.
        let row = |x: usize, y: usize| !(20..150).contains(&x) || (60..100).contains(&x) && (20..180).contains(&y);
        assert_eq!(left(row).len(), 3);
    }
}
