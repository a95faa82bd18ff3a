use super::number::number;

/// Why a table or its picture cannot be made. Displays as one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The weights, inputs or targets are too large for float64.
    #[error("the first forward and backward pass overflows: the weights, inputs or targets are too large")]
    Overflows,
    /// The learning rate is too large.
    #[error("the learning rate {} diverges: {reason}", number(*lr))]
    Diverges {
        /// The learning rate.
        lr: f64,
        /// How that shows.
        reason: Reason,
    },
    /// The table cannot be written as CSV.
    #[error("the table cannot be written as CSV")]
    Csv(#[from] csv::Error),
    /// A picture cannot be drawn.
    #[error(transparent)]
    Picture(#[from] canvas::Error),
}

/// How a learning rate shows that it is too large.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Reason {
    /// A value became infinite or NaN.
    #[error("a value overflows at step {step}")]
    Overflow {
        /// The step that has the value.
        step: usize,
    },
    /// All gradients have vanished, while the error has not.
    #[error(
        "step {step} moves the weights so far that the sigmoids are flat and learning stops, with E_total at {}",
        number(*e_total)
    )]
    Stranded {
        /// The step whose update does it.
        step: usize,
        /// The error from then on.
        e_total: f64,
    },
}
