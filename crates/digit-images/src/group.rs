//! Puts pieces of ink together to digits, and digits in the order in which they are read.

use super::Bounds;
use super::mask::Piece;

/// More pieces than this, the largest, are not compared: a picture with more shows texture, not digits.
const MOST_PIECES: usize = 200;

/// All lengths are shares of the height of the tallest piece.
///
/// Pieces one above the other belong together if they are this near: a stroke that the pen missed for a moment.
const BROKEN: f32 = 0.1;

/// A small piece, such as the bar of a 5, belongs to a digit this near if it lies above or below it. So do pieces whose
/// rectangles overlap.
const LOOSE: f32 = 0.25;

/// It belongs to a digit this near if it stands beside its upper part; lower down it is a minus or a point, unless it is
/// as near as a stroke that the pen missed.
const LOOSE_BESIDE: f32 = 0.18;
const UPPER_PART: f32 = 0.35;
const BROKEN_BESIDE: f32 = 0.05;

/// A piece of at most this size beside the foot of a digit, or under its top, is a point.
const POINT: f32 = 0.25;
const FOOT: f32 = 0.3;

/// A small piece has at most this share of the height and of the ink of what it belongs to: the loop of a 6 may have
/// more ink than the stroke above it.
const SMALL_HEIGHT: f32 = 0.6;
const SMALL_INK: f32 = 1.2;

/// One piece lies above another if they share this part of the narrower one's width.
const ABOVE: f32 = 0.4;

/// A digit has at least this share of the height of the tallest one: smaller ones are specks and captions.
const LEAST_HEIGHT: f32 = 0.4;

/// Two digits are in one line if they share this part of the lower one's height.
const SAME_LINE: f32 = 0.4;

/// So many digits say where a line goes on.
const LAST_DIGITS: usize = 3;

/// The digits of a picture, and pieces that are too small to be some.
pub(super) struct Grouped {
    /// Each digit with its pieces, from left to right in each line, from the top line to the bottom one.
    pub lines: Vec<Vec<Piece>>,
    pub rest: Vec<Piece>,
}

/// Puts the pieces together.
pub(super) fn grouped(mut pieces: Vec<Piece>, width: usize) -> Grouped {
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.pixels.len()));
    pieces.truncate(MOST_PIECES);
    let Some(tallest) = pieces.iter().map(|piece| piece.bounds.height).max() else {
        return Grouped { lines: Vec::new(), rest: Vec::new() };
    };
    let mut pairs = Pairs::of(&pieces, tallest as f32, width);
    while let Some((a, b)) = pairs.nearest() {
        let joined = [pieces[a].pixels.as_slice(), &pieces[b].pixels].concat();
        pieces[a] = Piece::new(joined, width);
        pieces.swap_remove(b);
        pairs.join(a, b, &pieces);
    }
    let tallest = pieces.iter().map(|piece| piece.bounds.height).max().unwrap_or(0);
    let is_digit = |piece: &Piece| piece.bounds.height as f32 >= LEAST_HEIGHT * tallest as f32;
    let (digits, rest) = pieces.into_iter().partition(is_digit);
    Grouped { lines: in_reading_order(digits), rest }
}

/// How far apart each two pieces are that belong to one digit. Distances take long to measure: each is measured once.
struct Pairs {
    /// By both indices; `None` for pieces that are too far apart.
    distances: Vec<Vec<Option<f32>>>,
    /// Of the picture.
    width: usize,
    tallest: f32,
}

impl Pairs {
    fn of(pieces: &[Piece], tallest: f32, width: usize) -> Pairs {
        let mut pairs = Pairs { distances: vec![vec![None; pieces.len()]; pieces.len()], width, tallest };
        for a in 0..pieces.len() {
            for b in a + 1..pieces.len() {
                pairs.measure(a, b, pieces);
            }
        }
        pairs
    }

    fn measure(&mut self, a: usize, b: usize, pieces: &[Piece]) {
        let limit = reach(&pieces[a], &pieces[b]) * self.tallest;
        let distance = distance(&pieces[a], &pieces[b], limit, self.width);
        self.distances[a][b] = distance;
        self.distances[b][a] = distance;
    }

