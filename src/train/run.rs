//! The training loop: the original's `train` and `test` functions and the epochs around them.

use super::best::{best, is_out_of_patience};
use super::checkpoint::Checkpoint;
use super::events::{Ending, EpochRecord, Event, History, Observer, StepRecord};
use super::schedule::Schedule;
use super::shuffle::Shuffle;
use super::state::State;
use super::step::Stepper;
use crate::data::{Data, Split};
use crate::error::UsageError;
use crate::evaluate::{Evaluation, evaluate, evaluate_tta, percent};
use crate::libtorch::generator;
use crate::memory::in_smaller_batches;
use crate::model::layers::{NUM_BATCHES_TRACKED, Variable};
use crate::model::{Architecture, NamedLayer, Net};
use crate::settings::Settings;
use anyhow::{Result, bail};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// How long the progress bar may show an old loss on CUDA, where reading one makes the host wait for the device.
const READ_LOSS_EVERY: Duration = Duration::from_millis(200);

/// See [`test_batch_size`]. Its activations take some 400 MB in the net of the original.
const TEST_BATCH_ON_GPU: i64 = 2000;

/// A training run.
///
/// ```no_run
/// use tch::Device;
/// use tch_mnist::{Data, Dataset, Kernels, Net, Observer, Run, Settings};
///
/// let settings = Settings::from_flags(["--epochs=1"])?;
/// let data = Data::load("data".as_ref(), Dataset::Mnist, Device::Cpu, 0, 0)?;
/// tch::manual_seed(settings.training.seed);
/// let net = Net::new(Device::Cpu, &settings.training.net.architecture()?, Kernels::Fused);
/// let mut run = Run::new(&settings, &data, net)?;
/// let mut nobody: Vec<&mut dyn Observer> = Vec::new();
/// run.train("checkpoint.safetensors".as_ref(), &mut nobody, &|| false)?;
/// println!("{:.2} %", run.history().epochs[0].measured.accuracy);
/// # anyhow::Ok(())
/// ```
pub struct Run<'a> {
    settings: &'a Settings,
    data: &'a Data,
    state: State,
    stepper: Stepper<'a>,
    /// How long it took to get ready; `None` before that.
    prepared: Option<Duration>,
    schedule: Schedule,
    history: History,
    /// The learning rates of the epoch's steps; before the epoch begins or goes on, of those that are done.
    lrs: Vec<f64>,
    /// The images of a batch of the test; fewer once they did not fit into memory.
    test_batch_size: Cell<i64>,
    last_read: Instant,
}

