//! One training step: gather, augment, forward, loss, backward, SGD, average; operation by operation, or on a GPU as one
//! CUDA graph.
//!
//! A step of this net is more than a hundred small kernels; launched one by one, a GPU waits for the host most of the
//! time. A [`Graph`] launches them in one call. What it replays is fixed: the kernels, the memory that they read and
//! write, and every number that the host gave them. So [`Stepper::static_step`] reads what changes from step to step from
//! device memory ([`StaticInputs`]), the learning rate too, and needs nothing of the host in between.
//!
//! A captured step computes what an eager one computes, by the same kernels on the same numbers, and draws the same
//! dropout masks: a replay moves the generator on by what the captured kernels drew, so that captured and eager steps may
//! alternate, and the generator's state in a checkpoint is right for either. Weights may differ in a last bit now and
//! then: see `sgd.cpp`.

use super::{Average, Sgd};
use crate::config::{Config, CudaGraph, Precision};
use crate::data::Split;
use crate::data::augment::RandomAffine;
use crate::libtorch::generator;
use crate::libtorch::graph::Graph;
use crate::libtorch::precision::Autocast;
use crate::libtorch::without_panic;
use crate::model::Net;
use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// What makes the steps of a run, and what they leave behind beside the weights.
pub struct Stepper<'a> {
    net: &'a Net,
    split: &'a Split,
    device: Device,
    precision: Precision,
    batch_size: i64,
    augment: Option<RandomAffine>,
    label_smoothing: f64,
    /// The optimizer.
    pub sgd: Sgd,
    /// The average of the weights over the steps, where one is asked for.
    pub average: Option<Average>,
    /// The loss of each step of the epoch under way, float32 [steps]; what it holds of steps that are yet to come has no
    /// meaning.
    pub losses: Tensor,
    /// Training images of this epoch that were classified right when it was their turn, an int64 scalar.
    pub correct: Tensor,
    /// The gradients of the last step of an epoch, for those who look at them; they change nothing.
    gradients: Vec<(String, Tensor)>,
    launching: Launching,
}

/// How the kernels of a step are launched.
enum Launching {
    /// One by one.
    Eager,
    /// As a graph, which the next step is to capture.
    Capture,
    /// As this graph.
    Replay(StaticInputs, Graph),
}

/// What changes from one step to the next, in device memory that stays where it is.
pub struct StaticInputs {
    /// Which images, int64 [batch_size].
    indices: Tensor,
    /// Where among the losses this step's goes, int64 [1].
    number: Tensor,
    /// The learning rate, a float32 scalar.
    lr: Tensor,
}

impl StaticInputs {
    /// Sets them for the step `number` of its epoch, without waiting for the device.
    ///
    /// # Errors
    ///
    /// When `indices` are not a whole batch.
    pub fn set(&mut self, indices: &Tensor, number: i64, lr: f64) -> Result<()> {
        let (have, want) = (indices.size(), self.indices.size());
        ensure!(have == want, "a static step takes batches of {want:?}, not {have:?}");
        self.indices.f_copy_(indices)?;
        let _ = self.number.f_fill_(number)?;
        let _ = self.lr.f_fill_(lr)?;
        Ok(())
    }
}

