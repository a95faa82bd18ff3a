//! The table of `torchsummary.summary(model, input_size=(1, 28, 28))`, and each layer's receptive field and multiply-adds.

use super::architecture::{Architecture, NamedLayer};
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

/// A layer of a net in numbers.
pub(crate) struct Row {
    /// Its path and its class: `convblock1.0` and `Conv2d`.
    pub(crate) path: String,
    pub(crate) class: &'static str,
    /// The shape of its output, such as `16x26x26`.
    pub(crate) output: String,
    pub(crate) parameters: i64,
    /// The products that it sums for one image.
    pub(crate) multiply_adds: i64,
    /// Height and width of the part of the image that one number of its output depends on.
    pub(crate) field: [i64; 2],
}

impl Row {
    /// The receptive field as text: one number if height and width are equal.
    pub(crate) fn field(&self) -> String {
        let [height, width] = self.field;
        if height == width { height.to_string() } else { format!("{height}x{width}") }
    }
}

/// The layers of the net in numbers. Receptive fields follow the usual recurrence: a window of width k adds (k - 1) times
/// the jump, and a stride multiplies the jump.
pub(crate) fn rows(architecture: &Architecture) -> Vec<Row> {
    let side = SIDE as i64;
    let mut input = vec![1, side, side];
    // The distance in the image between two neighbours of the output so far, and the size of what one of them sees.
    let (mut jump, mut field) = ([1, 1], [1, 1]);
    let mut row = |named: &NamedLayer| {
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
        input.clone_from(&named.output);
        Row {
            path: named.path.clone(),
            class: named.layer.class(),
            output: named.output.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"),
            parameters: named.layer.parameters(),
            multiply_adds: named.layer.multiply_adds(&named.output),
            field,
        }
    };
    architecture.layers().iter().map(&mut row).collect()
}

/// A line per layer: its path and class, the shape of its output, its receptive field, its multiply-adds; and the sum of
/// these.
pub(crate) fn layers(architecture: &Architecture) -> String {
    let line = |name: &str, output: &str, field: &str, products: &str| {
        format!("{name:<32} {output:>12} {field:>16} {products:>14}")
    };
    let rows = rows(architecture);
    let mut lines = vec![line("Layer", "Output", "Receptive field", "Multiply-adds")];
    lines.extend(rows.iter().map(|row| {
        let name = format!("{} {}", row.path, row.class);
        line(&name, &row.output, &row.field(), &thousands(row.multiply_adds))
    }));
    let sum = rows.iter().map(|row| row.multiply_adds).sum();
    lines.push(format!("Total multiply-adds per image, of convolutions and linear layers: {}", thousands(sum)));
    lines.join("\n")
}

/// `11392` as `11,392`.
pub(crate) fn thousands(number: i64) -> String {
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

    /// The row of a layer of the original.
    fn row(path: &str) -> Row {
        let rows = rows(&Architecture::original(0.0));
        rows.into_iter().find(|row| row.path == path).unwrap()
    }

    #[test]
    fn receptive_fields_follow_the_usual_recurrence() {
        let ends = ["convblock1.3", "convblock2.3", "convblock3.0", "pool1", "convblock4.3", "convblock5.3", "gap.0"];
        assert_eq!(ends.map(|path| row(path).field()), ["3", "5", "5", "6", "10", "14", "32"]);
        // A window that is wider than it is high; and a layer behind Flatten() sees the whole image.
        let net = "conv: Conv2d(1, 10, (3, 5), stride=(2, 1)), Conv2d(10, 2, 3)\nfc: Flatten(), Linear(484, 10)";
        let fields: Vec<String> =
            rows(&Architecture::parse(net, &Default::default()).unwrap()).iter().map(Row::field).collect();
        assert_eq!(fields, ["3x5", "7", "7", "28"]);
    }

    #[test]
    fn multiply_adds_are_the_products_of_convolutions_and_linear_layers() {
        // 26 x 26 outputs in 16 channels, each a sum of 3 x 3 products.
        assert_eq!(row("convblock1.0").multiply_adds, 26 * 26 * 16 * 9);
        assert_eq!(row("convblock2.0").multiply_adds, 24 * 24 * 32 * 16 * 9);
        assert_eq!(["convblock1.1", "convblock1.2", "pool1", "gap.0"].map(|path| row(path).multiply_adds), [0; 4]);
        let net = "conv: Conv2d(1, 8, 3), Conv2d(8, 8, 3, groups=4)\nfc: Flatten(), Linear(4608, 10)";
        let rows = rows(&Architecture::parse(net, &Default::default()).unwrap());
        let products: Vec<i64> = rows.iter().map(|row| row.multiply_adds).collect();
        assert_eq!(products, [26 * 26 * 8 * 9, 24 * 24 * 8 * 2 * 9, 0, 46_080]);
    }

    #[test]
    fn thousands_are_separated_by_commas() {
        let numbers = [(0, "0"), (140, "140"), (4608, "4,608"), (11392, "11,392"), (1000000, "1,000,000")];
        for (number, text) in numbers {
            assert_eq!(thousands(number), text);
        }
    }
}
