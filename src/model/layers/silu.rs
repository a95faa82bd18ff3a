//! `nn.SiLU`

use super::aten::Call;
use super::onnx::{Input, Node};
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SiLU;

impl LayerKind for SiLU {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), SiLU(), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = "function silu(x) { return map(x, number => number / (1 + Math.exp(-number))); }";

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.inplace()
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        net.add_fn(Tensor::silu)
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("silu.default", "self"))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        let product = Node::new("Mul").on(&[Input::Layer, Input::Node("sigmoid")]);
        Ok(vec![Node::new("Sigmoid").named("sigmoid"), product])
    }
}
