//! `--kernels fused` computes what PyTorch's layers compute: forward, gradients, statistics, dropout, evaluation.

use std::sync::{Mutex, MutexGuard};
use tch::nn::ModuleT;
use tch::{Device, Kind, Tensor};
use tch_mnist::layers::{Conv2d, MaxPool2d};
use tch_mnist::libtorch::fused::{self, ConvBlock};
use tch_mnist::libtorch::pieces::OwnThreads;
use tch_mnist::{Architecture, Kernels, Layer, Net};

/// The generator's seed and the number of threads belong to the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// `count` normalised training images [count, 1, 28, 28] from number `from` on, and their labels.
fn mnist(from: i64, count: i64) -> (Tensor, Tensor) {
    let data = tch::vision::mnist::load_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist")).unwrap();
    let images = (data.train_images.narrow(0, from, count) - 0.1307) / 0.3081;
    (images.view([-1, 1, 28, 28]), data.train_labels.narrow(0, from, count))
}

/// The largest difference, as a part of the largest value expected.
fn max_error(actual: &Tensor, expected: &Tensor) -> f64 {
    let difference = (actual.to_kind(Kind::Double) - expected).abs().max();
    (difference / expected.abs().max()).double_value(&[])
}

/// The norm of the difference, as a part of the norm expected.
fn norm_error(actual: &Tensor, expected: &Tensor) -> f64 {
    ((actual.to_kind(Kind::Double) - expected).norm() / expected.norm()).double_value(&[])
}

fn assert_close(what: &str, actual: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(actual.size(), expected.size(), "{what}");
    let (max, norm) = (max_error(actual, expected), norm_error(actual, expected));
    assert!(max < tolerance && norm < tolerance, "{what}: off by {max:e} at most, {norm:e} in norm");
}

/// The images that a batch [N + 1, H, W, C] of fused blocks represents: normalised, 0 where dropped.
fn normalised(packed: &Tensor, dropped: &Tensor) -> Tensor {
    let images = packed.size()[0] - 1;
    let affine = packed.get(images).flatten(0, 1);
    let y = (packed.narrow(0, 0, images) - affine.get(0)) * affine.get(1) + affine.get(2);
    y * dropped.logical_not()
}

/// Random numbers of `channels` channels in the form in which a fused block with dropout 0.05 returns ReLU's output.
fn packed_input(images: i64, side: i64, channels: i64) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    let pad = (channels + 15) / 16 * 16;
    let x = Tensor::zeros([images + 1, side, side, pad], options);
    let dropped = Tensor::rand([images, side, side, channels], options).lt(0.05);
    let values = Tensor::randn([images, side, side, channels], options).relu();
    let signed = values.copysign(&(dropped.to_kind(Kind::Float) * -2. + 1.));
    x.narrow(0, 0, images).narrow(3, 0, channels).copy_(&signed);
    let affine = Tensor::rand([3, channels], options) + 0.2;
    x.get(images).flatten(0, 1).narrow(0, 0, 3).narrow(1, 0, channels).copy_(&affine);
    x
}

/// A block's layers in float64, with the decisions of ReLU and dropout given: in a large batch, rounding decides about
/// a value of almost zero, and the comparison would be of two different functions.
fn reference(x: &Tensor, block: [&Tensor; 3], padding: i64, positive: &Tensor, dropped: &Tensor, p: f64) -> Tensor {
    let [weight, gamma, beta] = block;
    let y = x.conv2d::<Tensor>(weight, None, [1, 1], [padding, padding], [1, 1], 1) * positive;
    let y = y.batch_norm(Some(gamma), Some(beta), None, None, true, 0.1, 1e-5, false);
    y * dropped.logical_not() / (1. - p)
}

