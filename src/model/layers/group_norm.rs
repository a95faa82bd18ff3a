//! `nn.GroupNorm`

use super::aten::Call;
use super::onnx::{Input, Node};
use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupNorm {
    pub num_groups: i64,
    pub num_channels: i64,
    pub eps: f64,
    /// Whether each channel has a weight and a bias.
    pub affine: bool,
}

impl LayerKind for GroupNorm {
    const FILE: &'static str = "normalization";
    const EXAMPLE: &'static str =
        "block: Conv2d(1, 10, 5), GroupNorm(2, 10, eps=0.001), GroupNorm(5, 10, affine=False), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = r#"function group_norm(x, groups, weight, bias, eps) {
  return map(normalised(x, x.data.length / groups, eps), (number, channel) =>
    weight ? number * weight.data[channel] + bias.data[channel] : number);
}"#;

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.required("num_groups", &mut self.num_groups)?;
        call.required("num_channels", &mut self.num_channels)?;
        call.optional("eps", 1e-5, &mut self.eps)?;
        call.optional("affine", true, &mut self.affine)?;
        call.factory()
    }

    fn check(&self) -> Result<()> {
        let GroupNorm { num_groups, num_channels, eps, .. } = *self;
        sizes("num_groups", &[num_groups], 1)?;
        sizes("num_channels", &[num_channels], 1)?;
        ensure!(num_channels % num_groups == 0, "num_groups is {num_groups}: it must divide num_channels, {num_channels}");
        positive_eps(eps)
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        ensure!(
            input[0] == self.num_channels,
            "it takes {} channels and gets {}{}",
            self.num_channels,
            input[0],
            instead(GroupNorm { num_channels: input[0], ..*self })
        );
        // PyTorch: "Expected more than 1 value per channel when training".
        ensure!(
            product(input) > self.num_groups,
            "each of its groups has a single value, which it makes 0: give fewer than {} groups",
            self.num_groups
        );
        Ok(input.to_vec())
    }

    fn variables(&self) -> Vec<Variable> {
        if self.affine { weight_and_bias(&[self.num_channels], true) } else { Vec::new() }
    }

    fn window(&self, _: &[i64]) -> Window {
        Window::Whole
    }

    fn add_to(&self, net: SequentialT, path: &Path) -> SequentialT {
        let GroupNorm { num_groups, num_channels, eps, affine } = *self;
        let config = nn::GroupNormConfig { eps, affine, ..Default::default() };
        net.add(nn::group_norm(path, num_groups, num_channels, config))
    }

    fn aten(&self) -> Option<Call> {
        let call = Call::new("group_norm.default", "input").with("num_groups", self.num_groups);
        let call = call.optional_variable("weight", self.affine).optional_variable("bias", self.affine);
        Some(call.optional("eps", self.eps, 1e-5).optional("cudnn_enabled", true, true))
    }

    /// `InstanceNormalization` of the groups as channels: ONNX's own `GroupNormalization` is newer than many runtimes.
    fn onnx(&self, input: &[i64]) -> Result<Vec<Node>> {
        let (groups, channels) = (self.num_groups, self.num_channels);
        let shape = |name, sizes: &[i64]| Node::shape(name, [&[0], sizes].concat());
        let mut nodes = vec![
            shape("grouped", &[groups, -1]),
            Node::new("Reshape").named("groups").on(&[Input::Layer, Input::Node("grouped")]),
            Node::floats("ones", &[groups], vec![1.0; groups as usize]),
            Node::floats("zeros", &[groups], vec![0.0; groups as usize]),
            Node::new("InstanceNormalization")
                .named("normalised")
                .on(&[Input::Node("groups"), Input::Node("ones"), Input::Node("zeros")])
                .with("epsilon", self.eps),
            shape("shape", input),
        ];
        let last = Node::new("Reshape").on(&[Input::Node("normalised"), Input::Node("shape")]);
        if !self.affine {
            nodes.push(last);
            return Ok(nodes);
        }
        // A number for each channel, in the shape that multiplies images.
        let each = [&[channels], &vec![1; input.len() - 1][..]].concat();
        let by_channel = |name, variable| Node::new("Reshape").named(name).on(&[Input::Variable(variable), Input::Node("each")]);
        nodes.extend([
            last.named("images"),
            Node::shape("each", each),
            by_channel("scale", "weight"),
            by_channel("shift", "bias"),
            Node::new("Mul").named("scaled").on(&[Input::Node("images"), Input::Node("scale")]),
            Node::new("Add").on(&[Input::Node("scaled"), Input::Node("shift")]),
        ]);
        Ok(nodes)
    }
}
