//! `nn.GELU`, exact or with approximate="tanh"

use super::aten::Call;
use super::onnx::Node;
use super::*;
use crate::model::net_file::Value;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GELU {
    pub approximate: Approximate,
}

/// The argument `approximate`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Approximate {
    #[default]
    None,
    Tanh,
}

impl Approximate {
    fn name(self) -> &'static str {
        match self {
            Approximate::None => "none",
            Approximate::Tanh => "tanh",
        }
    }
}

impl LayerKind for GELU {
    const FILE: &'static str = "activation";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), GELU('tanh'), GELU(), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = r#"function gelu(x, approximate) {
  // erf by a polynomial, 1.5e-7 off at most (Abramowitz and Stegun, 7.1.26).
  const erf = number => {
    const t = 1 / (1 + 0.3275911 * Math.abs(number));
    const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(number) * (1 - sum * Math.exp(-number * number));
  };
  const exact = number => number * (1 + erf(number / Math.SQRT2)) / 2;
  const tanh = number => number * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (number + 0.044715 * number ** 3))) / 2;
  return map(x, approximate === "tanh" ? tanh : exact);
}"#;

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.optional("approximate", Approximate::None, &mut self.approximate)
    }

    fn add_to(&self, net: SequentialT, _: &Path) -> SequentialT {
        let approximate = self.approximate.name();
        net.add_fn(move |x| x.gelu(approximate))
    }

    fn aten(&self) -> Option<Call> {
        let call = Call::new("gelu.default", "self");
        Some(call.keyword("approximate", self.approximate.name(), Approximate::None.name()))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        Ok(vec![Node::new("Gelu").with("approximate", self.approximate.name())])
    }
}

impl Argument for Approximate {
    fn expected() -> String {
        "'none' or 'tanh'".to_string()
    }

    fn read(value: &Value) -> Option<Approximate> {
        let Value::Text(text) = value else { return None };
        [Approximate::None, Approximate::Tanh].into_iter().find(|known| known.name() == text)
    }

    fn value(&self) -> Value {
        Value::Text(self.name().to_string())
    }
}
