//! Removes the lines of ruled and squared paper from a mask: thin, straight, from edge to edge, almost level or
//! upright.

use super::mask::Mask;

/// No line is looked for in a picture with a shorter side than this: strokes of digits are as thin there.
const LEAST_SIDE: usize = 100;

/// A line is at most this share of the shorter side thick: a line of 3 pixels, blurred, on a sheet of 300 rows.
const THICKEST: f32 = 1.0 / 60.0;

/// Paper is held askew by up to this slope, 3 degrees.
const STEEPEST: f32 = 0.05;

/// A line is seen on this share of its length, ink hides the rest; and one of [`SEVERAL`] on this smaller share.
const SEEN: f32 = 0.5;
const SEEN_OF_SEVERAL: f32 = 0.3;

/// A line begins and ends within this share of the length from the edges, unless it is one of [`SEVERAL`].
const NEAR_EDGE: f32 = 0.06;

/// So many parallel lines are paper's, even if a frame or the table hides their ends.
const SEVERAL: usize = 3;

/// A run of ink through a line is part of a stroke if it is this many pixels longer than the line is thick.
const STROKE_OVER_LINE: usize = 2;

/// The mask without lines; strokes that cross a line keep the pixels that they share with it.
pub(super) fn without_lines(mask: &Mask) -> Mask {
    if mask.width.min(mask.height) < LEAST_SIDE {
        return mask.clone();
    }
    let level = without_level_lines(mask);
    without_level_lines(&level.transposed()).transposed()
}

/// A pixel in a vertical run of ink that is short enough to be part of a line.
struct Thin {
    x: usize,
    /// The middle of the run.
    y: f32,
    thickness: usize,
}

fn without_level_lines(mask: &Mask) -> Mask {
    let thickest = (THICKEST * mask.width.min(mask.height) as f32).ceil().max(3.0) as usize;
    let thin = thin_runs(mask, thickest);
    let slope = best_slope(mask, &thin);
    let mut without = mask.clone();
    for (row, thickness) in lines(mask, &thin, slope) {
        for x in 0..mask.width {
            let y = row as f32 + slope * (x as f32 - mask.width as f32 / 2.0);
            // The line may be a pixel off where it is.
            for y in [y - 1.0, y, y + 1.0] {
                let inside = (0.0..mask.height as f32 - 0.5).contains(&y);
                let run = if inside { run(mask, x, y.round() as usize) } else { 0..0 };
                if run.len() <= thickness + STROKE_OVER_LINE {
                    run.for_each(|y| without.ink[y * mask.width + x] = false);
                }
            }
        }
    }
    without
}

/// The rows of the vertical run of ink through a pixel; none if it is not ink.
fn run(mask: &Mask, x: usize, y: usize) -> std::ops::Range<usize> {
    let ink = |y: &usize| mask.ink[y * mask.width + x];
    let above = (0..=y).rev().take_while(ink).count();
    let below = (y..mask.height).take_while(ink).count();
    if above == 0 { 0..0 } else { y + 1 - above..y + below }
}

/// The vertical runs of at most `thickest` pixels.
fn thin_runs(mask: &Mask, thickest: usize) -> Vec<Thin> {
    let mut thin = Vec::new();
    for x in 0..mask.width {
        let mut y = 0;
        while y < mask.height {
            let run = run(mask, x, y);
            if !run.is_empty() && run.len() <= thickest {
                thin.push(Thin { x, y: (run.start + run.end - 1) as f32 / 2.0, thickness: run.len() });
            }
            y = run.end.max(y + 1);
        }
    }
    thin
}

/// The row of a run in the middle of the picture, if the picture is sheared by `slope`.
fn row(mask: &Mask, thin: &Thin, slope: f32) -> Option<usize> {
    let row = (thin.y - slope * (thin.x as f32 - mask.width as f32 / 2.0)).round();
    (row >= 0.0 && row < mask.height as f32).then_some(row as usize)
}

/// How many runs each row has.
fn profile(mask: &Mask, thin: &[Thin], slope: f32) -> Vec<usize> {
    let mut counts = vec![0; mask.height];
    thin.iter().filter_map(|thin| row(mask, thin, slope)).for_each(|row| counts[row] += 1);
    counts
}

