//! One training step: forward, loss, backward, clip, optimizer, average.

use super::clip_grad::clip_grad_norm;
use super::feed::{Batch, Feed, Next};
use super::launch::{Eagerly, Graphs, Launch};
use super::loss::loss;
use super::state::State;
use crate::data::Split;
use crate::error::sentence;
use crate::libtorch::precision::Autocast;
use crate::model::Net;
use crate::settings::{CudaGraph, Precision, Settings};
use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

/// Why `--cuda-graph on` ends a run.
const NOT_CAPTURED: &str = "steps cannot be captured as CUDA graphs, which --cuda-graph on asks for";

/// What a step does, however it is launched.
pub(super) struct Work<'a> {
    settings: &'a Settings,
    pub(super) feed: Feed<'a>,
}

impl Work<'_> {
    /// Makes the steps that `next` is for.
    fn steps(&self, state: &mut State, next: &Next) -> Result<()> {
        let (mut losses, mut log_probabilities) = (Vec::new(), Vec::new());
        for (batch, lr) in next.batches.iter().zip(&next.lrs) {
            let (its_loss, its_log_probabilities) = self.backward(&state.net, batch)?;
            if next.ends_epoch {
                state.last_gradients = state.net.gradients()?;
            }
            let parameters = state.net.parameters().map(|(_, tensor)| tensor);
            clip_grad_norm(parameters, self.settings.optimizer.clip_grad_norm, &mut state.grad_norm)?;
            state.optimizer.step(lr)?;
            state.net.zero_grad()?;
            if let Some(average) = &mut state.average {
                average.update()?;
            }
            losses.push(its_loss);
            log_probabilities.push(its_log_probabilities);
        }
        next.note_losses(&losses, &mut state.losses)?;
        // Of several steps at once: fewer kernels.
        let correct = joined(&log_probabilities)?.f_argmax(1, false)?.f_eq_tensor(&next.labels)?.f_sum(Kind::Int64)?;
        let _ = state.correct.f_add_(&correct)?;
        self.feed.advance(next.batches.len() as i64)
    }

    /// The next step, one kernel at a time.
    pub(super) fn eager_step(&self, state: &mut State) -> Result<()> {
        let _own_threads = state.net.own_threads();
        self.steps(state, &self.feed.next(state.position.step)?)
    }

    /// The next `steps` steps as a CUDA graph may hold them: nothing in them comes from the host.
    pub(super) fn static_steps(&self, state: &mut State, steps: i64) -> Result<()> {
        self.steps(state, &self.feed.next_static(steps)?)
    }

    /// Computes the gradients for a batch. Returns the mean loss and the log-probabilities [B, 10].
    fn backward(&self, net: &Net, batch: &Batch) -> Result<(Tensor, Tensor)> {
        let bf16 = self.settings.cuda.precision == Precision::Bf16;
        let autocast = bf16.then(|| Autocast::bf16(self.device())).transpose()?;
        let log_probabilities = net.forward_t(&batch.images, true);
        let loss = loss(&log_probabilities, batch, self.settings)?;
        drop(autocast);
        loss.f_backward()?;
        Ok((loss.detach(), log_probabilities.detach()))
    }

    pub(super) fn device(&self) -> Device {
        self.feed.device()
    }
}

/// Tensors one after the other along their first dimension.
fn joined(tensors: &[Tensor]) -> Result<Tensor> {
    Ok(if let [only] = tensors { only.shallow_clone() } else { Tensor::f_cat(tensors, 0)? })
}

/// Makes the steps of a run.
pub struct Stepper<'a> {
    split: &'a Split,
    settings: &'a Settings,
    work: Work<'a>,
    launch: Box<dyn Launch>,
}

