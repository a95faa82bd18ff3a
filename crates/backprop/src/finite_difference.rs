//! The gradient by central finite differences: no derivative, only the forward pass at weights a little to each side.

use super::{Problem, Row};

/// dE_dw1 to dE_dw8 at the weights of `problem`: (E_total(w + h) - E_total(w - h)) / 2h for each weight in turn.
///
/// The formula is off by about h² times the third derivative, and by about ε / h because E_total is rounded to a
/// relative ε = 2.2e-16. Both are small at h = ∛ε = 6e-6: about 1e-11 where weights and E_total are near 1.
/// As h² grows with the weight's size, so does h.
pub(crate) fn gradient(problem: &Problem) -> [f64; 8] {
    std::array::from_fn(|k| {
        let w = problem.weights[k];
        let h = f64::EPSILON.cbrt() * w.abs().max(1.0);
        let (right, left) = (w + h, w - h);
        // right - left is 2h as it was rounded.
        (e_total(problem, k, right) - e_total(problem, k, left)) / (right - left)
    })
}

/// E_total with the weight of index `k` set to `weight`.
fn e_total(problem: &Problem, k: usize, weight: f64) -> f64 {
    let mut moved = *problem;
    moved.weights[k] = weight;
    Row::at(0, &moved).e_total
}
