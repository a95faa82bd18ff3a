//! The table of `torchsummary.summary(model, input_size=(1, 28, 28))`, and each block's receptive field.

use super::architecture::Architecture;
use super::layers::Window;
use crate::shape::SIDE;

/// Bytes of a float32.
const FLOAT: f64 = 4.0;
/// torchsummary's MB.
const MB: f64 = 1024.0 * 1024.0;

/// The table for the net: a row per layer with its output shape and parameters, the totals, the sizes in memory.
pub(crate) fn table(architecture: &Architecture) -> String {
    let heavy = "=".repeat(64);
    let light = "-".repeat(64);
    let mut lines =
        vec![light.clone(), format!("{:>20}  {:>25} {:>15}", "Layer (type)", "Output Shape", "Param #"), heavy.clone()];
    let (mut activations, mut parameters) = (0, 0);
    for (number, named) in (1..).zip(architecture.layers()) {
        let own = named.layer.parameters();
        let shape: Vec<String> = named.output.iter().map(ToString::to_string).collect();
        let shape = format!("[-1, {}]", shape.join(", "));
        let name = format!("{}-{number}", named.layer.class());
        lines.push(format!("{name:>20}  {shape:>25} {:>15}", thousands(own)));
        activations += named.output.iter().product::<i64>();
        parameters += own;
    }
    let input_mb = (SIDE * SIDE) as f64 * FLOAT / MB;
    // torchsummary counts every output twice: once forward, once for its gradient.
    let activations_mb = 2.0 * activations as f64 * FLOAT / MB;
    let parameters_mb = parameters as f64 * FLOAT / MB;
    lines.extend([
        heavy,
        format!("Total params: {}", thousands(parameters)),
        format!("Trainable params: {}", thousands(parameters)),
        "Non-trainable params: 0".to_string(),
        light.clone(),
        format!("Input size (MB): {input_mb:.2}"),
        format!("Forward/backward pass size (MB): {activations_mb:.2}"),
        format!("Params size (MB): {parameters_mb:.2}"),
        format!("Estimated Total Size (MB): {:.2}", input_mb + activations_mb + parameters_mb),
        light,
    ]);
    lines.join("\n")
}

/// A row per member of the net: its name, the size of its output, and its receptive field, the part of the image that
/// one number of its output depends on. A size is one number if height and width are equal.
pub(crate) fn receptive_fields(architecture: &Architecture) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let side = SIDE as i64;
    let mut input = vec![1, side, side];
    // The distance in the image between two neighbours of the output so far, and the size of what one of them sees.
    let (mut jump, mut field) = ([1, 1], [1, 1]);
    for named in architecture.layers() {
        match named.layer.window(&input) {
            Window::Point => {}
            Window::Moving { span, step } => {
                for axis in [0, 1] {
                    field[axis] += (span[axis] - 1) * jump[axis];
                    jump[axis] *= step[axis];
                }
            }
            // With padding it may see more than the image already.
            Window::Whole => field = field.map(|field| field.max(side)),
        }
        let output = match named.output[..] {
            [_, height, width] => size([height, width]),
            [features] if features > 1 => format!("{features} features"),
            _ => size([1, 1]),
        };
        let columns = format!("{output:>12} {:>16}", size(field));
        rows.pop_if(|(member, _)| *member == named.member());
        rows.push((named.member(), columns));
        input.clone_from(&named.output);
    }
    let mut lines = vec![format!("{:>20}  {:>12} {:>16}", "Block", "Output size", "Receptive field")];
    lines.extend(rows.into_iter().map(|(member, columns)| format!("{member:>20}  {columns}")));
    lines.join("\n")
}

/// `6` for [6, 6], `6x4` for [6, 4].
fn size([height, width]: [i64; 2]) -> String {
    if height == width { height.to_string() } else { format!("{height}x{width}") }
}

/// `11392` as `11,392`.
fn thousands(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receptive_fields_follow_the_usual_recurrence() {
        let text = receptive_fields(&Architecture::original(0.0));
        let fields: Vec<&str> = text.lines().skip(1).map(|line| line.split_whitespace().last().unwrap()).collect();
        assert_eq!(fields, ["3", "5", "5", "6", "10", "14", "18", "22", "32", "32"]);
    }

    #[test]
    fn thousands_are_separated_by_commas() {
        let numbers = [(0, "0"), (140, "140"), (4608, "4,608"), (11392, "11,392"), (1000000, "1,000,000")];
        for (number, text) in numbers {
            assert_eq!(thousands(number), text);
        }
    }
}
