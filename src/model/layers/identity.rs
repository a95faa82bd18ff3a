//! `nn.Identity`

use super::aten::Call;
use super::onnx::Node;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Identity;

impl LayerKind for Identity {
    // PyTorch keeps it beside Linear.
    const FILE: &'static str = "linear";
    const EXAMPLE: &'static str = "fc: Identity(), Flatten(), Linear(784, 10)";
    const SCRIPT: &'static str = "";

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.anything()
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        net.add_fn(Tensor::shallow_clone)
    }

    fn aten(&self) -> Option<Call> {
        None
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![])
    }
}
