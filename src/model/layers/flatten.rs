//! `nn.Flatten()`: all dimensions but the first

use super::aten::Call;
use super::onnx::Node;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flatten;

impl LayerKind for Flatten {
    const FILE: &'static str = "flatten";
    const EXAMPLE: &'static str = "fc: Flatten(), Linear(784, 10)";
    const SCRIPT: &'static str = "function flatten({ data }) { return tensor([data.length], data); }";

    fn arguments(&mut self, input: &[i64], call: &mut impl Arguments) -> Result<()> {
        let (mut start, mut end) = (1, -1);
        call.optional("start_dim", 1, &mut start)?;
        call.optional("end_dim", -1, &mut end)?;
        let is_whole = start == 1 && (end == -1 || end == input.len() as i64);
        ensure!(is_whole, "it must flatten all dimensions but the first: write Flatten()");
        Ok(())
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        Ok(vec![product(input)])
    }

    fn stage(&self) -> Stage {
        Stage::Ends
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        net.add_fn(|x| x.flatten(1, -1))
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("flatten.using_ints", "self").with("start_dim", 1).optional("end_dim", -1, -1))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![Node::new("Flatten").with("axis", 1)])
    }
}
