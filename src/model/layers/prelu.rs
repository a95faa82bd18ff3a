//! `nn.PReLU`: a slope for negative numbers that is trained, for all channels or for each

use super::aten::Call;
use super::onnx::{Input, Node};
use super::*;
use tch::nn::Init;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PReLU {
    /// 1, or a slope for each channel.
    pub num_parameters: i64,
    pub init: f64,
}

impl LayerKind for PReLU {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), PReLU(10, init=0.1), PReLU(), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = r#"function prelu(x, { data: slopes }) {
  return map(x, (number, channel) => number > 0 ? number : slopes[slopes.length > 1 ? channel : 0] * number);
}"#;

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.optional("num_parameters", 1, &mut self.num_parameters)?;
        call.optional("init", 0.25, &mut self.init)?;
        call.factory()
    }

    fn check(&self) -> Result<()> {
        sizes("num_parameters", &[self.num_parameters], 1)?;
        ensure!(self.init.is_finite(), "init is {}: it must be a number", self.init);
        Ok(())
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        ensure!(
            [1, input[0]].contains(&self.num_parameters),
            "num_parameters is {}: it must be 1, or the number of channels, {}",
            self.num_parameters,
            input[0]
        );
        Ok(input.to_vec())
    }

    fn variables(&self) -> Vec<Variable> {
        vec![Variable { name: "weight", shape: vec![self.num_parameters], is_parameter: true }]
    }

    fn add_to(&self, net: SequentialT, path: &Path) -> SequentialT {
        // tch's constants are ones times a number in double precision, as PyTorch's fill_ rounds it.
        let weight = path.var("weight", &[self.num_parameters], Init::Const(self.init));
        net.add_fn(move |x| x.prelu(&weight))
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("prelu.default", "self").variables(&["weight"]))
    }

    /// ONNX lines the slopes up with the last axes of its input.
    fn onnx(&self, input: &[i64]) -> Result<Vec<Node>> {
        let shape = [&[self.num_parameters], &vec![1; input.len() - 1][..]].concat();
        let slopes = Node::new("Reshape").named("slopes").on(&[Input::Variable("weight"), Input::Node("shape")]);
        Ok(vec![Node::shape("shape", shape), slopes, Node::new("PRelu").on(&[Input::Layer, Input::Node("slopes")])])
    }
}

#[cfg(test)]
mod tests {
    use crate::model::net_file::tests::refusal;

    #[test]
    fn there_is_one_slope_or_one_for_each_channel() {
        let sentence = refusal("block: Conv2d(1, 10, 5), PReLU(3)");
        assert!(sentence.ends_with(": num_parameters is 3: it must be 1, or the number of channels, 10"), "{sentence}");
    }
}