impl<'a> Stepper<'a> {
    /// Before the first step of `net` on batches of `split`, both on `device`, in epochs of `steps` steps.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn new(net: &'a Net, split: &'a Split, device: Device, config: &Config, steps: i64) -> Result<Stepper<'a>> {
        let capture = device.is_cuda() && config.cuda_graph == CudaGraph::Auto;
        Ok(Stepper {
            net,
            split,
            device,
            precision: config.precision,
            batch_size: config.batch_size,
            augment: RandomAffine::of(config, device)?,
            label_smoothing: config.label_smoothing,
            sgd: Sgd::new(net, config),
            average: (config.ema_decay > 0.0).then(|| Average::of(net, config.ema_decay)).transpose()?,
            losses: Tensor::f_zeros([steps], (Kind::Float, device))?,
            correct: Tensor::f_zeros([0i64; 0], (Kind::Int64, device))?,
            gradients: Vec::new(),
            launching: if capture { Launching::Capture } else { Launching::Eager },
        })
    }

    /// The step `number` of its epoch, from 0, on the images at `indices` (int64 [batch_size]); captured where that was asked
    /// for and is possible. Returns the loss, a scalar that is still on its way where the device is a GPU.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn step(&mut self, indices: &Tensor, number: i64, lr: f64) -> Result<Tensor> {
        if let Launching::Capture = self.launching {
            self.launching = self.capture(indices, number, lr)?;
        }
        let Launching::Replay(inputs, graph) = &mut self.launching else {
            return self.eager_step(indices, number, lr);
        };
        inputs.set(indices, number, lr)?;
        graph.replay()?;
        Ok(self.losses.f_select(0, number)?)
    }

    /// The last step of an epoch: eager, as it may be of fewer images. Its gradients are kept.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn last_step(&mut self, indices: &Tensor, number: i64, lr: f64) -> Result<Tensor> {
        let (loss, correct) = self.forward(indices)?;
        loss.f_backward()?;
        self.gradients = self.net.gradients()?;
        self.update(&loss, &correct, number, lr)
    }

    /// What [`Stepper::last_step`] kept: each parameter's name and gradient.
    pub fn last_gradients(&self) -> &[(String, Tensor)] {
        &self.gradients
    }

    /// The same as [`Stepper::step`], operation by operation, on a batch of any size.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn eager_step(&mut self, indices: &Tensor, number: i64, lr: f64) -> Result<Tensor> {
        let (loss, correct) = self.forward(indices)?;
        loss.f_backward()?;
        self.update(&loss, &correct, number, lr)
    }

    /// What follows the backward pass: SGD, the average, and a note of the loss and of the correct images.
    fn update(&mut self, loss: &Tensor, correct: &Tensor, number: i64, lr: f64) -> Result<Tensor> {
        self.sgd.step(lr)?;
        self.average.as_mut().map_or(Ok(()), Average::update)?;
        let loss = loss.detach();
        let _ = self.correct.f_add_(correct)?;
        self.losses.f_select(0, number)?.f_copy_(&loss)?;
        Ok(loss)
    }

    /// The same again, from `inputs`: nothing in it depends on the host, so this is what is captured. It runs on any device.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn static_step(&mut self, inputs: &StaticInputs) -> Result<()> {
        let (loss, correct) = self.forward(&inputs.indices)?;
        loss.f_backward()?;
        self.sgd.static_step(&inputs.lr)?;
        self.average.as_mut().map_or(Ok(()), Average::update)?;
        let _ = self.correct.f_add_(&correct)?;
        let _ = self.losses.f_index_copy_(0, &inputs.number, &loss.detach().f_view([1])?)?;
        Ok(())
    }

    /// The inputs of [`Stepper::static_step`]; also makes the momentum buffers, which must not move after a capture.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn static_inputs(&mut self) -> Result<StaticInputs> {
        self.sgd.make_buffers()?;
        Ok(StaticInputs {
            indices: Tensor::f_zeros([self.batch_size], (Kind::Int64, self.device))?,
            number: Tensor::f_zeros([1], (Kind::Int64, self.device))?,
            lr: Tensor::f_zeros([0i64; 0], (Kind::Float, self.device))?,
        })
    }

    /// The mean loss over the images at `indices`, and how many of them are classified right.
    fn forward(&self, indices: &Tensor) -> Result<(Tensor, Tensor)> {
        let (mut images, labels) = self.split.batch(indices)?;
        if let Some(augment) = &self.augment {
            images = augment.apply(&images)?;
        }
        let autocast = (self.precision == Precision::Bf16).then(|| Autocast::bf16(self.device)).transpose()?;
        let log_probabilities = self.net.forward_t(&images, true);
        let loss = self.loss(&log_probabilities, &labels)?;
        drop(autocast);
        let correct = log_probabilities.detach().f_argmax(1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?;
        Ok((loss, correct))
    }

    /// `F.nll_loss`; smoothed, `F.cross_entropy(label_smoothing=..)` of the same: that share of the target is spread over
    /// all classes.
    fn loss(&self, log_probabilities: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let loss = log_probabilities.f_nll_loss::<Tensor>(labels, None, tch::Reduction::Mean, -100)?;
        if self.label_smoothing == 0.0 {
            return Ok(loss);
        }
        let uniform = log_probabilities.f_mean(None)?.f_mul_scalar(self.label_smoothing)?;
        Ok(loss.f_mul_scalar(1.0 - self.label_smoothing)?.f_sub(&uniform)?)
    }

    /// Captures [`Stepper::static_step`]; where that fails, steps are eager from here on, and the log says why.
    fn capture(&mut self, indices: &Tensor, number: i64, lr: f64) -> Result<Launching> {
        let mut inputs = self.static_inputs()?;
        inputs.set(indices, number, lr)?;
        let before = Snapshot::of(self)?;
        let graph = without_panic(|| Graph::capture(self.device, || self.static_step(&inputs), || before.restore()));
        let error = match graph {
            Ok(graph) => return Ok(Launching::Replay(inputs, graph)),
            Err(error) => error,
        };
        before.restore()?;
        self.sgd.zero_grad();
        tracing::warn!("steps are launched one kernel at a time, not as a CUDA graph: {error:#}");
        Ok(Launching::Eager)
    }
}

