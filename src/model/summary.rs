//! The table of `torchsummary.summary(model, input_size=(1, 28, 28))`, and each block's receptive field.

use super::net::{Net, blocks};
use crate::shape::SIDE;
use tch::{Kind, Tensor};

/// Bytes of a float32.
const FLOAT: f64 = 4.0;
/// torchsummary's MB.
const MB: f64 = 1024.0 * 1024.0;

/// The table for `net`, which must compute on libtorch's kernels, as its layers are run one by one: a row per layer with
/// its output shape and parameters, the totals, the sizes in memory.
pub(crate) fn table(net: &Net) -> String {
    let image = image(net);
    let outputs = tch::no_grad(|| net.forward_all(&image));
    let heavy = "=".repeat(64);
    let light = "-".repeat(64);
    let mut lines =
        vec![light.clone(), format!("{:>20}  {:>25} {:>15}", "Layer (type)", "Output Shape", "Param #"), heavy.clone()];
    let mut activations = 0;
    let mut parameters = 0;
    let mut number = 0;
    for block in blocks(0.0) {
        for (index, layer) in block.layers.iter().enumerate() {
            let (output, own) = (&outputs[number], net.parameters_of(&block, index));
            number += 1;
            let shape = output.size();
            let shape = format!("[-1, {}, {}, {}]", shape[1], shape[2], shape[3]);
            let name = format!("{}-{number}", layer.class());
            lines.push(format!("{name:>20}  {shape:>25} {:>15}", thousands(own)));
            activations += output.numel() as i64;
            parameters += own;
        }
    }
    let trainable: i64 = net.parameters().map(|(_, tensor)| tensor.numel() as i64).sum();
    let input_mb = image.numel() as f64 * FLOAT / MB;
    // torchsummary counts every output twice: once forward, once for its gradient.
    let activations_mb = 2.0 * activations as f64 * FLOAT / MB;
    let parameters_mb = parameters as f64 * FLOAT / MB;
    lines.extend([
        heavy,
        format!("Total params: {}", thousands(parameters)),
        format!("Trainable params: {}", thousands(trainable)),
        format!("Non-trainable params: {}", thousands(parameters - trainable)),
        light.clone(),
        format!("Input size (MB): {input_mb:.2}"),
        format!("Forward/backward pass size (MB): {activations_mb:.2}"),
        format!("Params size (MB): {parameters_mb:.2}"),
        format!("Estimated Total Size (MB): {:.2}", input_mb + activations_mb + parameters_mb),
        light,
    ]);
    lines.join("\n")
}

/// A row per block: its name, its output's width and height, and its receptive field, the width of the part of the image
/// that one number of its output depends on.
pub(crate) fn receptive_fields(net: &Net) -> String {
    let outputs = tch::no_grad(|| net.forward_all(&image(net)));
    let mut lines = vec![format!("{:>20}  {:>12} {:>16}", "Block", "Output size", "Receptive field")];
    // The distance in the image between two neighbours of the output so far, and the width that one of them sees.
    let (mut jump, mut field) = (1, 1);
    let mut layers = 0;
    for block in blocks(0.0) {
        for layer in &block.layers {
            let (width, step) = layer.window();
            field += (width - 1) * jump;
            jump *= step;
        }
        layers += block.layers.len();
        let side = outputs[layers - 1].size()[2];
        lines.push(format!("{:>20}  {side:>12} {field:>16}", block.name));
    }
    lines.join("\n")
}

fn image(net: &Net) -> Tensor {
    Tensor::zeros([1, 1, SIDE as i64, SIDE as i64], (Kind::Float, net.device()))
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
    use crate::model::Kernels;
    use tch::Device;

    #[test]
    fn receptive_fields_follow_the_usual_recurrence() {
        let text = receptive_fields(&Net::new(Device::Cpu, 0.0, Kernels::Torch));
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
