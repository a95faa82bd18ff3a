//! The forward pass and the hand-derived gradient of the 2-2-2 network, one line per equation.
//!
//! ```text
//! i1 --w1--> h1 --w5--> o1 -> E1      i1 --w3--> h2      h1 --w7--> o2
//! i2 --w4--> h2 --w8--> o2 -> E2      i2 --w2--> h1      h2 --w6--> o1
//! ```
//!
//! The names are those of the original spreadsheet: `h1` is the input of a neuron, `a_h1` its output.

use serde::Serialize;

/// The network's inputs, its targets, and its initial weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Problem {
    /// i1, i2.
    pub inputs: [f64; 2],
    /// t1, t2; a sigmoid reaches only values between 0 and 1.
    pub targets: [f64; 2],
    /// w1 to w8.
    pub weights: [f64; 8],
}

impl Default for Problem {
    /// The numbers of the original spreadsheet.
    fn default() -> Self {
        Self { inputs: [0.05, 0.1], targets: [0.01, 0.99], weights: [0.15, 0.2, 0.25, 0.3, 0.4, 0.45, 0.5, 0.55] }
    }
}

/// A row of the table: all values of one step, before the weights change.
///
/// The fields stand in the order of the spreadsheet's columns, and are written under its names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The number of updates before this row.
    pub step: usize,
    /// The target of `a_o1`.
    pub t1: f64,
    /// The target of `a_o2`.
    pub t2: f64,
    /// The first input.
    pub i1: f64,
    /// The second input.
    pub i2: f64,
    /// The weight from i1 to h1.
    pub w1: f64,
    /// The weight from i2 to h1.
    pub w2: f64,
    /// The weight from i1 to h2.
    pub w3: f64,
    /// The weight from i2 to h2.
    pub w4: f64,
    /// The input of the first hidden neuron.
    pub h1: f64,
    /// Its output.
    pub a_h1: f64,
    /// The input of the second hidden neuron.
    pub h2: f64,
    /// Its output.
    pub a_h2: f64,
    /// The weight from a_h1 to o1.
    pub w5: f64,
    /// The weight from a_h2 to o1.
    pub w6: f64,
    /// The weight from a_h1 to o2.
    pub w7: f64,
    /// The weight from a_h2 to o2.
    pub w8: f64,
    /// The input of the first output neuron.
    pub o1: f64,
    /// Its output.
    pub a_o1: f64,
    /// The input of the second output neuron.
    pub o2: f64,
    /// Its output.
    pub a_o2: f64,
    /// The error of the first output.
    #[serde(rename = "E1")]
    pub e1: f64,
    /// The error of the second output.
    #[serde(rename = "E2")]
    pub e2: f64,
    /// The sum of both.
    #[serde(rename = "E_total")]
    pub e_total: f64,
    /// ∂E_total/∂w1.
    #[serde(rename = "dE_dw1")]
    pub de_dw1: f64,
    /// ∂E_total/∂w2.
    #[serde(rename = "dE_dw2")]
    pub de_dw2: f64,
    /// ∂E_total/∂w3.
    #[serde(rename = "dE_dw3")]
    pub de_dw3: f64,
    /// ∂E_total/∂w4.
    #[serde(rename = "dE_dw4")]
    pub de_dw4: f64,
    /// ∂E_total/∂w5.
    #[serde(rename = "dE_dw5")]
    pub de_dw5: f64,
    /// ∂E_total/∂w6.
    #[serde(rename = "dE_dw6")]
    pub de_dw6: f64,
    /// ∂E_total/∂w7.
    #[serde(rename = "dE_dw7")]
    pub de_dw7: f64,
    /// ∂E_total/∂w8.
    #[serde(rename = "dE_dw8")]
    pub de_dw8: f64,
}

