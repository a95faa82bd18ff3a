//! The layers of the net as `torch.nn` defines them: their arguments, how their weights are drawn, what they compute.

use super::state_dict::Entry;
use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use tch::nn::{self, Init, ModuleT, SequentialT};
use tch::{Device, Kind, Tensor};

/// One layer, with the arguments that the class in PyTorch takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// `nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)`
    Conv2d { inputs: i64, outputs: i64, kernel: i64, padding: i64 },
    /// `nn.ReLU()`
    ReLU,
    /// `nn.BatchNorm2d(channels)`
    BatchNorm2d { channels: i64 },
    /// `nn.Dropout(p)`
    Dropout { p: f64 },
    /// `nn.MaxPool2d(kernel, kernel)`
    MaxPool2d { kernel: i64 },
    /// `nn.AvgPool2d(kernel_size=kernel)`
    AvgPool2d { kernel: i64 },
}

impl Layer {
    /// Appends the layer to `sequential`. Its tensors are made on the CPU under `path`, moved to `device`, and appended to
    /// `entries` in the order of PyTorch's state_dict.
    pub(super) fn build(
        self,
        sequential: SequentialT,
        path: &nn::Path,
        device: Device,
        entries: &mut Vec<Entry>,
    ) -> SequentialT {
        // As `Net().to(device)` does: a seed gives the same net on every device.
        let mut keep = |name: &str, tensor: &Tensor, trainable: bool| -> Tensor {
            let tensor = tensor.detach().to_device(device).set_requires_grad(trainable);
            entries.push(Entry { key: path.path(name), tensor: tensor.shallow_clone() });
            tensor
        };
        match self {
            Layer::Conv2d { inputs, outputs, kernel, padding } => {
                let config = nn::ConvConfig { padding, bias: false, ws_init: conv2d_init(), ..Default::default() };
                let mut conv = nn::conv2d(path, inputs, outputs, kernel, config);
                conv.ws = keep("weight", &conv.ws, true);
                sequential.add(conv)
            }
            Layer::ReLU => sequential.add_fn(|x| x.relu()),
            Layer::BatchNorm2d { channels } => {
                // tch's BatchNorm starts its weight at Uniform(0, 1); PyTorch's starts at 1.
                let config = nn::BatchNormConfig { ws_init: Init::Const(1.), ..Default::default() };
                let mut norm = nn::batch_norm2d(path, channels, config);
                norm.ws = norm.ws.map(|weight| keep("weight", &weight, true));
                norm.bs = norm.bs.map(|bias| keep("bias", &bias, true));
                norm.running_mean = keep("running_mean", &norm.running_mean, false);
                norm.running_var = keep("running_var", &norm.running_var, false);
                let none = Tensor::zeros([0i64; 0], (Kind::Int64, Device::Cpu));
                let num_batches_tracked = keep("num_batches_tracked", &none, false);
                sequential.add(BatchNorm2d { norm, num_batches_tracked })
            }
            Layer::Dropout { p } => sequential.add_fn_t(move |x, train| x.dropout(p, train)),
            Layer::MaxPool2d { kernel } => {
                sequential.add_fn(move |x| x.max_pool2d([kernel, kernel], [kernel, kernel], [0, 0], [1, 1], false))
            }
            // tch's avg_pool2d_default passes divisor_override = 1, which sums instead of averaging.
            Layer::AvgPool2d { kernel } => {
                sequential.add_fn(move |x| x.avg_pool2d([kernel, kernel], [kernel, kernel], [0, 0], false, true, None))
            }
        }
    }

    /// The width and the step of the window that the layer moves over its input.
    pub(super) fn window(self) -> (i64, i64) {
        match self {
            Layer::Conv2d { kernel, .. } => (kernel, 1),
            Layer::MaxPool2d { kernel } | Layer::AvgPool2d { kernel } => (kernel, kernel),
            Layer::ReLU | Layer::BatchNorm2d { .. } | Layer::Dropout { .. } => (1, 1),
        }
    }

    /// The name of its class in `torch.nn`.
    pub(super) fn class(self) -> &'static str {
        match self {
            Layer::Conv2d { .. } => "Conv2d",
            Layer::ReLU => "ReLU",
            Layer::BatchNorm2d { .. } => "BatchNorm2d",
            Layer::Dropout { .. } => "Dropout",
            Layer::MaxPool2d { .. } => "MaxPool2d",
            Layer::AvgPool2d { .. } => "AvgPool2d",
        }
    }
}

/// `nn.Conv2d`'s own initialisation, `kaiming_uniform_(weight, a=sqrt(5))`: Uniform(-b, b), b = 1 / sqrt(fan_in).
///
/// tch's default, the gain of a ReLU, makes the bound sqrt(6) times as large.
fn conv2d_init() -> Init {
    let gain = (2.0 / (1.0 + 5.0f64.sqrt().powi(2))).sqrt();
    Init::Kaiming {
        dist: NormalOrUniform::Uniform,
        fan: FanInOut::FanIn,
        non_linearity: NonLinearity::ExplicitGain(gain),
    }
}

/// `nn.BatchNorm2d`: tch's, with the count of training batches that PyTorch keeps beside the running statistics.
#[derive(Debug)]
struct BatchNorm2d {
    norm: nn::BatchNorm,
    num_batches_tracked: Tensor,
}

impl ModuleT for BatchNorm2d {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        if train {
            let _ = tch::no_grad(|| self.num_batches_tracked.shallow_clone().g_add_scalar_(1));
        }
        self.norm.forward_t(x, train)
    }
}
