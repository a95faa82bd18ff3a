//! `nn.BatchNorm2d`, with running statistics.

use super::aten::{Call, Value};
use super::onnx::{Input, Node};
use super::windows::image;
use super::*;
use crate::model::net_file::Value as Python;
use tch::{Kind, Tensor};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchNorm2d {
    pub num_features: i64,
    pub eps: f64,
    pub momentum: f64,
    /// Whether each channel has a weight and a bias.
    pub affine: bool,
}

const AFFINE: [&str; 2] = ["weight", "bias"];
const STATISTICS: [&str; 2] = ["running_mean", "running_var"];

impl LayerKind for BatchNorm2d {
    const FILE: &'static str = "batchnorm";
    const EXAMPLE: &'static str = "block: Conv2d(1, 10, 5), BatchNorm2d(10, eps=0.001, momentum=0.2), BatchNorm2d(10, affine=False), AdaptiveAvgPool2d(1)";
    const SCRIPT: &'static str = r#"function batch_norm(x, weight, bias, mean, variance, training, momentum, eps) {
  const scale = variance.data.map((number, channel) => (weight ? weight.data[channel] : 1) / Math.sqrt(number + eps));
  return map(x, (number, channel) => (number - mean.data[channel]) * scale[channel] + (bias ? bias.data[channel] : 0));
}"#;

    fn arguments(&mut self, _: &[i64], call: &mut impl Arguments) -> Result<()> {
        call.required("num_features", &mut self.num_features)?;
        call.optional("eps", 1e-5, &mut self.eps)?;
        call.optional("momentum", 0.1, &mut self.momentum)?;
        call.optional("affine", true, &mut self.affine)?;
        call.only("track_running_stats", Python::Bool(true))?;
        call.factory()
    }

    fn check(&self) -> Result<()> {
        let BatchNorm2d { num_features, eps, momentum, .. } = *self;
        sizes("num_features", &[num_features], 1)?;
        positive_eps(eps)?;
        ensure!((0. ..=1.).contains(&momentum), "momentum is {momentum}: it must be from 0 to 1, such as 0.1");
        Ok(())
    }

    fn output(&self, input: &[i64]) -> Result<Vec<i64>> {
        let [channels, ..] = image(input)?;
        ensure!(
            channels == self.num_features,
            "it takes {} channels and gets {channels}{}",
            self.num_features,
            instead(BatchNorm2d { num_features: channels, ..*self })
        );
        Ok(input.to_vec())
    }

    fn variables(&self) -> Vec<Variable> {
        let affine = AFFINE.into_iter().filter(|_| self.affine).map(|name| (name, true));
        let floats = affine.chain(STATISTICS.map(|name| (name, false)));
        let floats =
            floats.map(|(name, is_parameter)| Variable { name, shape: vec![self.num_features], is_parameter });
        floats.chain([Variable { name: NUM_BATCHES_TRACKED, shape: vec![], is_parameter: false }]).collect()
    }

    fn add_to(&self, net: SequentialT, path: &Path) -> SequentialT {
        let norm = nn::batch_norm2d(path, self.num_features, self.config());
        count_batches(path);
        net.add(norm)
    }

    fn aten(&self) -> Option<Call> {
        let variable = |name| if self.affine { Value::Variable(name) } else { Value::None };
        let call = AFFINE.iter().fold(Call::new("batch_norm.default", "input"), |call, name| call.with(name, variable(name)));
        let call = call.variables(&STATISTICS).with("training", Value::Training);
        Some(call.with("momentum", self.momentum).with("eps", self.eps).with("cudnn_enabled", true))
    }

    fn onnx(&self, _: &[i64]) -> Result<Vec<Node>> {
        let norm = Node::new("BatchNormalization").with("epsilon", self.eps);
        if self.affine {
            return Ok(vec![norm.variables(&AFFINE).variables(&STATISTICS)]);
        }
        let all = |name, value| Node::floats(name, &[self.num_features], vec![value; self.num_features as usize]);
        let norm = norm.on(&[Input::Layer, Input::Node("ones"), Input::Node("zeros")]).variables(&STATISTICS);
        Ok(vec![all("ones", 1.0), all("zeros", 0.0), norm])
    }
}

impl BatchNorm2d {
    /// tch's default weight is drawn from Uniform(0, 1).
    pub(super) fn config(&self) -> nn::BatchNormConfig {
        let BatchNorm2d { eps, momentum, affine, .. } = *self;
        nn::BatchNormConfig { eps, momentum, affine, ws_init: nn::Init::Const(1.0), ..Default::default() }
    }
}

/// Makes the count of training batches, which tch's module does not have. The net counts for all its BatchNorms at once.
pub(super) fn count_batches(path: &Path) {
    let _ = path.add(NUM_BATCHES_TRACKED, Tensor::zeros([0i64; 0], (Kind::Int64, path.device())), false);
}
