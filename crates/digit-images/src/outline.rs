//! The outline of a piece of ink, by which brackets, angles and what has a point below are told from digits.

use super::mask::Piece;

/// A bracket is at most this wide, as a share of its height, and its middle is at least so far beside the line between its
/// ends. 2.6 % of MNIST's test digits look like that, two thirds of them 1s: it takes the height of the others to tell them apart.
const BRACKET_WIDTH: f32 = 0.62;
const BRACKET_BOW: f32 = 0.04;

/// The middle of < and > is at least so far beside the line between their ends: in print 0.55; one of MNIST's 10,000
/// test digits is so bent.
const ANGLE_BOW: f32 = 0.5;

/// The ends of a piece are this share of its rows, and its middle lies between these two.
const END: f32 = 0.07;
const MIDDLE: [f32; 2] = [0.35, 0.65];

/// This share of the rows may have two runs of ink: a blurred corner.
const FORKED: f32 = 0.03;

/// The point of ! and ? is at most so large, as a share of the height of the whole.
const POINT: f32 = 0.25;

/// A row of a piece: the columns of its first and its last pixel, and its pixels.
#[derive(Clone, Copy)]
struct Row {
    first: usize,
    last: usize,
    pixels: usize,
}

/// The rows of a piece from top to bottom; `None` where it has no ink.
pub(super) struct Outline(Vec<Option<Row>>);

impl Outline {
    /// That of a piece in a picture of this width.
    pub(super) fn of(piece: &Piece, width: usize) -> Outline {
        let mut rows: Vec<Option<Row>> = vec![None; piece.bounds.height as usize];
        for &k in &piece.pixels {
            let column = k % width;
            let row = &mut rows[k / width - piece.bounds.y as usize];
            let Row { first, last, pixels } = row.unwrap_or(Row { first: column, last: column, pixels: 0 });
            *row = Some(Row { first: first.min(column), last: last.max(column), pixels: pixels + 1 });
        }
        Outline(rows)
    }

    /// Whether it could be a bracket: slim and bent, and one stroke.
    pub(super) fn is_like_bracket(&self) -> bool {
        self.width() <= BRACKET_WIDTH && self.is_one_stroke() && self.bow() >= BRACKET_BOW
    }

    /// Whether it is < or >.
    pub(super) fn is_angle(&self) -> bool {
        self.is_one_stroke() && self.bow() >= ANGLE_BOW
    }

    /// Whether it has a point below, as ! and ? do.
    pub(super) fn has_point_below(&self) -> bool {
        let Some(gap) = self.0.iter().rposition(Option::is_none) else { return false };
        let point = &self.0[gap + 1..];
        point.len().max(columns(point)) as f32 <= POINT * self.height()
    }

    fn height(&self) -> f32 {
        self.0.len() as f32
    }

    /// As a share of the height.
    fn width(&self) -> f32 {
        columns(&self.0) as f32 / self.height()
    }

    /// Whether nearly every row has one run of ink.
    fn is_one_stroke(&self) -> bool {
        let is_run = |row: &&Option<Row>| row.is_some_and(|row| row.last + 1 - row.first == row.pixels);
        let runs = self.0.iter().filter(is_run).count();
        (self.0.len() - runs) as f32 <= FORKED * self.height()
    }

    /// How far the middle is beside the line between the ends, as a share of the height.
    fn bow(&self) -> f32 {
        let count = self.0.len();
        let end = ((END * self.height()).round() as usize).clamp(1, count);
        let middle = |share: f32| (share * self.height()) as usize;
        let (top, bottom) = (mean(&self.0[..end]), mean(&self.0[count - end..]));
        let ends = top.zip(bottom).map(|(top, bottom)| (top + bottom) / 2.0);
        let bow = ends.zip(mean(&self.0[middle(MIDDLE[0])..middle(MIDDLE[1]).max(1)]));
        bow.map_or(0.0, |(ends, middle)| (ends - middle).abs() / self.height())
    }
}

/// The number of columns from the leftmost ink to the rightmost.
fn columns(rows: &[Option<Row>]) -> usize {
    let first = rows.iter().flatten().map(|row| row.first).min().unwrap_or(0);
    let last = rows.iter().flatten().map(|row| row.last).max().unwrap_or(0);
    last + 1 - first
}

/// The mean column of the ink; `None` if there is none.
fn mean(rows: &[Option<Row>]) -> Option<f32> {
    let (sum, pixels) = rows.iter().flatten().fold((0.0, 0), |(sum, pixels), row| {
        (sum + (row.first + row.last) as f32 / 2.0 * row.pixels as f32, pixels + row.pixels)
    });
    (pixels > 0).then(|| sum / pixels as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 200;

    /// 100 rows of a stroke, 10 wide, whose middle is where `x` says, from -1 at the top to 1 at the foot.
    fn stroke(x: impl Fn(f32) -> f32) -> Outline {
        let at = |row: usize| 100.0 + x((row as f32 - 49.5) / 49.5);
        let columns = |row: usize| (at(row) - 5.0).round() as usize..(at(row) + 5.0).round() as usize;
        let pixels = (0..100).flat_map(|row| columns(row).map(move |column| row * WIDTH + column));
        Outline::of(&Piece::new(pixels.collect(), WIDTH), WIDTH)
    }

    #[test]
    fn brackets_and_angles_are_bent_and_ones_are_straight() {
        for lean in [0.0, 20.0] {
            assert!(!stroke(|y| -lean * y).is_like_bracket(), "a 1");
            assert!(stroke(|y| 15.0 * y * y - lean * y).is_like_bracket(), "(");
            assert!(stroke(|y| -15.0 * y * y - lean * y).is_like_bracket(), ")");
        }
        assert!(stroke(|y| if y.abs() > 0.9 { 10.0 } else { 0.0 }).is_like_bracket(), "[");
        assert!(stroke(|y| 70.0 * y.abs()).is_angle() && stroke(|y| -70.0 * y.abs()).is_angle(), "< and >");
        assert!(!stroke(|y| 15.0 * y * y).is_angle());
    }

    #[test]
    fn a_ring_is_no_bracket() {
        let is_ring = |k: &usize| {
            let (x, y) = ((k % WIDTH) as f32 - 100.0, (k / WIDTH) as f32 - 100.0);
            (0.7..=1.0).contains(&(x / 25.0).hypot(y / 50.0))
        };
        let ring = Piece::new((0..WIDTH * WIDTH).filter(is_ring).collect(), WIDTH);
        assert!(!Outline::of(&ring, WIDTH).is_like_bracket());
    }

    #[test]
    fn a_point_below_is_seen_and_a_broken_foot_is_none() {
        let with = |width: usize| {
            let rows = (0..70).chain(80..100);
            let columns = |row: usize| if row < 70 { 95..105 } else { 100 - width / 2..100 + width / 2 };
            let pixels = rows.flat_map(|row| columns(row).map(move |column| row * WIDTH + column));
            Outline::of(&Piece::new(pixels.collect(), WIDTH), WIDTH)
        };
        assert!(with(14).has_point_below());
        assert!(!with(60).has_point_below());
        assert!(!stroke(|_| 0.0).has_point_below());
    }
}
