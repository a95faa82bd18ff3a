//! `nn.Dropout`

use super::aten::{Call, Value};
use super::onnx::Node;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    pub p: f64,
}

impl LayerKind for Dropout {
    const FILE: &'static str = "dropout";
    const EXAMPLE: &'static str = "fc: Flatten(), Dropout(0.3), Linear(784, 10)";
    const SCRIPT: &'static str = "function dropout(x) { return x; }";

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.optional("p", 0.5, &mut self.p)?;
        call.inplace()
    }

    fn check(&self) -> Result<()> {
        probability(self.p)
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        let p = self.p;
        net.add_fn_t(move |x, train| x.dropout(p, train))
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("dropout.default", "input").with("p", self.p).with("train", Value::Training))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![])
    }
}
