//! Gradient descent: the table of steps, and when a learning rate diverges.

use super::{Error, Problem, Reason, Row};

/// The table of one learning rate.
#[derive(Clone, Debug)]
pub struct Run {
    /// The learning rate.
    pub lr: f64,
    /// One row per step; row 0 has the initial weights.
    pub rows: Vec<Row>,
}

impl Run {
    /// The first row.
    pub fn first(&self) -> &Row {
        &self.rows[0]
    }

    /// The last row.
    pub fn last(&self) -> &Row {
        &self.rows[self.rows.len() - 1]
    }
}

/// `steps` rows of gradient descent, at least one: each row's weights are those of the previous row minus `lr` times
/// its gradient.
///
/// # Errors
///
/// If the problem itself is too large for float64, or if `lr` diverges. The sigmoids bound the error, so a learning
/// rate that is far too large shows in one of two ways: a value overflows, or a step moves the weights so far that the
/// sigmoids are flat there and learning stops (see [`is_stranded`]).
pub fn descend(problem: &Problem, lr: f64, steps: usize) -> Result<Run, Error> {
    let mut problem = *problem;
    let mut rows: Vec<Row> = Vec::with_capacity(steps);
    for step in 0..steps.max(1) {
        let row = Row::at(step, &problem);
        if step == 0 && !row.is_finite() {
            return Err(Error::Overflows);
        }
        if !row.is_finite() {
            return Err(Error::Diverges { lr, reason: Reason::Overflow { step } });
        }
        if rows.first().is_some_and(|start| is_stranded(&row, start)) {
            let reason = Reason::Stranded { step: step - 1, e_total: row.e_total };
            return Err(Error::Diverges { lr, reason });
        }
        problem.weights = row.updated_weights(lr);
        rows.push(row);
    }
    Ok(Run { lr, rows })
}

/// Whether the gradient has vanished, compared with the first row's, while most of the error is still there. If the
/// error has vanished too, the descent has converged.
fn is_stranded(row: &Row, start: &Row) -> bool {
    let steepest = |row: &Row| row.gradient().into_iter().map(f64::abs).fold(0.0, f64::max);
    row.e_total > 0.5 * start.e_total && steepest(row) < f64::EPSILON * steepest(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_uses_the_old_weights_in_every_gradient() {
        let problem = Problem::default();
        let run = descend(&problem, 0.5, 2).unwrap();
        let gradient = Row::at(0, &problem).gradient();
        let expected: [f64; 8] = std::array::from_fn(|k| problem.weights[k] - 0.5 * gradient[k]);
        assert_eq!(run.rows[1].weights(), expected);
    }

    #[test]
    fn a_problem_that_overflows_is_no_fault_of_the_learning_rate() {
        let problem = Problem { inputs: [1e300, 1.0], weights: [1e300; 8], ..Problem::default() };
        assert!(matches!(descend(&problem, 1.0, 2), Err(Error::Overflows)));
    }

    #[test]
    fn a_learning_rate_that_is_too_small_does_not_diverge() {
        let run = descend(&Problem::default(), 1e-300, 5).unwrap();
        assert_eq!(run.last().weights(), Problem::default().weights);
    }

    #[test]
    fn a_target_that_is_reached_is_no_divergence() {
        // Both outputs are exactly 0.5 when w5 to w8 are 0.
        let problem =
            Problem { targets: [0.5, 0.5], weights: [0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 0.0, 0.0], ..Problem::default() };
        let run = descend(&problem, 1.0, 5).unwrap();
        assert_eq!(run.last().e_total, 0.0);
    }
}
