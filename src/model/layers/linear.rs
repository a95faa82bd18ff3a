//! `nn.Linear`

use super::aten::Call;
use super::onnx::Node;
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Linear {
    pub in_features: i64,
    pub out_features: i64,
    pub bias: bool,
}

impl LayerKind for Linear {
    const FILE: &'static str = "linear";
    const EXAMPLE: &'static str = "fc: Flatten(), Linear(784, 12, bias=False), Linear(12, 10)";
    const SCRIPT: &'static str = r#"function linear({ data }, weight, bias) {
  return tensor([weight.shape[0]], Float32Array.from({ length: weight.shape[0] }, (_, output) => {
    const row = weight.data.subarray(output * data.length, (output + 1) * data.length);
    return row.reduce((sum, number, k) => sum + number * data[k], bias ? bias.data[output] : 0);
  }));
}"#;

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.required("in_features", &mut self.in_features)?;
        call.required("out_features", &mut self.out_features)?;
        call.optional("bias", true, &mut self.bias)?;
        call.factory()
    }

    fn check(&self) -> Result<()> {
        sizes("in_features", &[self.in_features], 1)?;
        sizes("out_features", &[self.out_features], 1)
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        let [features] = *input else { bail!("it takes a row of features: put Flatten() before it") };
        ensure!(
            features == self.in_features,
            "it takes {} features and gets {features}{}",
            self.in_features,
            instead(Linear { in_features: features, ..*self })
        );
        Ok(vec![self.out_features])
    }

    fn variables(&self) -> Vec<Variable> {
        weight_and_bias(&[self.out_features, self.in_features], self.bias)
    }

    fn window(&self, _: &[i64]) -> Window {
        Window::Whole
    }

    fn multiply_adds(&self, output: &[i64]) -> i64 {
        product(output).saturating_mul(self.in_features)
    }

    fn stage(&self) -> Stage {
        Stage::Begins
    }

    fn add_to(&self, net: SequentialT, path: &Path) -> SequentialT {
        let config =
            nn::LinearConfig { ws_init: parameters::UNDRAWN, bs_init: Some(parameters::UNDRAWN), bias: self.bias };
        let mut linear = nn::linear(path, self.in_features, self.out_features, config);
        parameters::reset(&mut linear.ws, linear.bs.as_mut());
        net.add(linear)
    }

    fn aten(&self) -> Option<Call> {
        Some(Call::new("linear.default", "input").variables(&["weight"]).optional_variable("bias", self.bias))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![Node::new("Gemm").weight_and_bias(self.bias).with("transB", 1)])
    }
}
