//! The net of `ERA_S6.md`: the class `Net` there, layer by layer and name by name.
//!
//! [`blocks`] is the architecture, read by everything that needs it: the net here, the table of `summary`, the
//! TorchScript module of `model.pt`.

use crate::libtorch::{fused, generator};
use crate::weights::StateDict;
use anyhow::{Result, ensure};
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

/// A named member of `Net`: an `nn.Sequential` of layers, but for `pool1`, which is a bare layer there.
#[derive(Clone, Debug)]
pub struct Block {
    /// The member's name, such as `convblock1`.
    pub name: &'static str,
    /// Its layers; a state_dict key is `name.index.parameter`.
    pub layers: Vec<Layer>,
}

/// The blocks in the order of `Net.forward`, with `dropout` after each BatchNorm but the last (the original: 0.05).
///
/// Behind each block: the width and height of its output for 28x28 images.
pub fn blocks(dropout: f64) -> Vec<Block> {
    use Layer::{AvgPool2d, BatchNorm2d, Dropout, MaxPool2d, ReLU};
    let conv = |inputs, outputs, kernel| Layer::Conv2d { inputs, outputs, kernel, padding: 0 };
    let padded = |inputs, outputs, kernel| Layer::Conv2d { inputs, outputs, kernel, padding: 1 };
    let norm = |channels| BatchNorm2d { channels };
    let drop = Dropout { p: dropout };
    let block = |name, layers: &[Layer]| Block { name, layers: layers.to_vec() };
    vec![
        block("convblock1", &[conv(1, 16, 3), ReLU, norm(16), drop]), // 26
        block("convblock2", &[conv(16, 32, 3), ReLU, norm(32), drop]), // 24
        block("convblock3", &[conv(32, 10, 1)]),                      // 24
        block("pool1", &[MaxPool2d { kernel: 2 }]),                   // 12
        block("convblock4", &[conv(10, 16, 3), ReLU, norm(16), drop]), // 10
        block("convblock5", &[conv(16, 12, 3), ReLU, norm(12), drop]), //  8
        block("convblock6", &[conv(12, 12, 3), ReLU, norm(12), drop]), //  6
        block("convblock7", &[padded(12, 14, 3), ReLU, norm(14)]),    //  6
        block("gap", &[AvgPool2d { kernel: 6 }]),                     //  1
        block("convblock8", &[conv(14, 10, 1)]),                      //  1
    ]
}

/// What computes the layers; the net, its names and its weights are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// PyTorch's own, layer by layer.
    Torch,
    /// A block as one operation ([`fused`]), on the CPU only: elsewhere this is [`Kernels::Torch`].
    Fused,
}

/// `Net` of `ERA_S6.md`: maps images [N, 1, 28, 28] to log-probabilities [N, 10].
pub struct Net {
    device: Device,
    dropout: f64,
    kernels: Kernels,
    /// The blocks of [`blocks`] as tch builds them.
    sequentials: Vec<SequentialT>,
    /// What the state_dict holds, in its order.
    entries: Vec<Entry>,
}

/// A parameter or buffer under its state_dict key.
struct Entry {
    key: String,
    tensor: Tensor,
}

impl Net {
    /// Builds the net on `device`, its weights drawn from libtorch's default generator as PyTorch's constructors draw
    /// them: `tch::manual_seed(seed)` before it gives the weights of `torch.manual_seed(seed); Net()`.
    pub fn new(device: Device, dropout: f64, kernels: Kernels) -> Net {
        let fuse = kernels == Kernels::Fused && device == Device::Cpu;
        let store = nn::VarStore::new(Device::Cpu);
        let mut entries = Vec::new();
        let mut sequentials = Vec::new();
        let mut previous = Vec::new();
        for block in blocks(dropout) {
            let first = entries.len();
            let mut sequential = nn::seq_t();
            for (index, layer) in block.layers.iter().enumerate() {
                let path = store.root() / block.name / index;
                sequential = layer.build(sequential, &path, device, &mut entries);
            }
            sequentials.push(if fuse { fused_block(&block.layers, &previous, &entries[first..]) } else { sequential });
            previous = block.layers;
        }
        Net { device, dropout, kernels, sequentials, entries }
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Another net with the same weights. Libtorch's default generator is left as it is.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn copy(&self) -> Result<Net> {
        let state = generator::state(Device::Cpu)?;
        let copy = Net::new(self.device, self.dropout, self.kernels);
        generator::set_state(Device::Cpu, &state)?;
        copy.load_state_dict(&self.state_dict())?;
        Ok(copy)
    }

    /// The log-probabilities [N, 10] of images [N, 1, 28, 28]; `train` switches BatchNorm and dropout.
    pub fn forward_t(&self, images: &Tensor, train: bool) -> Tensor {
        let logits = self.sequentials.iter().fold(images.shallow_clone(), |x, block| block.forward_t(&x, train));
        logits.view([-1, 10]).log_softmax(-1, Kind::Float)
    }

    /// What each layer puts out for `images`, in order: one tensor a layer of [`blocks`].
    pub fn forward_all(&self, images: &Tensor) -> Vec<Tensor> {
        let mut outputs = vec![images.shallow_clone()];
        for block in &self.sequentials {
            outputs.extend(block.forward_all_t(&outputs[outputs.len() - 1], false, None));
        }
        outputs.split_off(1)
    }