/// Everything that a step changes, as it was: the steps of a warm-up are none of the run's.
struct Snapshot {
    device: Device,
    /// Each tensor, sharing its memory, and a copy of it.
    tensors: Vec<(Tensor, Tensor)>,
    /// The state of the device's generator.
    generator: Tensor,
}

impl Snapshot {
    fn of(stepper: &Stepper) -> Result<Snapshot> {
        let mut tensors: Vec<Tensor> = stepper.net.state_dict().0.into_iter().map(|(_, tensor)| tensor).collect();
        tensors.extend(stepper.sgd.momentum_buffers().map(|(_, buffer)| buffer.shallow_clone()));
        if let Some(average) = &stepper.average {
            tensors.extend(average.net().state_dict().0.into_iter().map(|(_, tensor)| tensor));
            tensors.push(average.updates().shallow_clone());
        }
        tensors.extend([stepper.losses.shallow_clone(), stepper.correct.shallow_clone()]);
        let copied = tensors.into_iter().map(|tensor| {
            let copy = tensor.f_detach_copy()?;
            Ok((tensor, copy))
        });
        Ok(Snapshot {
            device: stepper.device,
            tensors: copied.collect::<Result<_>>()?,
            generator: generator::state(stepper.device)?,
        })
    }

    fn restore(&self) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for (tensor, copy) in &self.tensors {
            tensor.shallow_clone().f_copy_(copy)?;
        }
        generator::set_state(self.device, &self.generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Data, Dataset};
    use crate::model::Kernels;

    fn load() -> Data {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        data::load(&folder, Dataset::Mnist, Device::Cpu, Some(24), Some(1)).unwrap()
    }

    /// Without dropout, so that nothing depends on a generator that tests share.
    fn net() -> Net {
        Net::new(Device::Cpu, 0.0, Kernels::Torch)
    }

    fn stepper<'a>(net: &'a Net, data: &'a Data) -> Stepper<'a> {
        let config = Config { batch_size: 8, ema_decay: 0.9, ..Config::default() };
        Stepper::new(net, &data.train, Device::Cpu, &config, 3).unwrap()
    }

    fn batch(number: i64) -> Tensor {
        Tensor::arange_start(8 * number, 8 * number + 8, (Kind::Int64, Device::Cpu))
    }

    fn state(stepper: &Stepper) -> Vec<Tensor> {
        Snapshot::of(stepper).unwrap().tensors.into_iter().map(|(_, copy)| copy).collect()
    }