    /// The nearest two pieces; the first index is the smaller one.
    fn nearest(&self) -> Option<(usize, usize)> {
        let pairs = (0..self.distances.len()).flat_map(|a| (a + 1..self.distances.len()).map(move |b| (a, b)));
        let near = pairs.filter_map(|(a, b)| self.distances[a][b].map(|distance| (distance, a, b)));
        near.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, a, b)| (a, b))
    }

    /// Notes that piece `b`, the later one, has become part of `a`, and the last piece taken its place.
    fn join(&mut self, a: usize, b: usize, pieces: &[Piece]) {
        self.distances.swap_remove(b);
        self.distances.iter_mut().for_each(|row| {
            row.swap_remove(b);
        });
        (0..pieces.len()).filter(|&other| other != a).for_each(|other| self.measure(a, other, pieces));
    }
}

/// How near two pieces must be to belong together.
fn reach(a: &Piece, b: &Piece) -> f32 {
    let across = shared((a.bounds.x, a.bounds.width), (b.bounds.x, b.bounds.width));
    let down = shared((a.bounds.y, a.bounds.height), (b.bounds.y, b.bounds.height));
    let (small, large) = if a.bounds.height < b.bounds.height { (a, b) } else { (b, a) };
    let is_small = small.bounds.height as f32 <= SMALL_HEIGHT * large.bounds.height as f32
        && small.pixels.len() as f32 <= SMALL_INK * large.pixels.len() as f32;
    let above = across >= ABOVE;
    let height = large.bounds.height as f32;
    // How far down the large piece the middle of the small one is, from 0 at its top to 1 at its foot.
    let depth = (small.bounds.y as f32 + small.bounds.height as f32 / 2.0 - large.bounds.y as f32) / height;
    let size = small.bounds.width.max(small.bounds.height) as f32 / height;
    let is_point = size <= POINT && depth >= 1.0 - FOOT && is_at_right(small.bounds, large.bounds);
    match (is_small, above) {
        (true, _) if is_point => BROKEN_BESIDE,
        _ if above && down > 0.0 => LOOSE,
        (true, true) => LOOSE,
        (true, false) if depth <= UPPER_PART => LOOSE_BESIDE,
        (true, false) => BROKEN_BESIDE,
        (false, true) => BROKEN,
        (false, false) => 0.0,
    }
}

/// Whether the middle of the small one is at the right end of the large one, or beyond it.
pub(super) fn is_at_right(small: Bounds, large: Bounds) -> bool {
    const RIGHT_END: f32 = 0.7;
    (small.x + small.width / 2) as f32 >= large.x as f32 + RIGHT_END * large.width as f32
}

/// The part of the shorter of two spans (start, length) that both have.
pub(super) fn shared(a: (u32, u32), b: (u32, u32)) -> f32 {
    let both = (a.0 + a.1).min(b.0 + b.1).saturating_sub(a.0.max(b.0));
    both as f32 / a.1.min(b.1) as f32
}

/// The distance between the ink of two pieces, if it is at most `limit`.
fn distance(a: &Piece, b: &Piece, limit: f32, width: usize) -> Option<f32> {
    let gap = |a: (u32, u32), b: (u32, u32)| a.0.max(b.0).saturating_sub((a.0 + a.1).min(b.0 + b.1)) as f32;
    let across = gap((a.bounds.x, a.bounds.width), (b.bounds.x, b.bounds.width));
    let down = gap((a.bounds.y, a.bounds.height), (b.bounds.y, b.bounds.height));
    if limit <= 0.0 || across.hypot(down) > limit {
        return None;
    }
    let at = |k: usize| ((k % width) as f32, (k / width) as f32);
    // Only what lies near the other's rectangle can be near its ink.
    let near = |piece: &Piece, other: Bounds| -> Vec<(f32, f32)> {
        let inside = |at: f32, low: u32, size: u32| at >= low as f32 - limit && at <= (low + size) as f32 + limit;
        let points = piece.pixels.iter().map(|&k| at(k));
        points.filter(|(x, y)| inside(*x, other.x, other.width) && inside(*y, other.y, other.height)).collect()
    };
    let (of_a, of_b) = (thinned(near(a, b.bounds)), thinned(near(b, a.bounds)));
    let squared = |(x, y): &(f32, f32), (u, v): &(f32, f32)| (x - u).powi(2) + (y - v).powi(2);
    let nearest = |point: &(f32, f32)| of_b.iter().map(|other| squared(point, other)).fold(f32::MAX, f32::min);
    let distance = of_a.iter().map(nearest).fold(f32::MAX, f32::min).sqrt();
    (distance <= limit).then_some(distance)
}

