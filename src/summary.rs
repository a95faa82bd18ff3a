//! The table of `torchsummary.summary(model, input_size=(1, 28, 28))`, computed from the net.

use crate::model::{Layer, Net};
use tch::{Device, Kind, Tensor};

/// Bytes of a float32.
const FLOAT: f64 = 4.0;
/// torchsummary's MB.
const MB: f64 = 1024.0 * 1024.0;

/// The table for `net`, which must compute by libtorch's kernels (its layers are looked at one by one): a row a layer
/// with its output shape and parameters, the totals, the sizes in memory.
pub fn table(net: &Net, device: Device) -> String {
    let image = Tensor::zeros([1, 1, 28, 28], (Kind::Float, device));
    let outputs = tch::no_grad(|| net.forward_all(&image));
    let layers = net.layers();
    let heavy = "=".repeat(64);
    let light = "-".repeat(64);
    let mut lines =
        vec![light.clone(), format!("{:>20}  {:>25} {:>15}", "Layer (type)", "Output Shape", "Param #"), heavy.clone()];
    let mut activations = 0;
    let mut parameters = 0;
    for (number, ((layer, layer_parameters), output)) in (1..).zip(layers.iter().zip(&outputs)) {
        let shape = output.size();
        let shape = format!("[-1, {}, {}, {}]", shape[1], shape[2], shape[3]);
        let name = format!("{}-{number}", type_name(layer));
        lines.push(format!("{name:>20}  {shape:>25} {:>15}", thousands(*layer_parameters)));
        activations += output.numel() as i64;
        parameters += layer_parameters;
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

/// The class in `torch.nn`.
fn type_name(layer: &Layer) -> &'static str {
    match layer {
        Layer::Conv2d { .. } => "Conv2d",
        Layer::ReLU => "ReLU",
        Layer::BatchNorm2d { .. } => "BatchNorm2d",
        Layer::Dropout { .. } => "Dropout",
        Layer::MaxPool2d { .. } => "MaxPool2d",
        Layer::AvgPool2d { .. } => "AvgPool2d",
    }
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
    use super::thousands;

    #[test]
    fn thousands_are_parted_by_commas() {
        let numbers = [(0, "0"), (140, "140"), (4608, "4,608"), (11392, "11,392"), (1000000, "1,000,000")];
        for (number, text) in numbers {
            assert_eq!(thousands(number), text);
        }
    }
}
