//! Tells marks from digits: points, signs, slashes and strokes that stand in a line of digits and are none.
//!
//! A small piece is a mark if it stands beside a digit, is as black, and drawn with the same pen. A straight stroke as
//! large as a digit could be a 1, and a bracket too: it is a mark if it is taller than the others of its line, or leans too
//! far. A small piece at the height of the digits' tops is raised, as a degree sign is, and a flat one between two lines is
//! the bar of a fraction.

use super::Bounds;
use super::group::{is_at_right, shared};
use super::mask::Piece;
use super::outline::Outline;

/// The digits and marks of a line, from left to right.
#[derive(Debug, Clone)]
pub(super) enum Symbol<T> {
    Digit(T),
    Mark(Bounds),
}

/// Lengths are shares of the height of the digit beside a mark.
///
/// A mark is at least this long; its pen is at least this share of the digit's, and its contrast this one.
const LEAST_LENGTH: f32 = 0.06;
const LEAST_PEN: f32 = 0.3;
const LEAST_CONTRAST: f32 = 0.5;

/// The middle of a mark that is flat, so many times as wide as high, is at least this far below the top of the digit: above
/// is the loose bar of a 5. That of any mark is at most so far below its foot and beside it.
const FLAT: f32 = 1.5;
const FLAT_BELOW_TOP: f32 = 0.2;
const BELOW: f32 = 0.3;
const BESIDE: f32 = 1.2;

/// At most this share of a mark's width lies within the width of a digit, unless it stands at this lowest part of it: the
/// top of a 7 reaches over the point behind it.
const WITHIN: f32 = 0.4;
const FOOT: f32 = 0.25;

/// A stroke is at least so many times as long as wide, and straight if it is at most so many times as wide as its ink.
const LENGTH_TO_WIDTH: f32 = 4.0;
const STRAIGHT: f32 = 1.4;

/// A stroke that is as slim and as straight as this looks printed, or ruled. Of MNIST's 1s that lean, one in 200 does.
const SLIM: f32 = 9.5;
const RULED: f32 = 1.01;

/// A 1 leans by less than these angles, in degrees, to the left and to the right.
const MOST_LEFT: f32 = -25.0;
const MOST_RIGHT: f32 = 45.0;

/// A stroke that leans by more than this angle is a slash if it is so many times as high as the highest of its line; one
/// that leans less is a bar. The first height is for strokes that look ruled.
const UPRIGHT: f32 = 12.0;
const SLASH: [f32; 2] = [0.9, 1.3];
const BAR: [f32; 2] = [1.2, 1.45];

/// A bracket is so many times as high as the highest of its line, and reaches over it at both ends.
const BRACKET: f32 = 1.12;

/// A raised sign is at most so high, and its foot so far below the top of the highest digit of its line.
const RAISED_HEIGHT: f32 = 0.65;
const RAISED_FOOT: f32 = 0.65;

/// The bar of a fraction is at least so many times as long as high, and so long.
const BAR_LENGTH_TO_HEIGHT: f32 = 3.0;
const BAR_LENGTH: f32 = 0.5;

/// The strokes of a plus reach at most this share of its size to each side of its middle, and have this share of its ink.
const PLUS_PEN: f32 = 0.14;
const PLUS_INK: f32 = 0.98;

/// The lines with their marks: strokes among the digits, and those of the `others` that stand beside a digit. At least one
/// digit is left. `contrast` is that of a piece.
pub(super) fn marked(
    lines: Vec<Vec<Piece>>,
    others: Vec<Piece>,
    contrast: impl Fn(&Piece) -> f32,
    width: usize,
) -> Vec<Vec<Symbol<Piece>>> {
    let same_ink = |mark: &Piece, digit: &Piece| {
        contrast(mark) >= LEAST_CONTRAST * contrast(digit) && mark.pen(width) >= LEAST_PEN * digit.pen(width)
    };
    let mut marks: Vec<Vec<Bounds>> = vec![Vec::new(); lines.len()];
    let mut bars: Vec<Vec<Bounds>> = vec![Vec::new(); lines.len()];
    for mark in others {
        if let Some(below) = fraction(&lines, &mark, same_ink) {
            bars[below].push(mark.bounds);
            continue;
        }
        let beside = |line: &Vec<Piece>| {
            nearest(line, mark.bounds).filter(|digit| same_ink(&mark, digit)).map(|digit| gap(digit, mark.bounds))
        };
        let near = lines.iter().enumerate().filter_map(|(k, line)| Some((k, beside(line)?)));
        if let Some((k, _)) = near.min_by(|a, b| a.1.total_cmp(&b.1)) {
            marks[k].push(mark.bounds);
        }
    }
    let lines = lines.into_iter().map(|line| without_strokes(line, width));
    let bars = bars.into_iter().map(|bars| in_order(Vec::new(), bars));
    let lines = lines.zip(marks).map(|(line, marks)| in_order(line, marks));
    bars.zip(lines).flat_map(|(bars, line)| [bars, line]).filter(|line| !line.is_empty()).collect()
}

