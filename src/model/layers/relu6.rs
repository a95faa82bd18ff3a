//! `nn.ReLU6`: between 0 and 6

use super::aten::Call;
use super::onnx::{Input, Node};
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReLU6;

impl LayerKind for ReLU6 {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), ReLU6(), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = "function hardtanh(x, least, most) { return map(x, number => Math.min(Math.max(number, least), most)); }";

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.inplace()
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        net.add_fn(Tensor::relu6)
    }

    fn aten(&self) -> Option<Call> {
        // As torch.export writes it.
        Some(Call::new("hardtanh.default", "self").optional("min_val", 0.0, -1.0).optional("max_val", 6.0, 1.0))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        let bounds = [Node::scalar("least", 0.0), Node::scalar("most", 6.0)];
        let clip = Node::new("Clip").on(&[Input::Layer, Input::Node("least"), Input::Node("most")]);
        Ok(bounds.into_iter().chain([clip]).collect())
    }
}
