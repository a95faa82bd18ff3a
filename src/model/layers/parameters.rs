//! The initial values of a weight and its bias.

use tch::Tensor;
use tch::nn::Init;
use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};

/// `kaiming_uniform_(weight, a=sqrt(5))`: Uniform(-b, b) with b = 1 / sqrt(fan_in), in PyTorch's order of rounding. tch's
/// own default has the gain of a ReLU, sqrt(6) times as large.
fn weight_init() -> Init {
    let gain = (2.0 / (1.0 + 5.0f64.sqrt().powi(2))).sqrt();
    Init::Kaiming {
        dist: NormalOrUniform::Uniform,
        fan: FanInOut::FanIn,
        non_linearity: NonLinearity::ExplicitGain(gain),
    }
}

/// What tch is told to begin with: [`reset`] draws afterwards.
pub(super) const UNDRAWN: Init = Init::Const(0.0);

/// `reset_parameters` of PyTorch's convolutions and linear layers: draws the weight and then the bias. tch draws the bias
/// first.
pub(super) fn reset(weight: &mut Tensor, bias: Option<&mut Tensor>) {
    let fan_in = FanInOut::FanIn.for_weight_dims(&weight.size());
    let bound = 1.0 / (fan_in as f64).sqrt();
    tch::no_grad(|| {
        weight_init().set(weight);
        if let Some(bias) = bias {
            Init::Uniform { lo: -bound, up: bound }.set(bias);
        }
    });
}
