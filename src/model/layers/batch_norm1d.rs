//! `nn.BatchNorm1d` on a row of features; the rest is that of [`BatchNorm2d`].

use super::aten::Call;
use super::onnx::Node;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchNorm1d(BatchNorm2d);

impl LayerKind for BatchNorm1d {
    const FILE: &'static str = BatchNorm2d::FILE;
    const EXAMPLE: &'static str = "fc: Flatten(), Linear(784, 10), BatchNorm1d(10, momentum=0.2), BatchNorm1d(10, affine=False)";
    const SCRIPT: &'static str = BatchNorm2d::SCRIPT;

    fn arguments(&mut self, input: &[i64], call: &mut impl Arguments) -> Result<()> {
        self.0.arguments(input, call)
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        let [features] = *input else {
            bail!("it takes a row of features: write BatchNorm2d({}), or put Flatten() before it", input[0])
        };
        ensure!(
            features == self.0.num_features,
            "it takes {} features and gets {features}{}",
            self.0.num_features,
            instead(BatchNorm1d(BatchNorm2d { num_features: features, ..self.0 }))
        );
        Ok(input.to_vec())
    }

    fn variables(&self) -> Vec<Variable> {
        self.0.variables()
    }

    fn add_to(&self, net: SequentialT, path: &Path) -> SequentialT {
        let norm = nn::batch_norm1d(path, self.0.num_features, self.0.config());
        batch_norm2d::count_batches(path);
        net.add(norm)
    }

    fn aten(&self) -> Option<Call> {
        self.0.aten()
    }

    fn onnx(&self, input: &[i64]) -> Result<Vec<Node>> {
        self.0.onnx(input)
    }
}
