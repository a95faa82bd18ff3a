//! `nn.Sigmoid`

use super::aten::Call;
use super::onnx::Node;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sigmoid;

impl LayerKind for Sigmoid {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), Sigmoid(), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = "function sigmoid(x) { return map(x, number => 1 / (1 + Math.exp(-number))); }";

    fn arguments(&mut self, _: &[i64], _: &mut impl Arguments) -> Result<()> {
        Ok(())
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        net.add_fn(Tensor::sigmoid)
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("sigmoid.default", "self"))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![Node::new("Sigmoid")])
    }
}
