//! The original's training on plain tch, from the data to the weights: read this first.
//!
//!     cargo run --release --example era_s6 -- --epochs 2 --images 6400
//!
//! From this library it takes what tch lacks: PyTorch's order of shuffled images, and TorchScript. Its weights have the same
//! bits as those of `tch-mnist train --kernels torch`, and of PyTorch.

use anyhow::{Context, Result};
use clap::Parser;
use std::path::PathBuf;
use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use tch::nn::{self, Init, ModuleT, OptimizerConfig, Path, SequentialT, VarStore};
use tch::{Device, Kind, Reduction, Tensor, vision};
use tch_mnist::{Architecture, Shuffle, StateDict, weights};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 15)]
    epochs: usize,
    /// Train on the first N images; 0 is all
    #[arg(long, default_value_t = 0)]
    images: i64,
    /// The TorchScript module to write
    #[arg(long, default_value = "model.pt")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = Device::cuda_if_available();
    let data = vision::mnist::load_dir("data/mnist").context("scripts/train downloads and unpacks the data")?;
    let normalised = |images: &Tensor| ((images.view([-1, 1, 28, 28]) - 0.1307) / 0.3081).to_device(device);
    let count = if args.images > 0 { args.images } else { data.train_labels.size()[0] };
    let (images, labels) = (normalised(&data.train_images.narrow(0, 0, count)), data.train_labels.to_device(device));
    let (test_images, test_labels) = (normalised(&data.test_images), data.test_labels.to_device(device));

    tch::manual_seed(1);
    let mut vs = VarStore::new(Device::Cpu);
    let net = net(&vs.root());
    vs.set_device(device);
    let mut lr = 0.01;
    let mut optimizer = nn::Sgd { momentum: 0.9, ..Default::default() }.build(&vs, lr)?;
    for epoch in 0..args.epochs {
        println!("EPOCH: {epoch}");
        for (batch_id, batch) in Shuffle::draw()?.batches(count, 128, device)?.iter().enumerate() {
            let output = net.forward_t(&images.index_select(0, batch), true);
            let loss = output.nll_loss(&labels.index_select(0, batch));
            optimizer.backward_step(&loss);
            eprint!("\rloss={:.4} batch_id={batch_id}", f64::try_from(&loss)?);
        }
        // StepLR(step_size=6, gamma=0.1)
        if (epoch + 1) % 6 == 0 {
            lr *= 0.1;
            optimizer.set_lr(lr);
        }
        test(&net, &test_images, &test_labels)?;
    }
    let original = Architecture::original(0.05);
    weights::write(&args.out, &StateDict::of(&vs, &original)?, &original, &Default::default())
}

/// The original's `Net`, layer for layer: images [N, 1, 28, 28] to log-probabilities [N, 10].
#[rustfmt::skip]
fn net(p: &Path) -> SequentialT {
    let net = nn::seq_t();
    let net = block(net, p / "convblock1", 1, 16, 0, 0.05); // 26x26
    let net = block(net, p / "convblock2", 16, 32, 0, 0.05); // 24x24
    let net = net.add(conv(p / "convblock3" / 0, 32, 10, 1, 0)); // 24x24
    let net = net.add_fn(|x| x.max_pool2d_default(2)); // pool1, 12x12
    let net = block(net, p / "convblock4", 10, 16, 0, 0.05); // 10x10
    let net = block(net, p / "convblock5", 16, 12, 0, 0.05); // 8x8
    let net = block(net, p / "convblock6", 12, 12, 0, 0.05); // 6x6
    let net = block(net, p / "convblock7", 12, 14, 1, 0.0); // 6x6
    let net = net.add_fn(|x| x.avg_pool2d(6, 6, 0, false, true, None)); // gap, 1x1
    let net = net.add(conv(p / "convblock8" / 0, 14, 10, 1, 0)); // 1x1
    net.add_fn(|x| x.view([-1, 10]).log_softmax(-1, Kind::Float))
}

/// `Conv2d(3x3) -> ReLU -> BatchNorm2d -> Dropout`
fn block(net: SequentialT, p: Path, inputs: i64, outputs: i64, padding: i64, dropout: f64) -> SequentialT {
    // tch draws this weight at random, and does not count batches.
    let config = nn::BatchNormConfig { ws_init: Init::Const(1.0), ..Default::default() };
    let norm = nn::batch_norm2d(&p / 2, outputs, config);
    let batches = (&p / 2).add("num_batches_tracked", Tensor::from(0i64), false);
    net.add(conv(&p / 0, inputs, outputs, 3, padding)).add_fn(Tensor::relu).add_fn_t(move |x, train| {
        let _ = batches.shallow_clone().g_add_scalar_(i64::from(train));
        norm.forward_t(x, train).dropout(dropout, train)
    })
}

fn conv(p: Path, inputs: i64, outputs: i64, size: i64, padding: i64) -> nn::Conv2D {
    // kaiming_uniform_(a=sqrt(5)); tch's default has the gain of a ReLU.
    let gain = NonLinearity::ExplicitGain((2.0 / (1.0 + 5.0f64.sqrt().powi(2))).sqrt());
    let ws_init = Init::Kaiming { dist: NormalOrUniform::Uniform, fan: FanInOut::FanIn, non_linearity: gain };
    nn::conv2d(p, inputs, outputs, size, nn::ConvConfig { padding, bias: false, ws_init, ..Default::default() })
}

/// Prints the original's line for the test set.
fn test(net: &SequentialT, images: &Tensor, labels: &Tensor) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let (mut loss, mut correct, total) = (0.0, 0, labels.size()[0]);
    for batch in Shuffle::draw()?.batches(total, 128, images.device())? {
        let (output, target) = (net.forward_t(&images.index_select(0, &batch), false), labels.index_select(0, &batch));
        loss += f64::try_from(output.g_nll_loss(&target, None::<Tensor>, Reduction::Sum, -100))?;
        correct += i64::try_from(output.argmax(1, false).eq_tensor(&target).sum(Kind::Int64))?;
    }
    let (loss, percent) = (loss / total as f64, 100.0 * correct as f64 / total as f64);
    println!("\nTest set: Average loss: {loss:.4}, Accuracy: {correct}/{total} ({percent:.2}%)\n");
    Ok(())
}