/// The line below the bar of a fraction, if `bar` is one: digits of two lines stand right over it and right under it.
fn fraction(lines: &[Vec<Piece>], bar: &Piece, same_ink: impl Fn(&Piece, &Piece) -> bool) -> Option<usize> {
    let Bounds { x, y, width, height } = bar.bounds;
    let is_near = |digit: &Piece, gap: Option<u32>| {
        let size = digit.bounds.height as f32;
        gap.is_some_and(|gap| gap as f32 <= size)
            && width as f32 >= BAR_LENGTH * size
            && shared((x, width), (digit.bounds.x, digit.bounds.width)) >= 0.5
            && same_ink(bar, digit)
    };
    let over = |digit: &Piece| is_near(digit, y.checked_sub(digit.bounds.y + digit.bounds.height));
    let under = |digit: &Piece| is_near(digit, digit.bounds.y.checked_sub(y + height));
    let is_flat = width as f32 >= BAR_LENGTH_TO_HEIGHT * height as f32;
    let below = lines.iter().position(|line| line.iter().any(under))?;
    (is_flat && lines[..below].iter().flatten().any(over)).then_some(below)
}

/// The digit of a line that a mark stands beside, if it does.
fn nearest(line: &[Piece], mark: Bounds) -> Option<&Piece> {
    let middle = mark.y as f32 + mark.height as f32 / 2.0;
    let is_clear = |digit: &Piece| {
        let foot = digit.bounds.y as f32 + (1.0 - FOOT) * digit.bounds.height as f32;
        let both = shared((mark.x, mark.width), (digit.bounds.x, digit.bounds.width));
        both * mark.width.min(digit.bounds.width) as f32 <= WITHIN * mark.width as f32
            || middle >= foot && is_at_right(mark, digit.bounds)
    };
    let is_beside = |digit: &Piece| {
        let (top, height) = (digit.bounds.y as f32, digit.bounds.height as f32);
        let is_flat = mark.width as f32 >= FLAT * mark.height as f32;
        let highest = if is_flat { FLAT_BELOW_TOP * height } else { 0.0 };
        (top + highest..=top + (1.0 + BELOW) * height).contains(&middle)
            && gap(digit, mark) <= BESIDE * height
            && mark.width.max(mark.height) as f32 >= LEAST_LENGTH * height
    };
    let nearest = line.iter().filter(|digit| is_beside(digit)).min_by(|a, b| gap(a, mark).total_cmp(&gap(b, mark)));
    nearest.filter(|_| line.iter().all(is_clear))
}

/// How far beside a digit a mark stands.
fn gap(digit: &Piece, mark: Bounds) -> f32 {
    let digit = digit.bounds;
    digit.x.max(mark.x).saturating_sub((digit.x + digit.width).min(mark.x + mark.width)) as f32
}

/// The digits of a line, with its slashes, bars, brackets and other signs as marks. A line of these alone keeps them as
/// digits.
fn without_strokes(line: Vec<Piece>, width: usize) -> Vec<Symbol<Piece>> {
    let looks: Vec<Look> = line.iter().map(|piece| Look::of(piece, width)).collect();
    let is_mark = |k: usize| {
        let others = || (0..line.len()).filter(|&other| other != k);
        // Another slash is as high as a slash, so it says nothing; it does where there is nothing else.
        let different = others().filter(|&other| !looks[k].is_like(&looks[other]));
        let highest = different.max_by_key(|&other| line[other].bounds.height);
        let highest = highest.or(others().max_by_key(|&other| line[other].bounds.height));
        highest.is_some_and(|other| looks[k].is_mark_beside(line[k].bounds, line[other].bounds))
    };
    let is_mark: Vec<bool> = (0..line.len()).map(is_mark).collect();
    let all = is_mark.iter().all(|is_mark| *is_mark);
    let symbol = |(piece, is_mark): (Piece, bool)| {
        if is_mark && !all { Symbol::Mark(piece.bounds) } else { Symbol::Digit(piece) }
    };
    line.into_iter().zip(is_mark).map(symbol).collect()
}

/// The shape of a digit-sized piece.
enum Look {
    Stroke(Stroke),
    /// Of ( ) [ ] { }.
    Bracket,
    /// A plus, < or >, or with a point below as ! and ?.
    Other,
    Digit,
}