impl<'a> Stepper<'a> {
    /// A maker of steps on batches of `split`. On a GPU the images of an epoch are made ready before its first step.
    pub fn new(split: &'a Split, settings: &'a Settings) -> Result<Stepper<'a>> {
        Stepper::of(split, settings, split.device().is_cuda())
    }

    /// A maker of steps that makes the images ready as on a GPU, on any device.
    pub fn ahead(split: &'a Split, settings: &'a Settings) -> Result<Stepper<'a>> {
        Stepper::of(split, settings, true)
    }

    fn of(split: &'a Split, settings: &'a Settings, ahead: bool) -> Result<Stepper<'a>> {
        let work = Work { settings, feed: Feed::new(split, settings, ahead)? };
        Ok(Stepper { split, settings, work, launch: Box::new(Eagerly) })
    }

    /// Gets ready for the epochs of `state` before one begins, and leaves it as it is. On a GPU, steps are captured as
    /// CUDA graphs, unless `--cuda-graph off`, and what costs time on its first use is done once. On a CPU there is
    /// nothing to do.
    ///
    /// # Errors
    ///
    /// If steps cannot be captured and `--cuda-graph on` demands it; with `auto` that is a warning, and steps are
    /// eager.
    pub fn prepare(&mut self, state: &mut State) -> Result<()> {
        let is_cuda = self.split.device().is_cuda();
        match self.settings.cuda.cuda_graph {
            CudaGraph::On => self.capture(state).context(NOT_CAPTURED)?,
            CudaGraph::Auto if is_cuda => self.capture_or_warn(state),
            CudaGraph::Auto | CudaGraph::Off => {}
        }
        if is_cuda { self.rehearse(state) } else { Ok(()) }
    }

    /// Whether steps are replayed as CUDA graphs, except for the last step of an epoch.
    pub fn is_captured(&self) -> bool {
        self.launch.is_captured()
    }

    /// How many steps one call of [`Stepper::steps`] makes at most.
    pub(crate) fn at_once(&self) -> i64 {
        self.launch.at_once()
    }

    /// Begins the epoch of `state`, or goes on in the middle of it. It takes the images in this `order`
    /// (int64 [N], on their device), and has a learning rate for each step.
    pub fn begin_epoch(&mut self, state: &mut State, order: &Tensor, lrs: &[f64]) -> Result<()> {
        self.work.feed.begin_epoch(state, order, lrs)
    }

    /// The next step of the epoch, as [`Stepper::steps`] makes it.
    pub fn step(&mut self, state: &mut State) -> Result<Tensor> {
        self.steps(state, 1)
    }

    /// The next steps of the epoch, at most `most` (at least 1): those of a graph if [`Stepper::prepare`] captured one
    /// that fits, otherwise one. The last step of an epoch is in no graph: it may be on fewer images. Returns the loss
    /// of the last step that was made, a scalar that a GPU may still be computing.
    pub fn steps(&mut self, state: &mut State, most: i64) -> Result<Tensor> {
        let steps = self.launch.launch(&self.work, state, most.min(room(state)))?;
        state.advance(steps)?;
        Ok(state.losses.f_select(0, state.position.step - 1)?)
    }

    /// The next step, one kernel at a time.
    pub fn eager_step(&mut self, state: &mut State) -> Result<()> {
        self.work.eager_step(state)?;
        state.advance(1)
    }

    /// The next steps of the epoch, at most `most`, as graphs replay them; on any device, if the epoch was made ready
    /// ahead. The last step of an epoch is not among them.
    pub fn static_steps(&self, state: &mut State, most: i64) -> Result<()> {
        let steps = most.min(room(state));
        self.work.static_steps(state, steps)?;
        state.advance(steps)
    }

    /// Captures steps; if that fails, they are eager, and the log says why.
    fn capture_or_warn(&mut self, state: &mut State) {
        if let Err(error) = self.capture(state) {
            tracing::warn!("steps are launched one kernel at a time, not as a CUDA graph: {}", sentence(&error));
        }
    }

    fn capture(&mut self, state: &mut State) -> Result<()> {
        let several = self.steps_per_graph(state);
        self.launch = Box::new(Graphs::capture(&self.work, state, several)?);
        Ok(())
    }

    /// `--steps-per-graph`, or less if steps never come in so many: see [`room`].
    fn steps_per_graph(&self, state: &State) -> i64 {
        let until_checkpoint = self.settings.run.until_checkpoint(0);
        let limits = [state.steps() - 1, state.optimizer.after_steps_every(), until_checkpoint];
        limits.into_iter().fold(self.settings.cuda.steps_per_graph, i64::min)
    }

    /// Warm-up: runs everything that is not captured once, and rolls it back. Kernels are then loaded and cuDNN has chosen
    /// its algorithms before a step is measured.
    fn rehearse(&mut self, state: &mut State) -> Result<()> {
        let (device, steps) = (self.work.device(), state.steps());
        let (before, position) = (state.snapshot(device)?, state.position.clone());
        let order = Tensor::f_zeros([self.split.len()], (Kind::Int64, device))?;
        self.begin_epoch(state, &order, &vec![0.0; steps as usize])?;
        for step in [0, steps - 1] {
            state.position.step = step;
            self.eager_step(state)?;
        }
        let every = state.optimizer.after_steps_every();
        for steps in [every, every.saturating_mul(2)] {
            state.optimizer.after_steps(steps)?;
        }
        state.last_gradients.clear();
        state.position = position;
        state.restore(&before)
    }
}