    #[test]
    fn a_warm_up_is_undone() {
        let (data, net) = (load(), net());
        let mut stepper = stepper(&net, &data);
        let _ = stepper.eager_step(&batch(0), 0, 0.1).unwrap();
        let mut inputs = stepper.static_inputs().unwrap();
        inputs.set(&batch(1), 1, 0.1).unwrap();
        let (before, snapshot) = (state(&stepper), Snapshot::of(&stepper).unwrap());
        stepper.static_step(&inputs).unwrap();
        let changed = state(&stepper).iter().zip(&before).filter(|(after, before)| !after.equal(before)).count();
        // Everything but, when none of the eight images was classified right, their count.
        assert!(changed >= before.len() - 1, "{changed} of {} tensors changed", before.len());
        snapshot.restore().unwrap();
        assert!(state(&stepper).iter().zip(&before).all(|(after, before)| after.equal(before)));
    }

    #[test]
    fn label_smoothing_is_that_of_cross_entropy() {
        let (data, net) = (load(), net());
        let (logits, labels) = (Tensor::randn([8, 10], (Kind::Float, Device::Cpu)), data.train.labels.narrow(0, 0, 8));
        let log_probabilities = logits.log_softmax(1, Kind::Float);
        for label_smoothing in [0.0, 0.1] {
            let config = Config { label_smoothing, ..Config::default() };
            let stepper = Stepper::new(&net, &data.train, Device::Cpu, &config, 1).unwrap();
            let loss = stepper.loss(&log_probabilities, &labels).unwrap();
            let expected =
                logits.cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, label_smoothing);
            assert!((loss - expected).double_value(&[]).abs() < 1e-6);
        }
    }

    #[test]
    fn weight_decay_spares_batch_norm_where_that_is_asked_for() {
        let data = load();
        let shrunk = |weight_decay_norm| {
            let net = net();
            let config = Config { weight_decay: 0.5, weight_decay_norm, ..Config::default() };
            let mut stepper = Stepper::new(&net, &data.train, Device::Cpu, &config, 1).unwrap();
            // Without a gradient of its own a parameter is left alone: zeros make the penalty all there is.
            let before: Vec<_> = net.parameters().map(|(_, tensor)| tensor.detach().copy()).collect();
            net.parameters().for_each(|(_, tensor)| (tensor * tensor.zeros_like()).sum(Kind::Float).backward());
            stepper.sgd.step(0.1).unwrap();
            let factors = net.parameters().zip(before).map(|((name, after), before)| {
                let factor = after.detach().sum(Kind::Double) / before.sum(Kind::Double);
                (name.to_string(), after.dim(), factor.double_value(&[]))
            });
            // BatchNorm's biases are 0 before and after.
            factors.filter(|(name, ..)| !name.ends_with("bias")).collect::<Vec<_>>()
        };
        for (name, _, factor) in shrunk(true) {
            assert!((factor - 0.95).abs() < 1e-4, "{name}: {factor}");
        }
        for (name, dimensions, factor) in shrunk(false) {
            let expected = if dimensions == 1 { 1.0 } else { 0.95 };
            assert!((factor - expected).abs() < 1e-4, "{name}: {factor}");
        }
    }

    #[test]
    fn where_a_capture_fails_steps_are_eager() {
        let data = load();
        let nets = [net(), net()];
        nets[1].load_state_dict(&nets[0].state_dict()).unwrap();
        let states = nets.each_ref().map(|net| {
            let mut stepper = stepper(net, &data);
            if std::ptr::eq(net, &nets[1]) {
                stepper.launching = Launching::Capture;
            }
            for number in 0..3 {
                let loss = stepper.step(&batch(number), number, 0.1).unwrap();
                assert_eq!(f64::try_from(loss).unwrap(), stepper.losses.double_value(&[number]));
            }
            assert!(matches!(stepper.launching, Launching::Eager));
            state(&stepper)
        });
        assert!(states[0].iter().zip(&states[1]).all(|(one, other)| one.equal(other)));
    }

    #[test]
    fn a_static_step_takes_whole_batches_only() {
        let (data, net) = (load(), net());
        let mut inputs = stepper(&net, &data).static_inputs().unwrap();
        let message = inputs.set(&batch(0).narrow(0, 0, 1), 0, 0.1).unwrap_err().to_string();
        assert_eq!(message, "a static step takes batches of [8], not [1]");
    }
}