impl Look {
    fn of(piece: &Piece, width: usize) -> Look {
        let outline = Outline::of(piece, width);
        match stroke(piece, width) {
            _ if is_plus(piece, width) || outline.is_angle() || outline.has_point_below() => Look::Other,
            Some(stroke) => Look::Stroke(stroke),
            None if outline.is_like_bracket() => Look::Bracket,
            None => Look::Digit,
        }
    }

    /// Whether both have the same height because they are the same sign.
    fn is_like(&self, other: &Look) -> bool {
        match (self, other) {
            (Look::Stroke(one), Look::Stroke(other)) => one.leans() == other.leans(),
            (Look::Bracket, Look::Bracket) => true,
            _ => false,
        }
    }

    /// Whether the sign of these `bounds` is a mark beside the `highest` digit of its line.
    fn is_mark_beside(&self, bounds: Bounds, highest: Bounds) -> bool {
        let higher = bounds.height as f32 / highest.height as f32;
        let (foot, foot_of_highest) = (bounds.y + bounds.height, highest.y + highest.height);
        let is_raised =
            higher <= RAISED_HEIGHT && foot as f32 <= highest.y as f32 + RAISED_FOOT * highest.height as f32;
        match self {
            _ if is_raised => true,
            Look::Stroke(stroke) => stroke.is_mark(higher),
            Look::Bracket => higher >= BRACKET && bounds.y <= highest.y && foot > foot_of_highest,
            Look::Other => true,
            Look::Digit => false,
        }
    }
}

/// Whether a piece is a plus: almost all of it lies on a level and an upright stroke through its middle.
fn is_plus(piece: &Piece, width: usize) -> bool {
    let Bounds { x, y, width: columns, height: rows } = piece.bounds;
    let is_square = (0.7..=1.4).contains(&(columns as f32 / rows as f32));
    let middle = (x as f32 + (columns - 1) as f32 / 2.0, y as f32 + (rows - 1) as f32 / 2.0);
    let reach = PLUS_PEN * columns.max(rows) as f32;
    let on_cross = |&&k: &&usize| {
        let (x, y) = ((k % width) as f32, (k / width) as f32);
        (x - middle.0).abs() <= reach || (y - middle.1).abs() <= reach
    };
    // The four corners of a square have more than half of it; the ink of a digit lies there too.
    is_square && piece.pixels.iter().filter(on_cross).count() as f32 >= PLUS_INK * piece.pixels.len() as f32
}

/// A straight stroke.
struct Stroke {
    /// In degrees to the right.
    lean: f32,
    is_ruled: bool,
}

impl Stroke {
    fn leans(&self) -> bool {
        self.lean.abs() >= UPRIGHT
    }

    /// Whether it is a slash or a bar, if it is so many times as high as the digits of its line.
    fn is_mark(&self, higher: f32) -> bool {
        let [ruled, drawn] = if self.leans() { SLASH } else { BAR };
        !(MOST_LEFT..=MOST_RIGHT).contains(&self.lean) || higher >= if self.is_ruled { ruled } else { drawn }
    }
}

/// A piece as a straight stroke, if it is one.
fn stroke(piece: &Piece, width: usize) -> Option<Stroke> {
    let count = piece.pixels.len() as f64;
    let points = || piece.pixels.iter().map(|&k| ((k % width) as f64, (k / width) as f64));
    let (x, y) = points().fold((0.0, 0.0), |(x, y), (px, py)| (x + px / count, y + py / count));
    let (xx, xy, yy) = points().map(|(px, py)| (px - x, py - y)).fold((0.0, 0.0, 0.0), |(xx, xy, yy), (px, py)| {
        (xx + px * px / count, xy + px * py / count, yy + py * py / count)
    });
    // The variances along and across the axis; those of a bar are a twelfth of the squares of its sides.
    let (middle, half) = ((xx + yy) / 2.0, ((xx - yy) / 2.0).hypot(xy));
    let (along, across) = ((12.0 * (middle + half)).sqrt(), (12.0 * (middle - half)).max(1.0).sqrt());
    let ink = count / along.max(1.0);
    // Rows count downwards: a slash has a negative covariance.
    let lean = (0.5 * (2.0 * -xy).atan2(yy - xx)).to_degrees() as f32;
    let (slim, thick) = ((along / across) as f32, (across / ink) as f32);
    let is_straight = slim >= LENGTH_TO_WIDTH && thick <= STRAIGHT;
    is_straight.then_some(Stroke { lean, is_ruled: slim >= SLIM && thick <= RULED })
}

