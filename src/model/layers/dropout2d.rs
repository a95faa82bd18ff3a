//! `nn.Dropout2d`: drops whole channels

use super::aten::{Call, Value};
use super::onnx::Node;
use super::windows::image;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout2d {
    pub p: f64,
}

impl LayerKind for Dropout2d {
    const FILE: &'static str = "dropout";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), Dropout2d(0.3), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = "function feature_dropout(x) { return x; }";

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.optional("p", 0.5, &mut self.p)?;
        call.inplace()
    }

    fn check(&self) -> Result<()> {
        probability(self.p)
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        image(input)?;
        Ok(input.to_vec())
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        let p = self.p;
        net.add_fn_t(move |x, train| x.feature_dropout(p, train))
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("feature_dropout.default", "input").with("p", self.p).with("train", Value::Training))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![])
    }
}
