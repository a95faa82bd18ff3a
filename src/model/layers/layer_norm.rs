//! `nn.LayerNorm`

use super::aten::Call;
use super::onnx::Node;
use super::*;
use crate::model::net_file::Value as Python;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerNorm {
    /// The last axes of its input.
    normalized_shape: Axes,
    pub eps: f64,
    /// Whether each number has a weight and a bias.
    pub elementwise_affine: bool,
}

/// Up to three sizes: as many axes as an image has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Axes {
    sizes: [i64; 3],
    count: usize,
}

impl Axes {
    fn of(sizes: &[i64]) -> Option<Axes> {
        let mut axes = Axes { count: sizes.len(), ..Default::default() };
        axes.sizes.get_mut(..sizes.len()).filter(|_| !sizes.is_empty())?.copy_from_slice(sizes);
        Some(axes)
    }

    fn sizes(&self) -> &[i64] {
        &self.sizes[..self.count]
    }
}

impl LayerKind for LayerNorm {
    const FILE: &'static str = "normalization";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), LayerNorm([10, 24, 24], eps=0.001), LayerNorm(24), Flatten(), Linear(5760, 10), LayerNorm(10, elementwise_affine=False)";
    const SCRIPT: &'static str = r#"function layer_norm(x, shape, weight, bias, eps) {
  const size = shape.reduce((product, side) => product * side);
  return map(normalised(x, size, eps), (number, channel, k) =>
    (weight ? number * weight.data[k % size] : number) + (bias ? bias.data[k % size] : 0));
}"#;

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.required("normalized_shape", &mut self.normalized_shape)?;
        call.optional("eps", 1e-5, &mut self.eps)?;
        call.optional("elementwise_affine", true, &mut self.elementwise_affine)?;
        call.only("bias", Python::Bool(true))?;
        call.factory()
    }

    fn check(&self) -> Result<()> {
        sizes("normalized_shape", self.normalized_shape.sizes(), 1)?;
        positive_eps(self.eps)
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        let own = self.normalized_shape.sizes();
        let last = &input[input.len() - own.len().min(input.len())..];
        ensure!(
            own == last,
            "its input has the shape {input:?}, which does not end in {own:?}{}",
            Axes::of(last).map_or(String::new(), |fitting| instead(LayerNorm { normalized_shape: fitting, ..*self }))
        );
        Ok(input.to_vec())
    }

    fn variables(&self) -> Vec<Variable> {
        if !self.elementwise_affine {
            return Vec::new();
        }
        let shape = self.normalized_shape.sizes().to_vec();
        ["weight", "bias"].map(|name| Variable { name, shape: shape.clone(), is_parameter: true }).into()
    }

    fn window(&self, _: &[i64]) -> Window {
        Window::Whole
    }

    fn add_to(&self, net: SequentialT, path: &Path) -> SequentialT {
        let LayerNorm { normalized_shape, eps, elementwise_affine } = *self;
        let config = nn::LayerNormConfig { eps, elementwise_affine, ..Default::default() };
        net.add(nn::layer_norm(path, normalized_shape.sizes().to_vec(), config))
    }

    fn aten(&self) -> Option<Call> {
        let call = Call::new("layer_norm.default", "input").with("normalized_shape", self.normalized_shape.sizes());
        let affine = self.elementwise_affine;
        let call = call.optional_variable("weight", affine).optional_variable("bias", affine);
        Some(call.optional("eps", self.eps, 1e-5).optional("cudnn_enable", true, true))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        let axes = self.normalized_shape;
        let norm = Node::new("LayerNormalization").with("axis", -(axes.count as i64)).with("epsilon", self.eps);
        if self.elementwise_affine {
            return Ok(vec![norm.weight_and_bias(true)]);
        }
        let ones = Node::floats("ones", axes.sizes(), vec![1.0; product(axes.sizes()) as usize]);
        Ok(vec![ones, norm.on(&[onnx::Input::Layer, onnx::Input::Node("ones")])])
    }
}

impl Argument for Axes {
    fn expected() -> String {
        "a whole number or up to three of them, as in [10, 24, 24]".to_string()
    }

    fn read(value: &Python) -> Option<Axes> {
        match value {
            Python::Tuple(values) => Axes::of(&values.iter().map(i64::read).collect::<Option<Vec<_>>>()?),
            value => Axes::of(&[i64::read(value)?]),
        }
    }

    fn value(&self) -> Python {
        Python::Tuple(self.sizes().iter().map(Argument::value).collect())
    }
}