/// How many of the next steps may be in one graph: the last step of an epoch may not, and what the optimizer does
/// between two steps is in none.
fn room(state: &State) -> i64 {
    (state.steps() - 1 - state.position.step).min(state.until_optimizer())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Data, Dataset};
    use crate::flags::List;
    use crate::model::{Architecture, Kernels};
    use crate::train::optimizers::Algorithm;
    use tch::Device;

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

    /// Begins an epoch of three steps on the images as they come, at the learning rate 0.1.
    fn begin(stepper: &mut Stepper, state: &mut State) {
        let order = Tensor::arange(24, (Kind::Int64, Device::Cpu));
        stepper.begin_epoch(state, &order, &[0.1; 3]).unwrap();
    }

    fn copies(state: &State) -> Vec<Tensor> {
        state.tensors().into_iter().map(|(_, tensor)| tensor.copy()).collect()
    }

    #[test]
    fn a_snapshot_undoes_everything_that_a_step_changes() {
        for kind in <dyn Algorithm>::all() {
            let chosen = format!("--optimizer={}", kind.name);
            let bases: &[&str] = if kind.name == "soap" { &["--precondition-frequency=1"] } else { &[] };
            let (data, settings) = (load(), settings(&[&[&*chosen], bases].concat()));
            let (mut state, mut stepper) = (state(&settings), Stepper::ahead(&data.train, &settings).unwrap());
            begin(&mut stepper, &mut state);
            stepper.static_steps(&mut state, 1).unwrap();
            let (before, snapshot) = (copies(&state), state.snapshot(Device::Cpu).unwrap());
            stepper.static_steps(&mut state, 1).unwrap();
            let changed = copies(&state).iter().zip(&before).filter(|(after, before)| !after.equal(before)).count();
            // All of them; except, if none of the eight images was classified correctly, their count.
            assert!(changed >= before.len() - 1, "{changed} of {} tensors changed", before.len());
            state.restore(&snapshot).unwrap();
            assert!(copies(&state).iter().zip(&before).all(|(after, before)| after.equal(before)));
        }
    }

    #[test]
    fn a_graph_ends_before_the_last_step_of_an_epoch_and_where_the_optimizer_has_work() {
        let rooms = |flags: &[&str]| {
            let settings = settings(flags);
            let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
            let mut state = State::new(net, &settings, 7).unwrap();
            let mut rooms = Vec::new();
            for _ in 0..2 {
                for step in 0..7 {
                    state.position.step = step;
                    rooms.push(room(&state));
                }
                state.end_epoch().unwrap();
            }
            rooms
        };
        assert_eq!(rooms(&[]), [6, 5, 4, 3, 2, 1, 0, 6, 5, 4, 3, 2, 1, 0]);
        let soap = rooms(&["--optimizer=soap", "--precondition-frequency=3"]);
        assert_eq!(soap, [3, 2, 1, 3, 2, 1, 0, 2, 1, 3, 2, 1, 1, 0]);
    }

    #[test]
    fn a_graph_has_no_more_steps_than_ever_come_without_a_break() {
        let data = load();
        let steps = |flags: &[&str]| {
            let settings = settings(flags);
            Stepper::new(&data.train, &settings).unwrap().steps_per_graph(&state(&settings))
        };
        assert_eq!(steps(&[]), 2);
        assert_eq!(steps(&["--steps-per-graph=1"]), 1);
        assert_eq!(steps(&["--checkpoint-every=1"]), 1);
        assert_eq!(steps(&["--optimizer=soap", "--precondition-frequency=1"]), 1);
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
            begin(&mut stepper, &mut state);
            for number in 0..3 {
                let loss = stepper.step(&mut state).unwrap();
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
        assert_eq!(format!("{error:#}"), format!("{NOT_CAPTURED}: a CUDA graph is captured on a GPU, not on cpu"));
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
        let mut stepper = Stepper::ahead(&data.train, &settings).unwrap();
        begin(&mut stepper, &mut state);
        let _ = stepper.step(&mut state).unwrap();
        let (before, position) = (copies(&state), state.position.clone());
        stepper.rehearse(&mut state).unwrap();
        assert!(copies(&state).iter().zip(&before).all(|(after, before)| after.equal(before)));
        assert_eq!(state.position, position);
        assert!(state.last_gradients.is_empty());
        assert!(state.net.parameters().all(|(_, tensor)| !tensor.grad().defined()));
    }
}
