//! `nn.LeakyReLU`

use super::aten::Call;
use super::onnx::Node;
use super::*;
use crate::libtorch::activation::leaky_relu;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LeakyReLU {
    pub negative_slope: f64,
}

impl LayerKind for LeakyReLU {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), LeakyReLU(0.1), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = "function leaky_relu(x, slope) { return map(x, number => number > 0 ? number : slope * number); }";

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.optional("negative_slope", 0.01, &mut self.negative_slope)?;
        call.inplace()
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.negative_slope.is_finite(),
            "negative_slope is {}: it must be a number",
            self.negative_slope
        );
        Ok(())
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        let negative_slope = self.negative_slope;
        // tch's own has no slope.
        net.add_fn(move |x| leaky_relu(x, negative_slope).expect("a slope for every number"))
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("leaky_relu.default", "self").optional("negative_slope", self.negative_slope, 0.01))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![Node::new("LeakyRelu").with("alpha", self.negative_slope)])
    }
}
