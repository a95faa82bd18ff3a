//! `nn.Tanh`

use super::aten::Call;
use super::onnx::Node;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tanh;

impl LayerKind for Tanh {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), Tanh(), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = "function tanh(x) { return map(x, Math.tanh); }";

    fn arguments(&mut self, _: &[i64], _: &mut impl Arguments) -> Result<()> {
        Ok(())
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        net.add_fn(Tensor::tanh)
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("tanh.default", "self"))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![Node::new("Tanh")])
    }
}
