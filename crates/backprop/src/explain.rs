//! One step with all its numbers, for a reader with pencil and paper.
//!
//! Forward, the chain rule in six steps, the update. Numbers are shown with six significant digits; every result is
//! computed in float64 and rounded only when shown.

use super::number::{factor, number};
use super::{Row, Run, drawing};

/// No line is wider than this.
const WIDTH: usize = 100;

/// `left = formula = numbers = result`.
struct Equation {
    left: String,
    formula: String,
    numbers: String,
    result: f64,
}

fn equation(left: impl Into<String>, formula: impl Into<String>, numbers: String, result: f64) -> Equation {
    Equation { left: left.into(), formula: formula.into(), numbers, result }
}

/// Step `step` of `run` in full, line by line. The step must be in the table.
pub fn step(run: &Run, step: usize) -> Vec<String> {
    let row = &run.rows[step];
    let mut lines = vec![format!("Step {step} at learning rate {}", number(run.lr)), String::new()];
    lines.extend(drawing::network(row));
    lines.push(String::new());
    lines.push("Forward: each neuron adds its inputs, each times its weight, and takes the sigmoid".into());
    lines.extend(aligned(&forward(row)));
    lines.push(String::new());
    lines.push("Backward: the chain rule in six steps".into());
    lines.extend(backward(row));
    lines.push(String::new());
    lines.push("Update: w - lr · ∂E_total/∂w, every gradient taken at the old weights".into());
    lines.extend(aligned(&update(row, run.lr)));
    lines
}

fn forward(row: &Row) -> Vec<Equation> {
    let sum =
        |w: [f64; 2], x: [f64; 2]| format!("{}·{} + {}·{}", factor(w[0]), factor(x[0]), factor(w[1]), factor(x[1]));
    let sigmoid =
        |x: f64| if x < 0.0 { format!("1 / (1 + e^{})", number(-x)) } else { format!("1 / (1 + e^-{})", number(x)) };
    let error = |t: f64, a: f64| format!("½ ({} - {})²", number(t), number(a));
    let Row { i1, i2, w1, w2, w3, w4, h1, a_h1, h2, a_h2, w5, w6, w7, w8, o1, a_o1, o2, a_o2, .. } = *row;
    vec![
        equation("h1", "w1·i1 + w2·i2", sum([w1, w2], [i1, i2]), h1),
        equation("h2", "w3·i1 + w4·i2", sum([w3, w4], [i1, i2]), h2),
        equation("a_h1", "1 / (1 + e^-h1)", sigmoid(h1), a_h1),
        equation("a_h2", "1 / (1 + e^-h2)", sigmoid(h2), a_h2),
        equation("o1", "w5·a_h1 + w6·a_h2", sum([w5, w6], [a_h1, a_h2]), o1),
        equation("o2", "w7·a_h1 + w8·a_h2", sum([w7, w8], [a_h1, a_h2]), o2),
        equation("a_o1", "1 / (1 + e^-o1)", sigmoid(o1), a_o1),
        equation("a_o2", "1 / (1 + e^-o2)", sigmoid(o2), a_o2),
        equation("E1", "½ (t1 - a_o1)²", error(row.t1, a_o1), row.e1),
        equation("E2", "½ (t2 - a_o2)²", error(row.t2, a_o2), row.e2),
        equation("E_total", "E1 + E2", format!("{} + {}", number(row.e1), number(row.e2)), row.e_total),
    ]
}

fn backward(row: &Row) -> Vec<String> {
    let (to_hidden, de_da_h) = gradient_at_hidden(row);
    [output_gradient(row), to_hidden, hidden_gradient(row, de_da_h)].concat()
}

/// ∂E1/∂a_o1 and ∂E2/∂a_o2.
fn gradient_at_outputs(row: &Row) -> [f64; 2] {
    [row.a_o1 - row.t1, row.a_o2 - row.t2]
}

/// The derivative of a sigmoid whose value is `a`.
fn slope(a: f64) -> f64 {
    a * (1.0 - a)
}