/// One block on `images` images, against float64.
fn check_block(images: i64, inputs: i64, outputs: i64, side: i64, padding: i64, p: f64) {
    tch::manual_seed(images * 1000 + inputs);
    let options = (Kind::Float, Device::Cpu);
    let first = inputs == 1;
    let x = if first { mnist(0, images).0 } else { packed_input(images, side, inputs) };
    let x = x.set_requires_grad(!first);
    let parameter = |values: Tensor| values.set_requires_grad(true);
    let block = ConvBlock {
        weight: parameter(Tensor::randn([outputs, inputs, 3, 3], options) * (2. / (9. * inputs as f64)).sqrt()),
        gamma: parameter(Tensor::rand([outputs], options) + 0.5),
        beta: parameter(Tensor::randn([outputs], options)),
        running_mean: Tensor::zeros([outputs], options),
        running_var: Tensor::ones([outputs], options),
        num_batches_tracked: Tensor::zeros([0i64; 0], (Kind::Int64, Device::Cpu)),
        padding,
        dropout: p,
        plain: false,
    };
    let what = format!("{inputs} -> {outputs} channels, {images} images");

    tch::manual_seed(7);
    let key = fused::dropout_key().unwrap();
    tch::manual_seed(7);
    let packed = block.f_forward_t(&x, true).unwrap();

    let out = side + 2 * padding - 2;
    let pad = (outputs + 15) / 16 * 16;
    assert_eq!(packed.size(), [images + 1, out, out, pad], "{what}");
    let batch = packed.detach().narrow(0, 0, images);
    let dropped = batch.signbit();
    let mask = if p > 0. {
        fused::dropout_mask(key, p, images * out * out * pad).unwrap().view_as(&dropped)
    } else {
        dropped.zeros_like()
    };
    assert_eq!(dropped, mask, "{what}: the mask");

    // Both go through the same function of the output, in float64.
    let nchw = |t: &Tensor| t.narrow(3, 0, outputs).permute([0, 3, 1, 2]);
    let actual = nchw(&normalised(&packed.to_kind(Kind::Double), &dropped));
    let double = |t: &Tensor| t.detach().to_kind(Kind::Double).set_requires_grad(t.requires_grad());
    let (x64, w64, g64, b64) = (double(&x), double(&block.weight), double(&block.gamma), double(&block.beta));
    let input = if first {
        x64.shallow_clone()
    } else {
        // copysign(0, -1) is how a dropped zero arrives; its sign is what `signbit` reads.
        let input_dropped = x.detach().narrow(0, 0, images).signbit();
        normalised(&x64, &input_dropped).narrow(3, 0, inputs).permute([0, 3, 1, 2])
    };
    let positive = nchw(&batch.abs().gt(0.));
    let expected = reference(&input, [&w64, &g64, &b64], padding, &positive, &nchw(&dropped), p);
    assert_close(&format!("{what}: forward"), &actual.detach(), &expected.detach(), 1e-5);

    let weights_of_loss = Tensor::randn(expected.size().as_slice(), (Kind::Double, Device::Cpu));
    (actual * &weights_of_loss).sum(Kind::Double).backward();
    (expected * &weights_of_loss).sum(Kind::Double).backward();
    let named = [
        ("weight", &block.weight, &w64),
        ("gamma", &block.gamma, &g64),
        ("beta", &block.beta, &b64),
        ("input", &x, &x64),
    ];
    for (name, actual, expected) in named.into_iter().take(if first { 3 } else { 4 }) {
        let (actual, expected) = (actual.grad(), expected.grad());
        if name == "input" {
            // Images, and the three rows behind them, whose sums are of another size.
            let images_of = |t: &Tensor| t.narrow(0, 0, images);
            let rows_of = |t: &Tensor| t.get(images).flatten(0, 1).narrow(0, 0, 3).narrow(1, 0, inputs);
            assert_close(&format!("{what}: input"), &images_of(&actual), &images_of(&expected), 1e-5);
            for row in 0..3 {
                let (actual, expected) = (rows_of(&actual).get(row), rows_of(&expected).get(row));
                assert_close(&format!("{what}: affine {row}"), &actual, &expected, 1e-5);
            }
        } else {
            assert_close(&format!("{what}: {name}"), &actual, &expected, 1e-5);
        }
    }

    let relu = tch::no_grad(|| input.conv2d::<Tensor>(&w64, None, [1, 1], [padding, padding], [1, 1], 1) * &positive);
    let mean = relu.mean_dim([0i64, 2, 3].as_slice(), false, None) * 0.1;
    let var = relu.var_dim([0i64, 2, 3].as_slice(), true, false) * 0.1 + 0.9;
    assert_close(&format!("{what}: running_mean"), &block.running_mean, &mean, 1e-5);
    assert_close(&format!("{what}: running_var"), &block.running_var, &var, 1e-5);
    assert_eq!(i64::try_from(&block.num_batches_tracked).unwrap(), 1, "{what}");
}

/// Every convolution block of the net: inputs, outputs, the input's side, padding, dropout.
const BLOCKS: [(i64, i64, i64, i64, f64); 6] = [
    (1, 16, 28, 0, 0.05),
    (16, 32, 26, 0, 0.05),
    (10, 16, 12, 0, 0.05),
    (16, 12, 10, 0, 0.3),
    (12, 12, 8, 0, 0.05),
    (12, 14, 6, 1, 0.),
];

#[test]
fn a_block_is_within_1e_5_of_float64() {
    let _alone = alone();
    for (inputs, outputs, side, padding, p) in BLOCKS {
        for images in [1, 3, 8, 37] {
            check_block(images, inputs, outputs, side, padding, p);
        }
    }
}