impl<'a> Run<'a> {
    /// A run from its start. `net` has just been drawn, and libtorch's generator is in the state after that.
    ///
    /// # Errors
    ///
    /// If a batch of one image would leave a BatchNorm with one value per channel, which PyTorch refuses too, or if its
    /// checkpoints would be too large to be read.
    pub fn new(settings: &'a Settings, data: &'a Data, net: Net) -> Result<Run<'a>> {
        let steps = steps_per_epoch(settings, &data.train);
        check_smallest_batch(settings, &data.train, net.architecture())?;
        let state = State::new(net, settings, steps)?;
        state.check_size(settings)?;
        Ok(Run {
            settings,
            data,
            state,
            stepper: Stepper::new(&data.train, settings)?,
            prepared: None,
            schedule: Schedule::new(settings, steps),
            history: History::default(),
            lrs: Vec::new(),
            test_batch_size: Cell::new(test_batch_size(settings.training.batches.batch_size, data.measured().device())),
            last_read: Instant::now(),
        })
    }

    /// A run that goes on where `checkpoint` was made; `net` is any net of its shape.
    pub fn resume(settings: &'a Settings, data: &'a Data, net: Net, checkpoint: &Checkpoint) -> Result<Run<'a>> {
        let mut run = Run::new(settings, data, net)?;
        let steps = run.steps();
        run.history = checkpoint.restore(settings, data, &mut run.state, steps)?;
        let unfinished = run.history.steps.split_off((run.state.position.epoch * steps) as usize);
        run.lrs = unfinished.iter().map(|record| record.lr).collect();
        Ok(run)
    }

    /// Makes the run learn from the `teachers` that `--teacher` names: see [`State::learn_from`].
    ///
    /// # Errors
    ///
    /// If its checkpoints, which hold what they say, would be too large to be read.
    pub fn learn_from(&mut self, teachers: &[Net]) -> Result<()> {
        self.state.learn_from(teachers, &self.data.train, self.settings)?;
        self.state.check_size(self.settings)
    }

    /// This run with the images of an epoch made ready before its first step, on any device: see [`Stepper::ahead`].
    pub fn ahead(mut self) -> Result<Run<'a>> {
        self.stepper = Stepper::ahead(&self.data.train, self.settings)?;
        Ok(self)
    }

    /// Gets ready for the first step, outside of any epoch's time: see [`Stepper::prepare`]; the test is tried out too.
    /// Returns how long it took. [`Run::train`] does it if nobody did.
    pub fn prepare(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.stepper.prepare(&mut self.state)?;
        let split = self.data.measured();
        if split.device().is_cuda() {
            self.in_test_batches(|size| {
                let batch = Tensor::f_zeros([size.min(split.len())], (Kind::Int64, split.device()))?;
                evaluate(self.state.measured_net(), split, &[batch], || true)
            })?;
        }
        Ok(*self.prepared.insert(began.elapsed()))
    }

    /// Whether steps are replayed as CUDA graphs; known after [`Run::prepare`].
    pub fn is_captured(&self) -> bool {
        self.stepper.is_captured()
    }

    /// After how many steps at most an [`Event::Steps`] comes; known after [`Run::prepare`].
    pub(crate) fn at_once(&self) -> i64 {
        self.stepper.at_once()
    }

    /// The epoch that comes next or goes on, from 0, and how many of its steps are done.
    pub(crate) fn position(&self) -> (i64, i64) {
        (self.state.position.epoch, self.state.position.step)
    }

    /// How long [`Run::prepare`] took; zero before.
    pub(crate) fn preparation(&self) -> Duration {
        self.prepared.unwrap_or_default()
    }

    /// Trains until all epochs are done, `--target-accuracy` or `--patience` ends the run, or `stop` returns true.
    ///
    /// `checkpoint` is the file with everything that a resume needs. It is written after each epoch, every
    /// `--checkpoint-every` steps, and when `stop` ends the run.
    ///
    /// # Errors
    ///
    /// If a loss is not finite, the checkpoint cannot be written, or an observer fails.
    pub fn train(&mut self, checkpoint: &Path, observer: &mut dyn Observer, stop: &dyn Fn() -> bool) -> Result<Ending> {
        if self.prepared.is_none() {
            self.prepare()?;
        }
        loop {
            if let Some(ending) = self.ending() {
                return Ok(ending);
            }
            let (began, done) = (Instant::now(), self.state.position.step);
            observer.event(&Event::EpochStarted { epoch: self.state.position.epoch, steps: self.steps(), done })?;

            // Shuffle; an epoch that goes on keeps its order.
            self.begin_epoch()?;
            while self.state.position.step < self.steps() {
                if stop() {
                    self.save(checkpoint)?;
                    return Ok(Ending::Interrupted);
                }
                // Step, or on a GPU several.
                let most = self.settings.run.until_checkpoint(self.state.position.step);
                let loss = self.stepper.steps(&mut self.state, most)?;
                let loss = self.read(&loss)?;
                let told = observer.event(&Event::Steps { done: self.state.position.step, loss });
                if told.is_err() || self.is_checkpoint_due() {
                    self.save(checkpoint)?;
                }
                told?;
            }
            let trained = began.elapsed();

            // Test; if it is stopped, the run goes on from here: a test changes nothing but the generator that it draws from.
            let before_test = generator::state(Device::Cpu)?;
            let Some(test) = self.test(stop)? else {
                generator::set_state(Device::Cpu, &before_test)?;
                self.save(checkpoint)?;
                return Ok(Ending::Interrupted);
            };
            if !test.loss.is_finite() {
                bail!(self.diverged(self.last_step(), true, test.loss));
            }

            // Checkpoint, then log and announce.
            let images = (self.data.train.len() - done * self.images_per_step()).max(0) as f64;
            self.end_epoch(&test, began.elapsed(), images / trained.as_secs_f64())?;
            let told = observer.event(&Event::EpochEnded);
            let saving = self.save(checkpoint)?.as_secs_f64();
            let share = 100.0 * saving / began.elapsed().as_secs_f64();
            tracing::debug!("checkpoint: {:.1} ms, {share:.2} % of the epoch", 1e3 * saving);
            told?;
            observer.event(&Event::EpochSaved {
                history: &self.history,
                test: &test,
                net: self.state.measured_net(),
                gradients: &self.state.last_gradients,
            })?;
        }
    }

    /// How the run ends here, between two epochs, if it does.
    pub(crate) fn ending(&self) -> Option<Ending> {
        let (epochs, run) = (&self.history.epochs, &self.settings.run);
        let last = epochs.last().filter(|_| self.state.position.step == 0)?;
        if run.target_accuracy > 0.0 && last.measured.accuracy >= run.target_accuracy {
            return Some(Ending::TargetReached);
        }
        if self.state.position.epoch >= self.settings.training.epochs {
            return Some(Ending::Done);
        }
        is_out_of_patience(epochs, run).then_some(Ending::StoppedEarly)
    }

    /// Draws the order of the epoch's images and computes the learning rates of its steps. The steps that are done keep
    /// theirs, which may be those of another number of epochs.
    fn begin_epoch(&mut self) -> Result<()> {
        let (steps, losses) = (self.steps(), self.history.losses());
        let first = self.state.position.epoch * steps;
        self.lrs.truncate(self.state.position.step as usize);
        self.lrs.extend((self.lrs.len() as i64..steps).map(|step| self.schedule.lr(first + step, &losses)));
        let shuffle = match self.state.position.shuffle {
            Some(shuffle) => shuffle,
            None => *self.state.position.shuffle.insert(Shuffle::draw()?),
        };
        let order = shuffle.order(self.data.train.len(), self.data.train.device())?;
        self.stepper.begin_epoch(&mut self.state, &order, &self.lrs)
    }

    /// The loss of the step that was just made. On a CPU it is always read; on CUDA, where reading makes the host wait,
    /// only now and then, and before it matters.
    ///
    /// # Errors
    ///
    /// [`Diverged`] if it, or one before it that was not read, is not finite.
    fn read(&mut self, loss: &Tensor) -> Result<Option<f64>> {
        let matters = self.state.position.step == self.steps() || self.is_checkpoint_due();
        if loss.device().is_cuda() && !matters && self.last_read.elapsed() < READ_LOSS_EVERY {
            return Ok(None);
        }
        self.last_read = Instant::now();
        let unread = if loss.device().is_cuda() { self.losses()? } else { vec![f32::try_from(loss)?] };
        let Some(at) = unread.iter().position(|loss| !loss.is_finite()) else {
            return Ok(unread.last().map(|loss| f64::from(*loss)));
        };
        let first = self.last_step() + 1 - unread.len() as i64;
        bail!(self.diverged(first + at as i64, false, f64::from(unread[at])))
    }

    /// Whether a checkpoint is to be written within the epoch, after the step that was just made.
    fn is_checkpoint_due(&self) -> bool {
        let step = self.state.position.step;
        step < self.steps() && self.settings.run.until_checkpoint(step - 1) == 1
    }

    /// Measures the net after an epoch, in shuffled batches as the original does. `None` if `stop` ended it.
    fn test(&self, stop: &dyn Fn() -> bool) -> Result<Option<Evaluation>> {
        let split = self.data.measured();
        let order = Shuffle::draw()?.order(split.len(), split.device())?;
        self.in_test_batches(|size| evaluate(self.state.measured_net(), split, &order.f_split(size, 0)?, || !stop()))
    }

    /// Makes a pass over the images that epochs are measured on, in batches that fit into memory.
    fn in_test_batches<T>(&self, pass: impl Fn(i64) -> Result<T>) -> Result<T> {
        let (done, size) = in_smaller_batches("the test", self.test_batch_size.get(), pass)?;
        self.test_batch_size.set(size);
        Ok(done)
    }

    /// Measures the net that is saved with test-time augmentation, on the images that each epoch is measured on.
    pub(crate) fn test_tta(&self) -> Result<Evaluation> {
        let split = self.data.measured();
        self.in_test_batches(|size| evaluate_tta(self.saved_net(), split, &split.batches(size)?))
    }

    /// Adds the epoch to the history, and gets ready for the next.
    fn end_epoch(&mut self, test: &Evaluation, time: Duration, images_per_second: f64) -> Result<()> {
        let images = self.data.train.len();
        let before = self.history.steps.len();
        self.history.steps = self.step_records()?;
        let steps = &self.history.steps[before..];
        let batch = |step: i64| self.images_per_step().min(images - step * self.images_per_step());
        let loss_sum: f64 = steps.iter().zip(0..).map(|(record, step)| record.loss as f64 * batch(step) as f64).sum();
        self.history.epochs.push(EpochRecord {
            epoch: self.state.position.epoch,
            lr: steps[0].lr,
            train_loss: loss_sum / images as f64,
            train_accuracy: percent(i64::try_from(&self.state.correct)?, images),
            grad_norm: Some(f64::try_from(&self.state.grad_norm)? / steps.len() as f64),
            measured: test.into(),
            seconds: time.as_secs_f64(),
            images_per_second,
        });
        self.lrs.clear();
        if best(&self.history.epochs, self.settings.run.monitor) == self.history.epochs.last() {
            self.state.keep_best()?;
        }
        self.state.end_epoch()
    }

    /// Every step of the run so far.
    pub(crate) fn step_records(&self) -> Result<Vec<StepRecord>> {
        let mut records = self.history.steps.clone();
        for (loss, &lr) in self.losses()?.into_iter().zip(&self.lrs) {
            records.push(StepRecord { step: records.len() as i64, epoch: self.state.position.epoch, lr, loss });
        }
        Ok(records)
    }

    /// The losses of the epoch's steps so far.
    fn losses(&self) -> Result<Vec<f32>> {
        Ok(Vec::try_from(self.state.losses.f_narrow(0, 0, self.state.position.step)?)?)
    }

    /// The run as it is between two steps.
    fn checkpoint(&self) -> Result<Checkpoint> {
        let history = History { epochs: self.history.epochs.clone(), steps: self.step_records()? };
        Checkpoint::of(self.settings, self.data, &self.state, &history)
    }

    /// Writes the run as it is, and returns how long that took.
    fn save(&self, path: &Path) -> Result<Duration> {
        let began = Instant::now();
        self.write(&self.checkpoint()?, path)?;
        Ok(began.elapsed())
    }

    /// Writes `checkpoint`, made after the last step. Weights that are not finite do not replace good ones.
    fn write(&self, checkpoint: &Checkpoint, path: &Path) -> Result<()> {
        if !checkpoint.is_finite()? {
            bail!(self.diverged(self.last_step(), false, f64::NAN));
        }
        checkpoint.write(path)
    }

    /// The number in the run of the step that was made last.
    fn last_step(&self) -> i64 {
        (self.state.position.epoch * self.steps() + self.state.position.step - 1).max(0)
    }

    /// The error of a loss that is not finite: that of the run's step number `step`, or of the test after it.
    fn diverged(&self, step: i64, in_test: bool, loss: f64) -> Diverged {
        let (epoch, lr) = (step / self.steps(), self.schedule.lr(step, &self.history.losses()));
        Diverged { epoch, step: (!in_test).then_some(step % self.steps()), lr, loss }
    }

    /// The net whose weights are saved: with `--keep best` as it was after the best epoch, else as it is.
    pub fn saved_net(&self) -> &Net {
        self.state.saved_net()
    }

    /// The epochs that are done, and their steps.
    pub fn history(&self) -> &History {
        &self.history
    }

    fn steps(&self) -> i64 {
        steps_per_epoch(self.settings, &self.data.train)
    }

    fn images_per_step(&self) -> i64 {
        self.settings.training.images_per_step()
    }
}

