//! The same gradient three ways, and the largest difference between each pair of the three.

use super::{Problem, Run, finite_difference};
use serde::Serialize;

/// The largest absolute difference of any dE_dw at any step of any learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Differences {
    /// Hand-derived equations against autograd.
    pub hand_autograd: f64,
    /// Hand-derived equations against central finite differences.
    pub hand_finite_difference: f64,
    /// Autograd against central finite differences.
    pub autograd_finite_difference: f64,
}

impl Differences {
    /// Computes the gradient the other two ways at every row of `runs` and compares it with the row's own.
    ///
    /// `autograd` gets `problem` and sets of weights, and returns dE_dw1 to dE_dw8 for each set.
    pub fn of<E>(
        problem: &Problem,
        runs: &[Run],
        autograd: impl FnOnce(&Problem, &[[f64; 8]]) -> Result<Vec<[f64; 8]>, E>,
    ) -> Result<Self, E> {
        let rows = || runs.iter().flat_map(|run| &run.rows);
        let weights: Vec<[f64; 8]> = rows().map(|row| row.weights()).collect();
        let by_autograd = autograd(problem, &weights)?;
        assert_eq!(by_autograd.len(), weights.len(), "one gradient for each set of weights");

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
    use std::convert::Infallible;

    /// The hand-derived equations once more, for an autograd.
    fn by_hand(problem: &Problem, weights: &[[f64; 8]]) -> Result<Vec<[f64; 8]>, Infallible> {
        Ok(weights.iter().map(|&weights| Row::at(0, &Problem { weights, ..*problem }).gradient()).collect())
    }

    #[test]
    fn the_equations_agree_with_finite_differences_at_every_step() {
        let problem = Problem::default();
        let runs = [0.1, 1.0, 2.0].map(|lr| descend(&problem, lr, 50).unwrap());
        let differences = Differences::of(&problem, &runs, by_hand).unwrap();
        assert_eq!(differences.hand_autograd, 0.0);
        // Finite differences are never exact: a 0 would mean that a gradient was compared with itself.
        let finite = differences.hand_finite_difference;
        assert!(finite > 0.0 && finite < 1e-9, "{differences:?}");
    }

    #[test]
    fn a_wrong_gradient_is_seen() {
        let problem = Problem::default();
        let mut run = descend(&problem, 1.0, 3).unwrap();
        run.rows[1] = Row { de_dw3: run.rows[1].de_dw3 + 1e-3, ..run.rows[1] };
        let differences = Differences::of(&problem, &[run], by_hand).unwrap();
        assert!((differences.hand_autograd - 1e-3).abs() < 1e-12, "{differences:?}");
        assert!((differences.hand_finite_difference - 1e-3).abs() < 1e-9, "{differences:?}");
        assert!(differences.autograd_finite_difference < 1e-9, "{differences:?}");
    }

    #[test]
    fn a_nan_is_no_agreement() {
        assert_eq!(distance(&[f64::NAN; 8], &[0.0; 8]), f64::INFINITY);
    }
}