/// At most about five hundred of the points, evenly: a distance a pixel or two too large does no harm.
fn thinned(points: Vec<(f32, f32)>) -> Vec<(f32, f32)> {
    const MOST: usize = 500;
    let step = points.len().div_ceil(MOST).max(1);
    points.into_iter().step_by(step).collect()
}

/// From left to right in each line, from the top line to the bottom one.
fn in_reading_order(mut digits: Vec<Piece>) -> Vec<Vec<Piece>> {
    digits.sort_by_key(|digit| 2 * digit.bounds.x + digit.bounds.width);
    // Each digit continues the line whose last digits lie most beside it: lines may slope, and digits jump.
    let mut lines: Vec<Vec<Piece>> = Vec::new();
    for digit in digits {
        let beside = |line: &Vec<Piece>| {
            let last = line.iter().rev().take(LAST_DIGITS).map(|last| last.bounds);
            last.map(|last| shared((last.y, last.height), (digit.bounds.y, digit.bounds.height))).fold(0.0, f32::max)
        };
        match lines.iter_mut().max_by(|a, b| beside(a).total_cmp(&beside(b))) {
            Some(line) if beside(line) >= SAME_LINE => line.push(digit),
            _ => lines.push(vec![digit]),
        }
    }
    let middle = |line: &Vec<Piece>| {
        line.iter().map(|digit| digit.bounds.y as f32 + digit.bounds.height as f32 / 2.0).sum::<f32>()
            / line.len() as f32
    };
    lines.sort_by(|a, b| middle(a).total_cmp(&middle(b)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 400;

    /// A filled rectangle of ink.
    fn block(x: usize, y: usize, width: usize, height: usize) -> Piece {
        let pixels = (0..width * height).map(|k| (y + k / width) * WIDTH + x + k % width).collect();
        Piece::new(pixels, WIDTH)
    }

    fn digits(pieces: Vec<Piece>, width: usize) -> Vec<Piece> {
        grouped(pieces, width).lines.concat()
    }

    fn lefts(digits: &[Piece]) -> Vec<(u32, u32)> {
        digits.iter().map(|digit| (digit.bounds.x, digit.bounds.y)).collect()
    }

    #[test]
    fn neighbours_stay_apart_however_near() {
        let row = digits(vec![block(40, 10, 20, 60), block(10, 12, 25, 58), block(63, 8, 20, 60)], WIDTH);
        assert_eq!(lefts(&row), [(10, 12), (40, 10), (63, 8)]);
    }

    #[test]
    fn a_loose_bar_and_a_broken_stroke_belong_to_their_digit() {
        let five = [block(110, 10, 30, 6), block(100, 22, 30, 50)];
        let broken = [block(200, 10, 12, 30), block(202, 44, 12, 30)];
        let found = digits([five.as_slice(), &broken].concat(), WIDTH);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].bounds, Bounds { x: 100, y: 10, width: 40, height: 62 });
        assert_eq!(found[1].bounds, Bounds { x: 200, y: 10, width: 14, height: 64 });
    }

    #[test]
    fn lines_are_read_from_top_to_bottom_even_if_they_slope() {
        let upper = (0..4).map(|k| block(20 + 60 * k, 10 + 8 * k, 30, 60));
        let lower = (0..4).map(|k| block(10 + 60 * k, 100 + 8 * k, 30, 60));
        let found = digits(lower.chain(upper).collect(), WIDTH);
        let expected: Vec<(u32, u32)> =
            (0..4).map(|k| (20 + 60 * k, 10 + 8 * k)).chain((0..4).map(|k| (10 + 60 * k, 100 + 8 * k))).collect();
        assert_eq!(lefts(&found), expected);
        let lines = grouped(found, WIDTH).lines;
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
    }

    #[test]
    fn a_point_and_a_minus_are_no_part_of_the_digit_beside_them() {
        for mark in [block(146, 64, 8, 8), block(70, 38, 24, 6), block(146, 38, 24, 6), block(146, 64, 6, 16)] {
            let grouped = grouped(vec![block(100, 10, 40, 62), mark], WIDTH);
            assert_eq!(lefts(&grouped.lines.concat()), [(100, 10)]);
            assert_eq!(grouped.rest.len(), 1);
        }
    }

    #[test]
    fn specks_are_dropped() {
        assert_eq!(digits(vec![block(10, 10, 30, 60), block(300, 10, 6, 6)], WIDTH).len(), 1);
        assert!(digits(Vec::new(), WIDTH).is_empty());
    }
}
