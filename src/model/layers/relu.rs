//! `nn.ReLU`

use super::aten::Call;
use super::onnx::Node;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReLU;

impl LayerKind for ReLU {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), ReLU(), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = "function relu(x) { return map(x, number => Math.max(number, 0)); }";

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.inplace()
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        net.add_fn(Tensor::relu)
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("relu.default", "self"))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![Node::new("Relu")])
    }
}