#[test]
fn a_large_batch_is_within_1e_5_of_float64() {
    let _alone = alone();
    for (inputs, outputs, side, padding, p) in BLOCKS {
        for images in [96, 128] {
            check_block(images, inputs, outputs, side, padding, p);
        }
    }
}

/// Runs `body` with each instruction set that this processor has and with the reference, and then chooses the fastest
/// again.
fn with_each_instruction_set(mut body: impl FnMut(&str)) {
    let chosen = fused::instruction_set();
    let all = fused::INSTRUCTION_SETS.into_iter().chain([fused::REFERENCE]);
    all.filter(|name| fused::use_instruction_set(name)).for_each(&mut body);
    assert!(fused::use_instruction_set(chosen));
}

#[test]
fn every_instruction_set_and_the_reference_compute_the_same() {
    let _alone = alone();
    let mut masks = vec![];
    with_each_instruction_set(|_| {
        for (inputs, outputs, side, padding, p) in BLOCKS {
            check_block(5, inputs, outputs, side, padding, p);
        }
        masks.push(fused::dropout_mask(11, 0.05, 1 << 16).unwrap());
    });
    assert!(!fused::use_instruction_set("mmx"));
    assert!(masks.len() >= 2 && masks.windows(2).all(|pair| pair[0] == pair[1]), "the masks differ");
}

/// Everything that a training step and an evaluation of `count` images leave: outputs, gradients, running statistics.
fn results(count: i64) -> Vec<(String, Tensor)> {
    tch::manual_seed(3);
    let net = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Fused);
    let (images, labels) = mnist(500, count);
    let trained = net.forward_t(&images, true);
    trained.nll_loss(&labels).backward();
    let gradients = net.parameters().map(|(name, parameter)| (format!("gradient of {name}"), parameter.grad().copy()));
    let mut results = vec![("log-probabilities in training".to_string(), trained.detach())];
    results.extend(gradients.collect::<Vec<_>>());
    results.extend(net.state_dict().0.into_iter().filter(|(name, _)| name.contains("running")));
    results.push(("log-probabilities".into(), tch::no_grad(|| net.forward_t(&images, false))));
    results
}

#[test]
fn a_step_and_an_evaluation_are_those_of_the_reference() {
    let _alone = alone();
    // On a few images: on many, a value of almost 0 may pass ReLU with one kernel and not with the other. On a single
    // image the gradients are 0: the last BatchNorm and the average pool after it make the same log-probabilities of
    // every image.
    for count in [2, 3, 7] {
        let mut all = vec![];
        with_each_instruction_set(|name| all.push((name.to_string(), results(count))));
        let (reference, expected) = all.pop().unwrap();
        assert_eq!(reference, fused::REFERENCE);
        for (kernels, actual) in all {
            for ((name, actual), (_, expected)) in actual.iter().zip(&expected) {
                // Seven blocks in float32, each within 1e-5.
                assert_close(
                    &format!("{kernels}, {count} images: {name}"),
                    actual,
                    &expected.to_kind(Kind::Double),
                    1e-4,
                );
            }
        }
    }
}

/// `Net.forward` in float64, in training without dropout, from parameters in the order of `Net::parameters`.
fn reference_net(x: &Tensor, parameters: &[Tensor]) -> Tensor {
    let mut parameters = parameters.iter();
    let mut next = || parameters.next().unwrap();
    let mut x = x.to_kind(Kind::Double);
    for named in Architecture::original(0.).layers() {
        x = match named.layer {
            Layer::Conv2d(Conv2d { padding, .. }) => x.conv2d::<Tensor>(next(), None, [1, 1], padding, [1, 1], 1),
            Layer::ReLU(_) => x.relu(),
            Layer::BatchNorm2d(_) => {
                let (gamma, beta) = (next(), next());
                x.batch_norm(Some(gamma), Some(beta), None, None, true, 0.1, 1e-5, false)
            }
            Layer::Dropout(_) => x,
            Layer::MaxPool2d(MaxPool2d { kernel_size, stride, .. }) => {
                x.max_pool2d(kernel_size, stride, [0, 0], [1, 1], false)
            }
            Layer::AvgPool2d(_) => x.mean_dim([2i64, 3].as_slice(), true, None),
            other => unreachable!("the original has no {other:?}"),
        };
    }
    x.view([-1, 10]).log_softmax(-1, Kind::Double)
}

