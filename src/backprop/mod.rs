//! Part 1: backpropagation by hand on a 2-2-2 network, in float64.
//!
//! Two inputs, two hidden neurons, two outputs, a sigmoid after each of the four, no biases, the squared error. The
//! network is small enough for a pencil, so the same gradient is computed three ways and the ways are compared:
//!
//! | module | one idea |
//! |---|---|
//! | [`network`] | the forward pass and the hand-derived gradient, one line per equation |
//! | [`autograd`] | the gradient by libtorch's autograd |
//! | [`finite_difference`] | the gradient by central finite differences |
//! | [`compare`] | the largest difference between each pair of the three |
//! | [`descent`] | gradient descent: the table of steps, and when a learning rate diverges |
//! | [`table`] | the table as CSV and as text |
//! | [`explain`] | one step with all its numbers |
//! | [`drawing`] | the network drawn in text |
//! | [`chart`] | E_total over the steps as text |
//! | [`pictures`] | the network and E_total over the steps as SVG |
//! | [`number`] | how a number is written for people |

pub(crate) mod autograd;
pub(crate) mod chart;
pub(crate) mod compare;
pub(crate) mod descent;
pub(crate) mod drawing;
pub(crate) mod explain;
pub(crate) mod finite_difference;
pub(crate) mod network;
pub(crate) mod number;
pub(crate) mod pictures;
pub(crate) mod table;

pub(crate) use compare::Differences;
pub(crate) use descent::{Run, descend};
pub(crate) use network::{Problem, Row};