fn slope_numbers(a: f64) -> String {
    format!("{} (1 - {})", number(a), number(a))
}

fn product(factors: [f64; 3]) -> String {
    factors.map(factor).join(" · ")
}

/// Steps 1 to 3: from the errors to w5 to w8.
fn output_gradient(row: &Row) -> Vec<String> {
    let Row { t1, t2, a_h1, a_h2, a_o1, a_o2, .. } = *row;
    let [de1_da, de2_da] = gradient_at_outputs(row);
    let mut lines = vec![
        "1. Which error does w5 reach? Only E1, by one path: w5 → o1 → a_o1 → E1. So one term:".to_string(),
        "     ∂E_total/∂w5 = ∂E1/∂a_o1 · ∂a_o1/∂o1 · ∂o1/∂w5".to_string(),
        "   w6 goes the same way; w7 and w8 go through o2 to E2.".to_string(),
        "2. The factors, one by one (the derivative of a sigmoid a is a (1 - a)):".to_string(),
    ];
    lines.extend(aligned(&[
        equation("∂E1/∂a_o1", "a_o1 - t1", format!("{} - {}", number(a_o1), factor(t1)), de1_da),
        equation("∂E2/∂a_o2", "a_o2 - t2", format!("{} - {}", number(a_o2), factor(t2)), de2_da),
        equation("∂a_o1/∂o1", "a_o1 (1 - a_o1)", slope_numbers(a_o1), slope(a_o1)),
        equation("∂a_o2/∂o2", "a_o2 (1 - a_o2)", slope_numbers(a_o2), slope(a_o2)),
        equation("∂o1/∂w5", "∂o2/∂w7", "a_h1".into(), a_h1),
        equation("∂o1/∂w6", "∂o2/∂w8", "a_h2".into(), a_h2),
    ]));

    lines.push("3. Their products are the gradient of the output layer:".to_string());
    let output = |k: usize, o: usize, h: usize, factors: [f64; 3], result: f64| {
        let formula = format!("∂E{o}/∂a_o{o} · ∂a_o{o}/∂o{o} · a_h{h}");
        equation(format!("∂E_total/∂w{k}"), formula, product(factors), result)
    };
    lines.extend(aligned(&[
        output(5, 1, 1, [de1_da, slope(a_o1), a_h1], row.de_dw5),
        output(6, 1, 2, [de1_da, slope(a_o1), a_h2], row.de_dw6),
        output(7, 2, 1, [de2_da, slope(a_o2), a_h1], row.de_dw7),
        output(8, 2, 2, [de2_da, slope(a_o2), a_h2], row.de_dw8),
    ]));
    lines
}

/// Step 4: from the errors back to the hidden neurons. Also returns ∂E_total/∂a_h1 and ∂E_total/∂a_h2.
fn gradient_at_hidden(row: &Row) -> (Vec<String>, [f64; 2]) {
    let Row { w5, w6, w7, w8, a_o1, a_o2, .. } = *row;
    let [de1_da, de2_da] = gradient_at_outputs(row);
    let back = |o: usize, h: usize, w: usize, factors: [f64; 3]| {
        let formula = format!("∂E{o}/∂a_o{o} · ∂a_o{o}/∂o{o} · w{w}");
        equation(format!("∂E{o}/∂a_h{h}"), formula, product(factors), factors.iter().product())
    };
    let ways = [
        back(1, 1, 5, [de1_da, slope(a_o1), w5]),
        back(2, 1, 7, [de2_da, slope(a_o2), w7]),
        back(1, 2, 6, [de1_da, slope(a_o1), w6]),
        back(2, 2, 8, [de2_da, slope(a_o2), w8]),
    ];
    let total = |h: usize, a: &Equation, b: &Equation| {
        let formula = format!("∂E1/∂a_h{h} + ∂E2/∂a_h{h}");
        let numbers = format!("{} + {}", number(a.result), factor(b.result));
        equation(format!("∂E_total/∂a_h{h}"), formula, numbers, a.result + b.result)
    };
    let totals = [total(1, &ways[0], &ways[1]), total(2, &ways[2], &ways[3])];
    let mut lines = vec![
        "4. a_h1 reaches both errors, E1 along w5 and E2 along w7, and the two ways back add up:".to_string(),
        "     ∂E_total/∂a_h1 = ∂E1/∂a_h1 + ∂E2/∂a_h1".to_string(),
    ];
    lines.extend(aligned(&ways));
    lines.extend(aligned(&totals));
    (lines, totals.map(|total| total.result))
}