/// The slope at which the runs are gathered in the fewest rows.
fn best_slope(mask: &Mask, thin: &[Thin]) -> f32 {
    // One pixel over the width of the picture.
    let step = 1.0 / mask.width as f32;
    let steps = (STEEPEST / step) as i32;
    let sharpness = |slope: f32| profile(mask, thin, slope).iter().map(|count| count * count).sum::<usize>();
    // The most level one of equals.
    let slopes = (-steps..=steps).map(|k| k as f32 * step);
    slopes.max_by_key(|slope| (sharpness(*slope), -(slope.abs() / step) as i32)).unwrap_or(0.0)
}

/// The rows of the lines, and how thick each is.
fn lines(mask: &Mask, thin: &[Thin], slope: f32) -> Vec<(usize, usize)> {
    let mut by_row: Vec<Vec<&Thin>> = vec![Vec::new(); mask.height];
    for thin in thin {
        if let Some(row) = row(mask, thin, slope) {
            by_row[row].push(thin);
        }
    }
    let counts: Vec<usize> = by_row.iter().map(Vec::len).collect();
    let seen = |row: usize| counts[row.saturating_sub(1)..(row + 2).min(counts.len())].iter().sum::<usize>();
    let peak = |row: usize| {
        (row.saturating_sub(2)..(row + 3).min(counts.len())).all(|other| (counts[other], other) <= (counts[row], row))
    };
    let at_least = |share: f32| -> Vec<usize> {
        (0..mask.height).filter(|&row| seen(row) as f32 >= share * mask.width as f32 && peak(row)).collect()
    };
    let several = at_least(SEEN).len() >= SEVERAL;
    let runs = |row: usize| by_row[row.saturating_sub(1)..(row + 2).min(mask.height)].concat();
    let edge = NEAR_EDGE * mask.width as f32;
    let whole = |runs: &[&Thin]| {
        let (first, last) = runs.iter().fold((usize::MAX, 0), |(low, high), run| (low.min(run.x), high.max(run.x)));
        (first as f32) <= edge && (last + 1) as f32 >= mask.width as f32 - edge
    };
    let thickness = |mut runs: Vec<&Thin>| {
        let middle = runs.len() / 2;
        runs.select_nth_unstable_by_key(middle, |run| run.thickness).1.thickness
    };
    let rows = at_least(if several { SEEN_OF_SEVERAL } else { SEEN }).into_iter().map(|row| (row, runs(row)));
    rows.filter(|(_, runs)| several || whole(runs)).map(|(row, runs)| (row, thickness(runs))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(ink: impl Fn(usize, usize) -> bool) -> Mask {
        Mask { width: 300, height: 240, ink: (0..300 * 240).map(|k| ink(k % 300, k / 300)).collect() }
    }

    /// A stroke from corner to corner, 12 pixels wide.
    fn stroke(x: usize, y: usize) -> bool {
        (60..240).contains(&x) && (20..220).contains(&y) && x.abs_diff(y + 20) < 12
    }

    fn count(mask: &Mask) -> usize {
        mask.ink.iter().filter(|ink| **ink).count()
    }

    #[test]
    fn level_and_upright_lines_go_and_strokes_stay() {
        for slope in [0.0, 0.03, -0.02] {
            let on = |along: usize, across: usize| (across as f32 - slope * along as f32 + 60.0).rem_euclid(30.0) < 2.0;
            let squared = mask(|x, y| stroke(x, y) || on(x, y) || on(y, x));
            let without = without_lines(&squared);
            let kept = (0..without.ink.len()).filter(|k| without.ink[*k] && stroke(k % 300, k / 300)).count();
            let strokes = count(&mask(stroke));
            assert!(kept as f32 > 0.97 * strokes as f32, "{slope}: {kept} of {strokes}");
            assert!(count(&without) < kept + kept / 8, "{slope}: {} beside {kept}", count(&without) - kept);
        }
    }

    #[test]
    fn a_picture_without_lines_is_not_changed() {
        // The long bar is as wide as a third of the picture, and thin.
        let seven = mask(|x, y| stroke(x, y) || ((60..160).contains(&x) && (30..33).contains(&y)));
        assert_eq!(without_lines(&seven).ink, seven.ink);
    }
}
