//! The same gradient three ways, and the largest difference between each pair of the three.

use super::{Problem, Run, autograd, finite_difference};
use anyhow::Result;
use serde::Serialize;

/// The largest absolute difference of any dE_dw at any step of any learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Differences {
    /// Hand-derived equations against libtorch's autograd.
    pub(crate) hand_autograd: f64,
    /// Hand-derived equations against central finite differences.
    pub(crate) hand_finite_difference: f64,
    /// libtorch's autograd against central finite differences.
    pub(crate) autograd_finite_difference: f64,
}

impl Differences {
    /// Computes the gradient the other two ways at every row of `runs` and compares it with the row's own.
    pub(crate) fn of(problem: &Problem, runs: &[Run]) -> Result<Self> {
        let rows = || runs.iter().flat_map(|run| &run.rows);
        let weights: Vec<[f64; 8]> = rows().map(|row| row.weights()).collect();
        let by_autograd = autograd::gradients(problem, &weights)?;

        let mut largest = Self::default();
        for ((row, weights), autograd) in rows().zip(weights).zip(&by_autograd) {
            let hand = row.gradient();
            let finite = finite_difference::gradient(&Problem { weights, ..*problem });
            largest.hand_autograd = largest.hand_autograd.max(distance(&hand, autograd));
            largest.hand_finite_difference = largest.hand_finite_difference.max(distance(&hand, &finite));
            largest.autograd_finite_difference = largest.autograd_finite_difference.max(distance(autograd, &finite));
        }
        Ok(largest)
    }
}

/// The largest absolute difference of two gradients; infinite if one of them has a NaN, which `max` would ignore.
fn distance(a: &[f64; 8], b: &[f64; 8]) -> f64 {
    let apart = |(a, b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
    a.iter().zip(b).map(apart).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::{Row, descend};
    use super::*;

    #[test]
    fn a_wrong_gradient_is_seen() {
        let problem = Problem::default();
        let mut run = descend(&problem, 1.0, 3).unwrap();
        run.rows[1] = Row { de_dw3: run.rows[1].de_dw3 + 1e-3, ..run.rows[1] };
        let differences = Differences::of(&problem, &[run]).unwrap();
        assert!((differences.hand_autograd - 1e-3).abs() < 1e-12, "{differences:?}");
        assert!((differences.hand_finite_difference - 1e-3).abs() < 1e-9, "{differences:?}");
        assert!(differences.autograd_finite_difference < 1e-9, "{differences:?}");
    }

    #[test]
    fn a_nan_is_no_agreement() {
        assert_eq!(distance(&[f64::NAN; 8], &[0.0; 8]), f64::INFINITY);
    }
}
