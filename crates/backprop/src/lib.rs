//! Backpropagation by hand on a 2-2-2 network, in float64.
//!
//! Two inputs, two hidden neurons, two outputs, a sigmoid after each of the four, no biases, the squared error. The
//! network is small enough for a pencil, so every number can be shown, and the same gradient is computed three ways:
//! by hand, by central finite differences, and by an autograd that the caller brings.
//!
//! ```
//! use backprop::{Problem, descend};
//!
//! let run = descend(&Problem::default(), 0.5, 100)?;
//! assert!(run.last().e_total < run.first().e_total);
//! println!("{}", backprop::explain::step(&run, 0).join("\n"));
//! # Ok::<(), backprop::Error>(())
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | `network` | the forward pass and the hand-derived gradient, one line per equation |
//! | `finite_difference` | the gradient by central finite differences |
//! | `compare` | the largest difference between each pair of the three gradients |
//! | `descent` | gradient descent: the table of steps, and when a learning rate diverges |
//! | [`table`] | the table as CSV and as text |
//! | [`explain`] | one step with all its numbers |
//! | `drawing` | the network drawn in text |
//! | [`chart`] | E_total over the steps as text |
//! | [`pictures`] | the network and E_total over the steps as SVG |
//! | [`number`] | how a number is written for people |

#![deny(missing_docs, unreachable_pub)]

pub mod chart;
mod compare;
mod descent;
mod drawing;
mod error;
pub mod explain;
mod finite_difference;
mod network;
pub mod number;
pub mod pictures;
pub mod table;

pub use compare::Differences;
pub use descent::{Run, descend};
pub use error::{Error, Reason};
pub use network::{Problem, Row};
