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