#[test]
fn the_whole_net_is_within_1e_4_of_float64() {
    let _alone = alone();
    // On two images each: on many, rounding decides whether some value of almost 0 passes ReLU.
    for batch in 0..8 {
        tch::manual_seed(batch);
        let net = Net::new(Device::Cpu, &Architecture::original(0.), Kernels::Fused);
        let (images, labels) = mnist(batch * 2, 2);
        let double = |t: &Tensor| t.detach().to_kind(Kind::Double).set_requires_grad(true);
        let twins: Vec<Tensor> = net.parameters().map(|(_, parameter)| double(parameter)).collect();
        let (actual, expected) = (net.forward_t(&images, true), reference_net(&images, &twins));
        assert_close("log-probabilities", &actual.detach(), &expected.detach(), 1e-4);
        actual.nll_loss(&labels).backward();
        expected.nll_loss(&labels).backward();
        for ((name, parameter), twin) in net.parameters().zip(&twins) {
            assert_close(name, &parameter.grad(), &twin.grad(), 1e-4);
        }
    }
}

/// A few steps of SGD; the losses.
fn train(net: &Net, images: &Tensor, labels: &Tensor, batch: i64, steps: i64) -> Vec<f64> {
    let mut momentum: Vec<Tensor> = net.parameters().map(|(_, parameter)| parameter.zeros_like()).collect();
    let batches = images.size()[0] / batch;
    let step = |step: i64| {
        let of = |t: &Tensor| t.narrow(0, step % batches * batch, batch);
        let loss = net.forward_t(&of(images), true).nll_loss(&of(labels));
        loss.backward();
        tch::no_grad(|| {
            for ((_, parameter), buffer) in net.parameters().zip(&mut momentum) {
                let _ = buffer.g_mul_scalar_(0.9);
                let _ = buffer.g_add_(&parameter.grad());
                let _ = parameter.shallow_clone().g_sub_(&(&*buffer * 0.01));
                let _ = parameter.grad().zero_();
            }
        });
        loss.double_value(&[])
    };
    (0..steps).map(step).collect()
}

#[test]
fn training_reaches_the_loss_of_torch() {
    let _alone = alone();
    let (images, labels) = mnist(0, 32 * 200);
    // One thread: as fast on so few images, also on a busy machine.
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let last = |kernels| {
        tch::manual_seed(1);
        let net = Net::new(Device::Cpu, &Architecture::original(0.05), kernels);
        let losses = train(&net, &images, &labels, 32, 200);
        (losses[0], losses[150..].iter().sum::<f64>() / 50.)
    };
    let ((torch_first, torch_last), (fused_first, fused_last)) = (last(Kernels::Torch), last(Kernels::Fused));
    tch::set_num_threads(threads);
    assert!((torch_first - fused_first).abs() < 0.1, "the first loss: {torch_first} and {fused_first}");
    let ratio = fused_last / torch_last;
    assert!(torch_last < 0.6 && (0.75..1.33).contains(&ratio), "the last losses: {torch_last} and {fused_last}");
}

#[test]
fn threads_change_no_bit_and_the_seed_decides() {
    let _alone = alone();
    let (images, labels) = mnist(0, 300);
    let threads = tch::get_num_threads();
    let run = |threads: i32, own: bool, seed: i64| {
        tch::set_num_threads(threads);
        let _own_threads = own.then(OwnThreads::new);
        tch::manual_seed(1);
        let net = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Fused);
        tch::manual_seed(seed);
        let losses = train(&net, &images, &labels, 100, 3);
        let evaluated = tch::no_grad(|| net.forward_t(&images, false));
        (losses, net.state_dict().0, evaluated)
    };
    let (one, other) = (run(1, false, 5), run(2, true, 6));
    for (threads, own) in [(2, false), (2, true), (3, true), (4, true)] {
        let several = run(threads, own, 5);
        assert_eq!(one.0, several.0, "{threads} threads");
        assert_eq!(one.2, several.2, "{threads} threads");
        for ((key, a), (_, b)) in one.1.iter().zip(&several.1) {
            assert_eq!(a, b, "{key}, {threads} threads");
        }
    }
    tch::set_num_threads(threads);
    assert_ne!(one.0, other.0, "another seed, the same dropout");
}

#[test]
fn evaluation_equals_torch() {
    let _alone = alone();
    let (images, labels) = mnist(0, 1000);
    tch::manual_seed(1);
    let fused = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Fused);
    train(&fused, &images, &labels, 100, 10);
    let torch = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Torch);
    torch.load_state_dict(&fused.state_dict()).unwrap();
    for batch in [1, 3, 96, 128, 1000] {
        let some = images.narrow(0, 0, batch);
        let (actual, expected) = tch::no_grad(|| (fused.forward_t(&some, false), torch.forward_t(&some, false)));
        assert_close(&format!("{batch} images"), &actual, &expected.to_kind(Kind::Double), 1e-5);
    }
}

