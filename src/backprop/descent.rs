//! Gradient descent: the table of steps, and what a learning rate that diverges is.

use super::number::number;
use super::{Problem, Row};
use anyhow::{Result, bail};

/// The table of one learning rate.
#[derive(Clone, Debug)]
pub struct Run {
    /// The learning rate.
    pub lr: f64,
    /// One row a step; row 0 holds the weights that were given.
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

/// `steps` rows of gradient descent, at least one: each row's weights are those of the row before, less `lr` times
/// its gradient.
///
/// # Errors
///
/// When the problem itself is too large for float64, or when `lr` diverges. The sigmoid bounds the error, so a
/// learning rate shows that it is far too large in one of two ways: a value overflows, or the weights are thrown so
/// far that every sigmoid is flat in float64 and every gradient is exactly 0, with the targets not reached.
pub fn descend(problem: &Problem, lr: f64, steps: usize) -> Result<Run> {
    let mut problem = *problem;
    let mut rows: Vec<Row> = Vec::with_capacity(steps);
    for step in 0..steps.max(1) {
        let row = Row::at(step, &problem);
        let stuck = row.e_total > 0.0 && row.gradient() == [0.0; 8];
        if step == 0 && !row.is_finite() {
            bail!("the first forward and backward pass overflows: give smaller --weights, --inputs or --targets");
        }
        if !row.is_finite() {
            bail!("--lr {} diverges: a value overflows at step {step}; give a smaller --lr", number(lr));
        }
        if stuck && rows.last().is_some_and(|before| before.gradient() != [0.0; 8]) {
            bail!(
                "--lr {} diverges: step {} throws the weights so far that every gradient is exactly 0 from step {step} on, with E_total at {}; give a smaller --lr",
                number(lr),
                step - 1,
                number(row.e_total)
            );
        }
        problem.weights = row.updated_weights(lr);
        rows.push(row);
    }
    Ok(Run { lr, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_uses_the_old_weights_in_every_gradient() {
        let problem = Problem::default();
        let run = descend(&problem, 0.5, 2).unwrap();
        let gradient = Row::at(0, &problem).gradient();
        for k in 0..8 {
            assert_eq!(run.rows[1].weights()[k], problem.weights[k] - 0.5 * gradient[k]);
        }
    }

    #[test]
    fn a_problem_that_overflows_is_no_fault_of_the_learning_rate() {
        let problem = Problem { inputs: [1e300, 1.0], weights: [1e300; 8], ..Problem::default() };
        let error = descend(&problem, 1.0, 2).unwrap_err().to_string();
        assert!(error.contains("smaller --weights"), "{error}");
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