impl Row {
    /// The row of `step` at the weights of `problem`.
    ///
    /// # Forward
    ///
    /// A neuron adds its inputs, each times its weight, and takes the sigmoid of the sum. The error of an
    /// output is half its squared distance from its target.
    ///
    /// # Backward
    ///
    /// Two derivatives carry the rest. Of the squared error, E1 = ½ (t1 - a_o1)²:
    ///
    /// > ∂E1/∂a_o1 = -(t1 - a_o1) = a_o1 - t1
    ///
    /// Of the sigmoid, a = 1 / (1 + e^-x):
    ///
    /// > ∂a/∂x = e^-x / (1 + e^-x)² = a (1 - a)
    ///
    /// **The output layer.** w5 reaches E_total by one path, w5 → o1 → a_o1 → E1, so the chain rule has one term:
    ///
    /// > ∂E_total/∂w5 = ∂E1/∂a_o1 · ∂a_o1/∂o1 · ∂o1/∂w5 = (a_o1 - t1) · a_o1 (1 - a_o1) · a_h1
    ///
    /// for o1 = w5 a_h1 + w6 a_h2 makes ∂o1/∂w5 = a_h1. In w6 the last factor is a_h2. w7 and w8 reach E2, through o2.
    /// The first two factors are the same for both weights of an output: they are ∂E_total/∂o1, `de_do1` below.
    ///
    /// **The hidden layer.** a_h1 reaches E_total by two paths, through o1 along w5 and through o2 along w7, and the
    /// chain rule adds what comes back by each:
    ///
    /// > ∂E_total/∂a_h1 = ∂E1/∂a_h1 + ∂E2/∂a_h1 = ∂E1/∂o1 · w5 + ∂E2/∂o2 · w7
    ///
    /// From there w1 is one more sigmoid and one more product away, as h1 = w1 i1 + w2 i2 makes ∂h1/∂w1 = i1:
    ///
    /// > ∂E_total/∂w1 = ∂E_total/∂a_h1 · ∂a_h1/∂h1 · ∂h1/∂w1 = ∂E_total/∂a_h1 · a_h1 (1 - a_h1) · i1
    ///
    /// In w2 the last factor is i2. w3 and w4 come from a_h2 in the same way, along w6 and w8.
    pub fn at(step: usize, problem: &Problem) -> Self {
        let [i1, i2] = problem.inputs;
        let [t1, t2] = problem.targets;
        let [w1, w2, w3, w4, w5, w6, w7, w8] = problem.weights;

        let h1 = w1 * i1 + w2 * i2;
        let h2 = w3 * i1 + w4 * i2;
        let a_h1 = sigmoid(h1);
        let a_h2 = sigmoid(h2);
        let o1 = w5 * a_h1 + w6 * a_h2;
        let o2 = w7 * a_h1 + w8 * a_h2;
        let a_o1 = sigmoid(o1);
        let a_o2 = sigmoid(o2);
        let e1 = 0.5 * (t1 - a_o1).powi(2);
        let e2 = 0.5 * (t2 - a_o2).powi(2);
        let e_total = e1 + e2;

        let de_do1 = (a_o1 - t1) * a_o1 * (1.0 - a_o1);
        let de_do2 = (a_o2 - t2) * a_o2 * (1.0 - a_o2);
        let de_dw5 = de_do1 * a_h1;
        let de_dw6 = de_do1 * a_h2;
        let de_dw7 = de_do2 * a_h1;
        let de_dw8 = de_do2 * a_h2;

        let de_da_h1 = de_do1 * w5 + de_do2 * w7;
        let de_da_h2 = de_do1 * w6 + de_do2 * w8;
        let de_dw1 = de_da_h1 * a_h1 * (1.0 - a_h1) * i1;
        let de_dw2 = de_da_h1 * a_h1 * (1.0 - a_h1) * i2;
        let de_dw3 = de_da_h2 * a_h2 * (1.0 - a_h2) * i1;
        let de_dw4 = de_da_h2 * a_h2 * (1.0 - a_h2) * i2;

        #[rustfmt::skip]
        let row = Self {
            step, t1, t2, i1, i2,
            w1, w2, w3, w4, h1, a_h1, h2, a_h2,
            w5, w6, w7, w8, o1, a_o1, o2, a_o2,
            e1, e2, e_total,
            de_dw1, de_dw2, de_dw3, de_dw4, de_dw5, de_dw6, de_dw7, de_dw8,
        };
        row
    }

    /// w1 to w8.
    pub fn weights(&self) -> [f64; 8] {
        [self.w1, self.w2, self.w3, self.w4, self.w5, self.w6, self.w7, self.w8]
    }

    /// dE_dw1 to dE_dw8: the hand-derived gradient.
    pub fn gradient(&self) -> [f64; 8] {
        [self.de_dw1, self.de_dw2, self.de_dw3, self.de_dw4, self.de_dw5, self.de_dw6, self.de_dw7, self.de_dw8]
    }

    /// w1 to w8 after this step at learning rate `lr`: w - lr · dE_dw, every gradient taken at the old weights.
    pub fn updated_weights(&self, lr: f64) -> [f64; 8] {
        let (weights, gradient) = (self.weights(), self.gradient());
        std::array::from_fn(|k| weights[k] - lr * gradient[k])
    }

    /// Whether every value is a number: neither infinite nor NaN.
    pub fn is_finite(&self) -> bool {
        let sums = [self.h1, self.h2, self.o1, self.o2, self.e_total];
        sums.iter().chain(&self.weights()).chain(&self.gradient()).all(|value| value.is_finite())
    }
}

/// 1 / (1 + e^-x), as `torch.sigmoid`.
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