/// The images of a batch of the test: on a CPU as many as in training, as in the original; on a GPU many, which a small
/// batch would leave idle. Which images are in a batch changes no more than the rounding of the mean loss.
fn test_batch_size(batch_size: i64, device: Device) -> i64 {
    if device.is_cuda() { batch_size.max(TEST_BATCH_ON_GPU) } else { batch_size }
}

/// Steps of an epoch of `split`; the last may be on fewer images.
pub(crate) fn steps_per_epoch(settings: &Settings, split: &Split) -> i64 {
    let images_per_step = settings.training.images_per_step();
    (split.len() + images_per_step - 1) / images_per_step
}

/// Refuses batches of one image where a BatchNorm would have one value per channel, whose variance is not a number.
/// PyTorch refuses them with "Expected more than 1 value per channel when training".
fn check_smallest_batch(settings: &Settings, split: &Split, architecture: &Architecture) -> Result<()> {
    let batch_size = settings.training.batches.batch_size;
    if batch_size != 1 && split.len() % batch_size != 1 {
        return Ok(());
    }
    let is_lone = |named: &&NamedLayer| {
        let counts = |variable: &Variable| variable.name == NUM_BATCHES_TRACKED;
        named.layer.variables().iter().any(counts) && named.output[1..].iter().product::<i64>() == 1
    };
    if let Some(NamedLayer { path, layer, .. }) = architecture.layers().iter().find(is_lone) {
        let images = split.len();
        bail!(UsageError(format!(
            "--batch-size {batch_size} makes a batch of one image out of {images}, and {path}, a {}, needs more \
             than one value per channel: give another --batch-size",
            layer.class()
        )));
    }
    Ok(())
}

