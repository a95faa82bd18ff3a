//! One training step: gather, augment, forward, loss, backward, clip, optimizer, average. Operation by operation, or on a GPU
//! as one CUDA graph.
//!
//! A step of this net is more than a hundred small kernels. Launched one by one, they leave a GPU waiting for the host
//! most of the time; a [`Graph`] launches them in one call. A graph replays the same kernels on the same memory with the
//! same numbers from the host. So [`Stepper::static_step`] reads everything that changes from step to step, the learning
//! rate too, from device memory ([`StaticInputs`]).
//!
//! A captured step computes what an eager one computes, with the same kernels on the same numbers, and draws the same
//! dropout masks: a replay advances the generator by what the captured kernels drew. So captured and eager steps may
//! alternate, and the generator's state in a checkpoint is right for both. A weight's last bit may differ: see `sgd.cpp`.

use super::augmentations::{self, Augmentation};
use super::state::State;
use crate::data::Split;
use crate::error::without_panic;
use crate::libtorch::clip_grad::clip_grad_norm;
use crate::libtorch::graph::Graph;
use crate::libtorch::precision::Autocast;
use crate::model::Net;
use crate::settings::{CudaGraph, Precision, Settings};
use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

/// Why `--cuda-graph on` ends a run.
const NOT_CAPTURED: &str = "no step can be captured as a CUDA graph, which --cuda-graph on asks for";

/// Makes the steps of a run.
pub struct Stepper<'a> {
    split: &'a Split,
    settings: &'a Settings,
    augmentations: Vec<Box<dyn Augmentation>>,
    /// The gradients of the last step of an epoch, for those who look at them.
    gradients: Vec<(String, Tensor)>,
    launching: Launching,
}

/// How the kernels of a step are launched.
enum Launching {
    /// One by one.
    Eager,
    /// As this graph.
    Replay(StaticInputs, Graph),
}

/// What changes from one step to the next, in device memory that stays where it is.
pub struct StaticInputs {
    /// Which images, int64 [batch_size].
    indices: Tensor,
    /// The step's number in its epoch, int64 [1].
    number: Tensor,
    /// The learning rate, a float32 scalar.
    lr: Tensor,
}

impl StaticInputs {
    fn new(batch_size: i64, device: Device) -> Result<StaticInputs> {
        Ok(StaticInputs {
            indices: Tensor::f_zeros([batch_size], (Kind::Int64, device))?,
            number: Tensor::f_zeros([1], (Kind::Int64, device))?,
            lr: Tensor::f_zeros([0i64; 0], (Kind::Float, device))?,
        })
    }

    /// Sets them for the next step of `state`, without waiting for the device.
    pub fn set(&mut self, state: &State, indices: &Tensor, lr: f64) -> Result<()> {
        let (have, want) = (indices.size(), self.indices.size());
        ensure!(have == want, "a static step takes batches of {want:?}, not {have:?}");
        self.indices.f_copy_(indices)?;
        let _ = self.number.f_fill_(state.position.step)?;
        let _ = self.lr.f_fill_(lr)?;
        Ok(())
    }
}