/// Steps 5 and 6: from the hidden neurons, where the gradient is `de_da_h`, to w1 to w4.
fn hidden_gradient(row: &Row, [de_da_h1, de_da_h2]: [f64; 2]) -> Vec<String> {
    let Row { i1, i2, a_h1, a_h2, .. } = *row;
    let mut lines = vec![
        "5. From a_h1 to w1 the chain goes on through the hidden sigmoid, w1 → h1 → a_h1:".to_string(),
        "     ∂E_total/∂w1 = ∂E_total/∂a_h1 · ∂a_h1/∂h1 · ∂h1/∂w1".to_string(),
    ];
    lines.extend(aligned(&[
        equation("∂a_h1/∂h1", "a_h1 (1 - a_h1)", slope_numbers(a_h1), slope(a_h1)),
        equation("∂a_h2/∂h2", "a_h2 (1 - a_h2)", slope_numbers(a_h2), slope(a_h2)),
        equation("∂h1/∂w1", "∂h2/∂w3", "i1".into(), i1),
        equation("∂h1/∂w2", "∂h2/∂w4", "i2".into(), i2),
    ]));

    lines.push("6. Their products are the gradient of the hidden layer:".to_string());
    let hidden = |k: usize, h: usize, i: usize, factors: [f64; 3], result: f64| {
        let formula = format!("∂E_total/∂a_h{h} · ∂a_h{h}/∂h{h} · i{i}");
        equation(format!("∂E_total/∂w{k}"), formula, product(factors), result)
    };
    lines.extend(aligned(&[
        hidden(1, 1, 1, [de_da_h1, slope(a_h1), i1], row.de_dw1),
        hidden(2, 1, 2, [de_da_h1, slope(a_h1), i2], row.de_dw2),
        hidden(3, 2, 1, [de_da_h2, slope(a_h2), i1], row.de_dw3),
        hidden(4, 2, 2, [de_da_h2, slope(a_h2), i2], row.de_dw4),
    ]));
    lines
}

fn update(row: &Row, lr: f64) -> Vec<Equation> {
    let (weights, gradient, updated) = (row.weights(), row.gradient(), row.updated_weights(lr));
    let line = |k: usize| {
        let formula = format!("w{0} - lr · ∂E_total/∂w{0}", k + 1);
        let numbers = format!("{} - {} · {}", number(weights[k]), number(lr), factor(gradient[k]));
        equation(format!("new w{}", k + 1), formula, numbers, updated[k])
    };
    (0..8).map(line).collect()
}

/// Equations with their equals signs aligned; if that is too wide, the numbers go on a line of their own.
fn aligned(equations: &[Equation]) -> Vec<String> {
    let width = |part: fn(&Equation) -> &str| equations.iter().map(|e| part(e).chars().count()).max().unwrap_or(0);
    let (left, formula, numbers) = (width(|e| &e.left), width(|e| &e.formula), width(|e| &e.numbers));
    let whole = |e: &Equation| {
        let Equation { left: l, formula: f, numbers: n, result } = e;
        format!("     {l:<left$} = {f:<formula$} = {n:<numbers$} = {}", number(*result))
    };
    let lines: Vec<String> = equations.iter().map(whole).collect();
    if lines.iter().all(|line| line.chars().count() <= WIDTH) {
        return lines;
    }
    let broken = |e: &Equation| {
        let Equation { left: l, formula: f, numbers: n, result } = e;
        [format!("     {l:<left$} = {f}"), format!("     {:<left$} = {n} = {}", "", number(*result))]
    };
    equations.iter().flat_map(broken).collect()
}