#[test]
fn dropout_drops_at_its_rate_and_without_correlation() {
    let _alone = alone();
    tch::manual_seed(1);
    const EACH: i64 = 10_000_000;
    let keys: Vec<u64> = (0..10).map(|_| fused::dropout_key().unwrap()).collect();
    let mask = |key: u64| fused::dropout_mask(key, 0.05, EACH).unwrap();
    let count = |t: &Tensor| i64::try_from(t.sum(Kind::Int64)).unwrap() as f64;
    // The correlation of two masks: its standard error is 1 / sqrt(draws).
    let both = |a: &Tensor, b: &Tensor| {
        let draws = a.size()[0] as f64;
        (count(&a.logical_and(b)) / draws - count(a) / draws * count(b) / draws) / (0.05 * 0.95)
    };
    let mut total = 0.;
    let mut previous: Option<Tensor> = None;
    let mut correlations: Vec<(String, f64, f64)> = vec![];
    let lags = [1, 2, 16, 32, 16 * 26, 32 * 24, 32 * 24 * 24];
    let mut by_lag = [0.; 7];
    for key in &keys {
        let mask = mask(*key);
        total += count(&mask);
        for (sum, lag) in by_lag.iter_mut().zip(lags) {
            *sum += both(&mask.narrow(0, 0, EACH - lag), &mask.narrow(0, lag, EACH - lag)) / keys.len() as f64;
        }
        if let Some(previous) = previous {
            correlations.push((format!("key {key:x}"), both(&previous, &mask), 1.6e-3));
        }
        previous = Some(mask);
    }
    // Keys that differ in one bit.
    let near = mask(keys[0]);
    for bit in [0, 31, 32, 63] {
        correlations.push((format!("bit {bit}"), both(&near, &mask(keys[0] ^ (1 << bit))), 1.6e-3));
    }
    correlations.extend(lags.iter().zip(by_lag).map(|(lag, correlation)| (format!("lag {lag}"), correlation, 5e-4)));
    let rate = total / (EACH as f64 * keys.len() as f64);
    assert!((rate - 0.05).abs() < 1e-4, "{rate}");
    for (what, correlation, bound) in correlations {
        assert!(correlation.abs() < bound, "{what}: {correlation:e}");
    }
}

#[test]
fn a_net_that_diverged_shows_it() {
    let _alone = alone();
    let (images, labels) = mnist(0, 8);
    tch::manual_seed(1);
    let net = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Fused);
    let first = net.parameters().next().unwrap().1.shallow_clone();
    let _ = tch::no_grad(|| first.detach().view([-1]).narrow(0, 0, 1).fill_(f64::NAN));
    assert!(net.forward_t(&images, true).nll_loss(&labels).double_value(&[]).is_nan());
    assert!(tch::no_grad(|| net.forward_t(&images, false)).isnan().any().int64_value(&[]) == 1);
}

#[test]
fn wrong_shapes_and_types_are_errors() {
    let _alone = alone();
    let options = (Kind::Float, Device::Cpu);
    let block = ConvBlock {
        weight: Tensor::zeros([16, 1, 3, 3], options),
        gamma: Tensor::ones([16], options),
        beta: Tensor::zeros([16], options),
        running_mean: Tensor::zeros([16], options),
        running_var: Tensor::ones([16], options),
        num_batches_tracked: Tensor::zeros([0i64; 0], (Kind::Int64, Device::Cpu)),
        padding: 0,
        dropout: 0.05,
        plain: false,
    };
    let message = |x: &Tensor| block.f_forward_t(x, true).unwrap_err().to_string();
    assert!(message(&Tensor::zeros([2, 1, 28, 28], (Kind::Double, Device::Cpu))).contains("float32"));
    assert!(message(&Tensor::zeros([2, 3, 28, 28], options)).contains("one channel"));
    assert!(message(&Tensor::zeros([2, 1, 28, 28], options).set_requires_grad(true)).contains("gradient"));
    assert!(message(&Tensor::zeros([0, 1, 28, 28], options)).contains("empty"));
    assert_eq!(block.forward_t(&Tensor::zeros([2, 1, 28, 28], options), false).size(), [2, 26, 26, 16]);
    let short = ConvBlock { running_var: Tensor::ones([15], options), ..block };
    for train in [true, false] {
        let error = short.f_forward_t(&Tensor::zeros([2, 1, 28, 28], options), train).unwrap_err().to_string();
        assert!(error.contains("16 numbers"), "{error}");
    }
}