/// Digits and marks by their middles; the two points of a colon are one mark.
fn in_order(mut line: Vec<Symbol<Piece>>, mut marks: Vec<Bounds>) -> Vec<Symbol<Piece>> {
    marks.sort_by_key(|mark| mark.x);
    let mut joined: Vec<Bounds> = Vec::new();
    for mark in marks {
        match joined.last_mut() {
            Some(last) if shared((last.x, last.width), (mark.x, mark.width)) >= 0.5 => *last = last.with(mark),
            _ => joined.push(mark),
        }
    }
    line.extend(joined.into_iter().map(Symbol::Mark));
    line.sort_by_key(|symbol| {
        let (Symbol::Digit(Piece { bounds, .. }) | Symbol::Mark(bounds)) = symbol;
        2 * bounds.x + bounds.width
    });
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 600;

    /// A piece with the pixels between two heights for which `ink` holds.
    fn piece(ys: std::ops::Range<usize>, ink: impl Fn(f32, f32) -> bool) -> Piece {
        let pixels = ys.flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
        let inked = pixels.filter(|(x, y)| ink(*x as f32, *y as f32)).map(|(x, y)| y * WIDTH + x);
        Piece::new(inked.collect(), WIDTH)
    }

    fn block(x: usize, y: usize, width: usize, height: usize) -> Piece {
        piece(y..y + height, |px, _| (x as f32..(x + width) as f32).contains(&px))
    }

    /// A ring, 100 high: a 0 at `x`.
    fn zero(x: f32) -> Piece {
        let radius = |px: f32, py: f32| ((px - x - 30.0) / 30.0).hypot((py - 150.0) / 50.0);
        piece(100..201, |px, py| (0.72..=1.0).contains(&radius(px, py)))
    }

    /// A stroke that leans by `degrees`, with its middle at (x, 150): a pen's, 16 wide.
    fn drawn(x: f32, height: usize, degrees: f32) -> Piece {
        leaning(x, height, degrees, 16.0)
    }

    fn leaning(x: f32, height: usize, degrees: f32, wide: f32) -> Piece {
        let top = 150 - height / 2;
        let half = wide / 2.0 / degrees.to_radians().cos();
        let axis = |y: f32| x + (150.0 - y) * degrees.to_radians().tan();
        piece(top..top + height, |px, py| (px - axis(py)).abs() <= half)
    }

    /// A line as text: D for a digit, m for a mark.
    fn line(digits: Vec<Piece>, others: Vec<Piece>) -> String {
        let lines = marked(vec![digits], others, |_| 100.0, WIDTH);
        let letter = |symbol: &Symbol<Piece>| if matches!(symbol, Symbol::Digit(_)) { 'D' } else { 'm' };
        lines[0].iter().map(letter).collect()
    }

    #[test]
    fn points_commas_and_signs_beside_digits_are_marks() {
        let digits = || vec![zero(100.0), zero(220.0)];
        for (name, others, expected) in [
            ("a point", vec![block(185, 190, 12, 12)], "DmD"),
            ("a comma", vec![block(185, 190, 10, 30)], "DmD"),
            ("a colon", vec![block(185, 120, 12, 12), block(185, 180, 12, 12)], "DmD"),
            ("an equals sign", vec![block(170, 130, 40, 10), block(170, 160, 40, 10)], "DmD"),
            ("a minus in front", vec![block(40, 145, 40, 10)], "mDD"),
            ("a point at the end", vec![block(300, 190, 12, 12)], "DDm"),
            ("dust, thinner than the pen", vec![block(185, 190, 3, 3)], "DD"),
            ("the loose bar of a 5", vec![block(165, 105, 40, 10)], "DD"),
            ("an apostrophe", vec![block(185, 95, 8, 25)], "DmD"),
            ("a speck within a digit", vec![block(125, 150, 12, 12)], "DD"),
            ("something far away", vec![block(500, 150, 30, 12), block(185, 20, 12, 12)], "DD"),
        ] {
            assert_eq!(line(digits(), others), expected, "{name}");
        }
    }

    #[test]
    fn something_much_paler_than_the_digits_is_no_mark() {
        let pale = |piece: &Piece| if piece.bounds.height < 50 { 40.0 } else { 100.0 };
        let lines = marked(vec![vec![zero(100.0)]], vec![block(185, 190, 12, 12)], pale, WIDTH);
        assert_eq!(lines[0].len(), 1);
    }

    #[test]
    fn slashes_and_bars_are_marks_and_ones_are_digits() {
        for (name, middle, expected) in [
            ("a slash", drawn(190.0, 140, 25.0), "DmD"),
            ("a backslash", drawn(190.0, 140, -25.0), "DmD"),
            ("a bar", drawn(190.0, 160, 0.0), "DmD"),
            ("a stroke that almost lies", drawn(190.0, 40, 55.0), "DmD"),
            ("a printed slash as high as the digits", leaning(190.0, 100, 18.0, 8.0), "DmD"),
            ("a printed bar", leaning(190.0, 130, 0.0, 8.0), "DmD"),
            ("a printed 1", leaning(190.0, 105, 0.0, 8.0), "DDD"),
            ("a 1", drawn(190.0, 100, 0.0), "DDD"),
            ("a 1 that leans", drawn(190.0, 100, 30.0), "DDD"),
            ("a 1 that is somewhat taller", drawn(190.0, 115, 3.0), "DDD"),
        ] {
            assert_eq!(line(vec![zero(100.0), middle, zero(225.0)], Vec::new()), expected, "{name}");
        }
        let plus = piece(120..181, |px, py| {
            (px - 190.0).abs() <= 5.0 || (py - 150.0).abs() <= 5.0 && (px - 190.0).abs() <= 30.0
        });
        assert_eq!(line(vec![zero(100.0), plus.clone(), zero(225.0)], Vec::new()), "DmD");
        assert_eq!(line(vec![plus], Vec::new()), "D");
        assert_eq!(line(vec![zero(100.0), drawn(190.0, 140, 25.0), drawn(240.0, 100, 4.0)], Vec::new()), "DmD");
        assert_eq!(line(vec![drawn(190.0, 140, 25.0)], Vec::new()), "D", "nothing to compare it with");
        assert_eq!(line(vec![drawn(100.0, 60, 60.0), drawn(220.0, 60, 60.0)], Vec::new()), "DD");
    }

    /// A stroke, 12 wide, bent by `bow` to the left.
    fn bent(x: f32, ys: std::ops::Range<usize>, bow: f32) -> Piece {
        let (middle, half) = ((ys.start + ys.end) as f32 / 2.0, ys.len() as f32 / 2.0);
        piece(ys, |px, py| (px - x - bow * ((py - middle) / half).powi(2)).abs() <= 6.0)
    }

    #[test]
    fn brackets_stand_over_the_digits_at_both_ends() {
        let pair = |top, bottom| vec![bent(70.0, top..bottom, 15.0), zero(100.0), bent(190.0, top..bottom, -15.0)];
        assert_eq!(line(pair(95, 220), Vec::new()), "mDm");
        assert_eq!(line(pair(100, 200), Vec::new()), "DDD", "as high as the digits, it may be a 1");
        assert_eq!(line(pair(80, 200), Vec::new()), "DDD", "a 1 that begins higher");
    }

    #[test]
    fn angles_points_below_and_raised_signs_are_marks() {
        let angle = piece(120..180, |px, py| (px - 190.0 - 1.3 * (py - 150.0).abs()).abs() <= 8.0);
        assert_eq!(line(vec![zero(100.0), angle, zero(245.0)], Vec::new()), "DmD");
        let exclamation = piece(100..200, |px, py| (px - 190.0).abs() <= 6.0 && !(175.0..185.0).contains(&py));
        assert_eq!(line(vec![zero(100.0), exclamation], Vec::new()), "Dm");
        let degree = |top: usize| {
            let radius = move |px: f32, py: f32| (px - 190.0).hypot(py - top as f32 - 22.0);
            piece(top..top + 45, |px, py| (14.0..=22.0).contains(&radius(px, py)))
        };
        assert_eq!(line(vec![zero(100.0), degree(98)], Vec::new()), "Dm");
        assert_eq!(line(vec![zero(100.0), degree(155)], Vec::new()), "DD", "a small 0");
    }

    #[test]
    fn the_bar_of_a_fraction_is_a_line_of_its_own() {
        let below = zero(100.0).pixels.iter().map(|k| k + 140 * WIDTH).collect();
        let below = || Piece::new(Vec::clone(&below), WIDTH);
        let lines = |digits: Vec<Vec<Piece>>, bar| marked(digits, vec![bar], |_| 100.0, WIDTH);
        let with_bar = lines(vec![vec![zero(100.0)], vec![below()]], block(90, 215, 80, 12));
        assert!(matches!(with_bar[1].as_slice(), [Symbol::Mark(_)]) && with_bar.len() == 3);
        assert_eq!(lines(vec![vec![zero(100.0)]], block(90, 215, 80, 12)).len(), 1, "a line under a number");
        assert_eq!(lines(vec![vec![zero(100.0)], vec![below()]], block(120, 215, 20, 20)).len(), 2, "a speck");
    }
}