    /// Every layer with its number of parameters, in the order of `forward`.
    pub fn layers(&self) -> Vec<(Layer, i64)> {
        let blocks = blocks(0.0);
        let layers = blocks.iter().flat_map(|block| block.layers.iter().enumerate().map(|layer| (block.name, layer)));
        layers
            .map(|(block, (index, layer))| {
                let prefix = format!("{block}.{index}.");
                let own = self.parameters().filter(|(key, _)| key.starts_with(&prefix));
                (*layer, own.map(|(_, tensor)| tensor.numel() as i64).sum())
            })
            .collect()
    }

    /// The trainable tensors under their keys, in the order of PyTorch's `parameters()`.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries
            .iter()
            .filter(|entry| entry.tensor.requires_grad())
            .map(|entry| (entry.key.as_str(), &entry.tensor))
    }

    /// A copy of the gradient of each parameter, as backpropagation left it.
    ///
    /// # Errors
    ///
    /// When there was no backpropagation since the gradients were cleared.
    pub fn gradients(&self) -> Result<Vec<(String, Tensor)>> {
        let copy = |(name, tensor): (&str, &Tensor)| Ok((name.to_string(), tensor.f_grad()?.f_detach_copy()?));
        self.parameters().map(copy).collect()
    }

    /// Whether no parameter or buffer is nan or infinite.
    ///
    /// # Errors
    ///
    /// When libtorch fails.
    pub fn is_finite(&self) -> Result<bool> {
        let finite = self.entries.iter().map(|entry| Ok(entry.tensor.detach().f_isfinite()?.f_all()?));
        Ok(bool::try_from(Tensor::f_stack(&finite.collect::<Result<Vec<_>>>()?, 0)?.f_all()?)?)
    }

    /// Parameters and buffers as PyTorch's `state_dict()`: 38 keys in its order, sharing this net's memory.
    pub fn state_dict(&self) -> StateDict {
        let named = |entry: &Entry| (entry.key.clone(), entry.tensor.detach());
        StateDict(self.entries.iter().map(named).collect())
    }

    /// Copies `weights` into the net, as `load_state_dict(weights, strict=True)`.
    ///
    /// # Errors
    ///
    /// When a key is missing or left over, or a shape differs: the first such key, in one sentence.
    pub fn load_state_dict(&self, weights: &StateDict) -> Result<()> {
        for ((key, _), entry) in weights.0.iter().zip(&self.entries) {
            ensure!(*key == entry.key, "the weights hold {key} where {} was expected", entry.key);
        }
        ensure!(
            weights.0.len() == self.entries.len(),
            "the weights hold {} tensors, not {}",
            weights.0.len(),
            self.entries.len()
        );
        tch::no_grad(|| {
            for ((key, tensor), entry) in weights.0.iter().zip(&self.entries) {
                let (have, want) = (tensor.size(), entry.tensor.size());
                ensure!(have == want, "{key} has the shape {have:?}, not {want:?}");
                entry.tensor.shallow_clone().f_copy_(tensor)?;
            }
            Ok(())
        })
    }
}

impl Layer {
    /// Appends the layer to `sequential`, its tensors made on the CPU under `path`, kept on `device`, and noted in
    /// `entries` in the order of PyTorch's state_dict.
    fn build(self, sequential: SequentialT, path: &nn::Path, device: Device, entries: &mut Vec<Entry>) -> SequentialT {
        // PyTorch draws the weights on the CPU and then moves the net; `Net().to(device)` of one seed is the same
        // net on every device.
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
}

/// A block on the fused kernels, with the tensors that `entries` holds for its layers; `previous` is the block before.
fn fused_block(layers: &[Layer], previous: &[Layer], entries: &[Entry]) -> SequentialT {
    let tensor = |index: usize| entries[index].tensor.shallow_clone();
    match *layers {
        [Layer::Conv2d { padding, .. }, Layer::ReLU, Layer::BatchNorm2d { .. }, ref rest @ ..] => {
            let dropout = if let [Layer::Dropout { p }] = *rest { p } else { 0. };
            nn::seq_t().add(fused::ConvBlock {
                weight: tensor(0),
                gamma: tensor(1),
                beta: tensor(2),
                running_mean: tensor(3),
                running_var: tensor(4),
                num_batches_tracked: tensor(5),
                padding,
                dropout,
                plain: matches!(previous, [Layer::MaxPool2d { .. }]),
            })
        }
        // A pool and the 1x1 convolution beside it are one operation, which stands where the convolution does.
        [Layer::MaxPool2d { .. } | Layer::AvgPool2d { .. }] => nn::seq_t(),
        [Layer::Conv2d { .. }] => {
            let weight = tensor(0);
            let averages = matches!(previous, [Layer::AvgPool2d { .. }]);
            let operation = if averages { fused::average_pool_convolution } else { fused::convolution_max_pool };
            nn::seq_t().add_fn_t(move |x, train| operation(x, &weight, train).expect("a fused block"))
        }
        ref other => unreachable!("no fused form of {other:?}"),
    }
}

/// `nn.Conv2d`'s own initialisation, `kaiming_uniform_(weight, a=sqrt(5))`: Uniform(-b, b), b = 1 / sqrt(fan_in).
///
/// tch's default is the gain of a ReLU, which makes the bound sqrt(6) times as large.
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