impl<'a> Stepper<'a> {
    /// A maker of steps on batches of `split`.
    pub fn new(split: &'a Split, settings: &'a Settings) -> Result<Stepper<'a>> {
        Ok(Stepper {
            split,
            settings,
            augmentations: augmentations::of(&settings.augmentation, split.device())?,
            gradients: Vec::new(),
            launching: Launching::Eager,
        })
    }

    /// Gets ready for the steps of `state` and leaves it as it is. On a GPU, a step is captured as a CUDA graph, unless
    /// `--cuda-graph off`, and what costs time on its first use is done once. On a CPU there is nothing to do.
    ///
    /// # Errors
    ///
    /// If a step cannot be captured and `--cuda-graph on` demands it; with `auto` that is a warning, and steps are eager.
    pub fn prepare(&mut self, state: &mut State) -> Result<()> {
        let is_cuda = self.split.device().is_cuda();
        match self.settings.cuda.cuda_graph {
            CudaGraph::On => self.capture(state).context(NOT_CAPTURED)?,
            CudaGraph::Auto if is_cuda => self.capture_or_warn(state),
            CudaGraph::Auto | CudaGraph::Off => {}
        }
        if is_cuda { self.rehearse(state) } else { Ok(()) }
    }

    /// Whether steps on whole batches are replayed as a CUDA graph, except for the last step of an epoch.
    pub fn is_captured(&self) -> bool {
        matches!(self.launching, Launching::Replay(..))
    }

    /// A step on the images at `indices` (int64 [B]), as a graph if [`Stepper::prepare`] captured one: a graph takes whole
    /// batches only. Returns the loss, a scalar that a GPU may still be computing.
    pub fn step(&mut self, state: &mut State, indices: &Tensor, lr: f64) -> Result<Tensor> {
        let number = state.position.step;
        let Launching::Replay(inputs, graph) = &mut self.launching else {
            return self.eager_step(state, indices, lr);
        };
        if indices.size() != [self.settings.training.batches.batch_size] {
            return self.eager_step(state, indices, lr);
        }
        inputs.set(state, indices, lr)?;
        graph.replay()?;
        state.position.step += 1;
        Ok(state.losses.f_select(0, number)?)
    }

    /// The last step of an epoch: eager, as it may be on fewer images. Its gradients are kept.
    pub(crate) fn last_step(&mut self, state: &mut State, indices: &Tensor, lr: f64) -> Result<Tensor> {
        let (loss, correct) = self.backward(&state.net, indices)?;
        self.gradients = state.net.gradients()?;
        self.update(state, &loss, &correct, lr)
    }

    /// The name and gradient of each parameter in the last step of an epoch.
    pub(crate) fn last_gradients(&self) -> &[(String, Tensor)] {
        &self.gradients
    }

    /// As [`Stepper::step`], operation by operation, on a batch of any size.
    pub fn eager_step(&self, state: &mut State, indices: &Tensor, lr: f64) -> Result<Tensor> {
        let (loss, correct) = self.backward(&state.net, indices)?;
        self.update(state, &loss, &correct, lr)
    }

    /// As [`Stepper::step`], from `inputs`, as a graph replays it; on any device.
    pub fn static_step(&self, state: &mut State, inputs: &StaticInputs) -> Result<()> {
        self.captured(state, inputs)?;
        state.position.step += 1;
        Ok(())
    }

    /// What a graph captures: nothing in it comes from the host.
    fn captured(&self, state: &mut State, inputs: &StaticInputs) -> Result<()> {
        let (loss, correct) = self.backward(&state.net, &inputs.indices)?;
        self.clip(state)?;
        state.optimizer.static_step(&inputs.lr)?;
        if let Some(average) = &mut state.average {
            average.update()?;
        }
        let _ = state.correct.f_add_(&correct)?;
        let _ = state.losses.f_index_copy_(0, &inputs.number, &loss.detach().f_view([1])?)?;
        Ok(())
    }

    /// The inputs of [`Stepper::static_step`].
    pub fn static_inputs(&self) -> Result<StaticInputs> {
        StaticInputs::new(self.settings.training.batches.batch_size, self.split.device())
    }

    /// What follows the gradients: clipping, the optimizer, the average, and a note of the loss and of the correct images.
    fn update(&self, state: &mut State, loss: &Tensor, correct: &Tensor, lr: f64) -> Result<Tensor> {
        self.clip(state)?;
        state.optimizer.step(lr)?;
        if let Some(average) = &mut state.average {
            average.update()?;
        }
        let loss = loss.detach();
        let _ = state.correct.f_add_(correct)?;
        state.losses.f_select(0, state.position.step)?.f_copy_(&loss)?;
        state.position.step += 1;
        Ok(loss)
    }

    /// Notes the norm of the gradients; with `--clip-grad-norm`, scales them down to it.
    fn clip(&self, state: &mut State) -> Result<()> {
        let parameters = state.net.parameters().map(|(_, tensor)| tensor);
        clip_grad_norm(parameters, self.settings.optimizer.clip_grad_norm, &mut state.grad_norm)
    }

    /// Computes the gradients for the images at `indices`. Returns the mean loss and the number of images that were
    /// classified correctly.
    fn backward(&self, net: &Net, indices: &Tensor) -> Result<(Tensor, Tensor)> {
        let (images, labels) = self.split.batch(indices)?;
        let images = augmentations::apply(&self.augmentations, images)?;
        let bf16 = self.settings.cuda.precision == Precision::Bf16;
        let autocast = bf16.then(|| Autocast::bf16(self.split.device())).transpose()?;
        let log_probabilities = net.forward_t(&images, true);
        let loss = self.loss(&log_probabilities, &labels)?;
        drop(autocast);
        let correct = log_probabilities.detach().f_argmax(1, false)?.f_eq_tensor(&labels)?.f_sum(Kind::Int64)?;
        loss.f_backward()?;
        Ok((loss, correct))
    }

    /// `F.nll_loss`; with label smoothing, what `F.cross_entropy(label_smoothing=..)` computes of the same.
    fn loss(&self, log_probabilities: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let label_smoothing = self.settings.training.label_smoothing;
        let loss = log_probabilities.f_nll_loss::<Tensor>(labels, None, tch::Reduction::Mean, -100)?;
        if label_smoothing == 0.0 {
            return Ok(loss);
        }
        let uniform = log_probabilities.f_mean(None)?.f_mul_scalar(label_smoothing)?;
        Ok(loss.f_mul_scalar(1.0 - label_smoothing)?.f_sub(&uniform)?)
    }

    /// Captures a step; if that fails, steps are eager, and the log says why.
    fn capture_or_warn(&mut self, state: &mut State) {
        if let Err(error) = self.capture(state) {
            tracing::warn!("steps are launched one kernel at a time, not as a CUDA graph: {error:#}");
        }
    }

    /// Captures a step, and leaves the state as it was. What is in the static inputs meanwhile does not matter.
    fn capture(&mut self, state: &mut State) -> Result<()> {
        ensure!(state.steps() > 1, "an epoch has one step, and the last one of an epoch is never captured");
        let device = self.split.device();
        let inputs = self.static_inputs()?;
        let before = state.snapshot(device)?;
        // Both closures need the state, one after the other.
        let state = std::cell::RefCell::new(state);
        let step = || self.captured(&mut state.borrow_mut(), &inputs);
        let rewind = || state.borrow().restore(&before);
        let graph = without_panic(|| Graph::capture(device, step, rewind));
        if graph.is_err() {
            rewind()?;
            // They may lie in memory that belonged to the graph.
            state.borrow().net.zero_grad()?;
        }
        self.launching = Launching::Replay(inputs, graph?);
        Ok(())
    }

    /// Makes the steps that are never captured, on a whole batch and on the rest of an epoch, and undoes them: kernels are
    /// loaded and cuDNN has chosen its algorithms before a step is measured.
    fn rehearse(&mut self, state: &mut State) -> Result<()> {
        let (device, batch_size) = (self.split.device(), self.settings.training.batches.batch_size);
        let rest = (self.split.len() - 1) % batch_size + 1;
        let (before, position) = (state.snapshot(device)?, state.position.clone());
        for images in [batch_size.min(self.split.len()), rest] {
            state.position.step = 0;
            let _ = self.last_step(state, &Tensor::f_zeros([images], (Kind::Int64, device))?, 0.0)?;
        }
        self.gradients.clear();
        state.position = position;
        state.restore(&before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Data, Dataset};
    use crate::model::{Architecture, Kernels};

    fn load() -> Data {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        Data::load(&folder, Dataset::Mnist, Device::Cpu, 24, 1).unwrap()
    }

    fn settings(flags: &[&str]) -> Settings {
        Settings::from_flags([flags, &["--batch-size=8", "--ema-decay=0.9"]].concat()).unwrap()
    }

    /// Without dropout, so that nothing depends on a generator that tests share.
    fn state(settings: &Settings) -> State {
        State::new(Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch), settings, 3).unwrap()
    }

    fn batch(number: i64) -> Tensor {
        Tensor::arange_start(8 * number, 8 * number + 8, (Kind::Int64, Device::Cpu))
    }

    fn copies(state: &State) -> Vec<Tensor> {
        state.tensors().into_iter().map(|(_, tensor)| tensor.copy()).collect()
    }

    #[test]
    fn a_snapshot_undoes_everything_that_a_step_changes() {
        for optimizer in ["sgd", "adam", "rmsprop"] {
            let (data, settings) = (load(), settings(&[&format!("--optimizer={optimizer}")]));
            let (mut state, stepper) = (state(&settings), Stepper::new(&data.train, &settings).unwrap());
            let _ = stepper.eager_step(&mut state, &batch(0), 0.1).unwrap();
            let mut inputs = stepper.static_inputs().unwrap();
            inputs.set(&state, &batch(1), 0.1).unwrap();
            let (before, snapshot) = (copies(&state), state.snapshot(Device::Cpu).unwrap());
            stepper.static_step(&mut state, &inputs).unwrap();
            let changed = copies(&state).iter().zip(&before).filter(|(after, before)| !after.equal(before)).count();
            // All of them; except, if none of the eight images was classified correctly, their count.
            assert!(changed >= before.len() - 1, "{changed} of {} tensors changed", before.len());
            state.restore(&snapshot).unwrap();
            assert!(copies(&state).iter().zip(&before).all(|(after, before)| after.equal(before)));
        }
    }

    #[test]
    fn label_smoothing_is_that_of_cross_entropy() {
        let data = load();
        let (logits, labels) = (Tensor::randn([8, 10], (Kind::Float, Device::Cpu)), data.train.labels.narrow(0, 0, 8));
        let log_probabilities = logits.log_softmax(1, Kind::Float);
        for label_smoothing in [0.0, 0.1] {
            let settings = settings(&[&format!("--label-smoothing={label_smoothing}")]);
            let loss = Stepper::new(&data.train, &settings).unwrap().loss(&log_probabilities, &labels).unwrap();
            let expected =
                logits.cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, label_smoothing);
            assert!((loss - expected).double_value(&[]).abs() < 1e-6);
        }
    }

    #[test]
    fn if_a_capture_fails_steps_are_eager() {
        let (data, settings) = (load(), settings(&[]));
        let first = state(&settings).snapshot(Device::Cpu).unwrap();
        let [eager, captured] = [false, true].map(|capture| {
            let mut state = state(&settings);
            state.restore(&first).unwrap();
            let mut stepper = Stepper::new(&data.train, &settings).unwrap();
            if capture {
                stepper.capture_or_warn(&mut state);
            }
            for number in 0..3 {
                let loss = stepper.step(&mut state, &batch(number), 0.1).unwrap();
                assert_eq!(f64::try_from(loss).unwrap(), state.losses.double_value(&[number]));
            }
            assert!(!stepper.is_captured());
            copies(&state)
        });
        assert!(eager.iter().zip(&captured).all(|(one, other)| one.equal(other)));
    }

    #[test]
    fn a_failed_capture_is_an_error_if_a_graph_is_demanded() {
        let (data, settings) = (load(), settings(&["--cuda-graph=on"]));
        let mut stepper = Stepper::new(&data.train, &settings).unwrap();
        let error = stepper.prepare(&mut state(&settings)).unwrap_err();
        assert_eq!(format!("{error:#}"), format!("{NOT_CAPTURED}: a CUDA graph is captured on a GPU, not on Cpu"));
        // An epoch of one step.
        let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
        let error = stepper.prepare(&mut State::new(net, &settings, 1).unwrap()).unwrap_err();
        assert!(format!("{error:#}").contains("an epoch has one step"), "{error:#}");
    }

    #[test]
    fn a_rehearsal_leaves_everything_as_it_was() {
        // With dropout: the generator is rewound too.
        let (data, settings) = (load(), settings(&["--optimizer=adam", "--rotate=10"]));
        let net = Net::new(Device::Cpu, &Architecture::original(0.5), Kernels::Torch);
        let mut state = State::new(net, &settings, 3).unwrap();
        let mut stepper = Stepper::new(&data.train, &settings).unwrap();
        let _ = stepper.step(&mut state, &batch(0), 0.1).unwrap();
        let before = copies(&state);
        stepper.rehearse(&mut state).unwrap();
        assert!(copies(&state).iter().zip(&before).all(|(after, before)| after.equal(before)));
        assert_eq!((state.position.epoch, state.position.step), (0, 1));
        assert!(stepper.last_gradients().is_empty());
        assert!(state.net.parameters().all(|(_, tensor)| !tensor.grad().defined()));
    }

    #[test]
    fn a_static_step_takes_whole_batches_only() {
        let (data, settings) = (load(), settings(&[]));
        let mut inputs = Stepper::new(&data.train, &settings).unwrap().static_inputs().unwrap();
        let message = inputs.set(&state(&settings), &batch(0).narrow(0, 0, 1), 0.1).unwrap_err().to_string();
        assert_eq!(message, "a static step takes batches of [8], not [1]");
    }
}
