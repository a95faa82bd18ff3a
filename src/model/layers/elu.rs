//! `nn.ELU`

use super::aten::Call;
use super::onnx::Node;
use super::*;
use crate::model::net_file::Value;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ELU;

impl LayerKind for ELU {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), ELU(), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = "function elu(x) { return map(x, number => number > 0 ? number : Math.expm1(number)); }";

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        // tch's own has no alpha.
        call.only("alpha", Value::Float(1.0))?;
        call.inplace()
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        net.add_fn(Tensor::elu)
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("elu.default", "self"))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![Node::new("Elu")])
    }
}