/// A loss that is not finite: weights that gave it can no longer be trained.
#[derive(Debug)]
pub(crate) struct Diverged {
    /// From 0.
    epoch: i64,
    /// The step within the epoch, from 0; `None` if the test showed it.
    step: Option<i64>,
    /// The learning rate of the step.
    lr: f64,
    /// NaN or infinite.
    loss: f64,
}

impl std::fmt::Display for Diverged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Diverged { epoch, step, lr, loss } = self;
        let place = match step {
            Some(step) => format!("at epoch {epoch}, step {step}"),
            None => format!("in the test of epoch {epoch}"),
        };
        write!(f, "the loss became {loss} {place}, with the learning rate {lr}: try a lower --lr, or --clip-grad-norm")
    }
}

impl std::error::Error for Diverged {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::model::Kernels;

    #[test]
    fn a_stop_during_the_test_does_not_replace_good_weights_by_some_that_are_not_finite() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let data = Data::load(&folder, Dataset::Mnist, Device::Cpu, 8, 8).unwrap();
        // The epoch's only step has a finite loss, and makes weights that are not.
        let settings =
            Settings::from_flags(["--epochs=1", "--batch-size=8", "--lr=1e38", "--weight-decay=1e20"]).unwrap();
        let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
        let mut run = Run::new(&settings, &data, net).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) > 0;
        let mut nobody: Vec<&mut dyn Observer> = Vec::new();
        let error = run.train(file.path(), &mut nobody, &stop).unwrap_err();
        assert!(error.is::<Diverged>(), "{error:#}");
        assert!(error.to_string().contains("at epoch 0, step 0,"), "{error}");
        assert_eq!(std::fs::metadata(file.path()).unwrap().len(), 0);
    }

    #[test]
    fn the_test_is_in_batches_of_the_training_on_a_cpu_and_in_large_ones_on_a_gpu() {
        assert_eq!([32, 5000].map(|size| test_batch_size(size, Device::Cpu)), [32, 5000]);
        assert_eq!([32, 5000].map(|size| test_batch_size(size, Device::Cuda(1))), [2000, 5000]);
    }
}
