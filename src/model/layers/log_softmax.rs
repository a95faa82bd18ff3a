//! `nn.LogSoftmax(dim=1)`

use super::aten::Call;
use super::onnx::Node;
use super::*;
use tch::Kind;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogSoftmax;

impl LayerKind for LogSoftmax {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "fc: Flatten(), Linear(784, 10), LogSoftmax(dim=1)";
    const SCRIPT: &'static str = r#"function log_softmax(x) {
  const most = Math.max(...x.data);
  const sum = x.data.reduce((sum, number) => sum + Math.exp(number - most), 0);
  return map(x, number => number - most - Math.log(sum));
}"#;

    fn arguments(&mut self, input: &[i64], call: &mut impl Arguments) -> Result<()> {
        // Without a dim PyTorch takes 1 for inputs of two and of four dimensions, and warns.
        let mut dim = Some(1);
        call.optional("dim", None, &mut dim)?;
        let is_classes = dim.is_none_or(|dim| dim == 1 || dim == -(input.len() as i64));
        ensure!(is_classes, "it must be along the classes: write LogSoftmax(dim=1)");
        Ok(())
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        net.add_fn(|x| x.log_softmax(1, Kind::Float))
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("log_softmax.int", "self").with("dim", 1))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![Node::new("LogSoftmax").with("axis", 1)])
    }
}
