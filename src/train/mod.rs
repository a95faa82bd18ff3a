//! The training loop: the original's `train` and `test` functions and the epochs around them.

pub mod checkpoint;
mod events;
mod optim;
mod schedule;
mod shuffle;
pub mod step;

pub use checkpoint::Checkpoint;
pub use events::{Ending, EpochRecord, Event, Measured, Observer, StepRecord};
pub use optim::Sgd;
pub use schedule::Schedule;
pub use shuffle::Shuffle;
pub use step::Stepper;

use crate::config::Config;
use crate::data::Data;
use crate::evaluate::{Evaluation, evaluate, percent};

use crate::model::Net;
use anyhow::{Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// How long the progress bar may show an old loss on CUDA, where reading one makes the host wait for the device.
const READ_LOSS_EVERY: Duration = Duration::from_millis(200);

/// A run under way: everything that the next step depends on.
pub struct Run<'a> {
    config: &'a Config,
    data: &'a Data,
    device: Device,
    net: &'a Net,
    stepper: Stepper<'a>,
    schedule: Schedule,
    /// The epoch under way, from 0, and the steps of it that are done.
    epoch: i64,
    step: i64,
    /// The order of the epoch under way; none between two epochs.
    shuffle: Option<Shuffle>,
    history: Vec<EpochRecord>,
}

impl<'a> Run<'a> {
    /// A run from its start: `net` as it was just drawn, libtorch's generator in the state after that.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn new(config: &'a Config, data: &'a Data, device: Device, net: &'a Net) -> Result<Run<'a>> {
        let steps = steps_per_epoch(config, data);
        Ok(Run {
            config,
            data,
            device,
            net,
            stepper: Stepper::new(net, &data.train, device, config, config.epochs * steps)?,
            schedule: Schedule::new(config, steps),
            epoch: 0,
            step: 0,
            shuffle: None,
            history: Vec::new(),
        })
    }

    /// Trains to the end, or until `stop` says so or something goes wrong.
    ///
    /// `checkpoint` is the file that holds what a resume needs; it is written after each epoch, every
    /// `checkpoint_every` steps, and when `stop` ends the run.
    ///
    /// # Errors
    ///
    /// When a loss is not finite, when the checkpoint cannot be written, when an observer fails, or when libtorch does.
    pub fn train(&mut self, checkpoint: &Path, observer: &mut dyn Observer, stop: &dyn Fn() -> bool) -> Result<Ending> {
        while self.epoch < self.config.epochs {
            let began = Instant::now();
            observer.event(&Event::EpochStarted { epoch: self.epoch, steps: self.steps(), done: self.step })?;
            let trained = self.train_epoch(checkpoint, observer, stop)?;
            let training_seconds = began.elapsed().as_secs_f64();
            if !trained {
                self.save(checkpoint)?;
                return Ok(Ending::Interrupted);
            }
            // A stop during the test goes back to here.
            let before_test = Checkpoint::of(self)?;
            self.schedule.epoch_trained();
            let Some(test) = self.test(stop)? else {
                before_test.write(checkpoint)?;
                return Ok(Ending::Interrupted);
            };
            let steps = self.step_records()?;
            let record = self.record(&steps, &test, training_seconds, began.elapsed().as_secs_f64())?;
            self.history.push(record);
            self.epoch += 1;
            self.step = 0;
            self.shuffle = None;
            let _ = self.stepper.correct.f_zero_()?;
            observer.event(&Event::EpochEnded { epochs: &self.history, steps: &steps, test: &test })?;
            let saved = self.save(checkpoint)?;
            tracing::debug!(
                "checkpoint: {:.1} ms, {:.2} % of the epoch",
                1e3 * saved.as_secs_f64(),
                100.0 * saved.as_secs_f64() / began.elapsed().as_secs_f64()
            );
            if self.config.target_accuracy > 0.0 && test.accuracy() >= self.config.target_accuracy {
                return Ok(Ending::TargetReached);
            }
        }
        Ok(Ending::Done)
    }

    /// The epoch's training steps that are left; false when `stop` ended them.
    fn train_epoch(&mut self, checkpoint: &Path, observer: &mut dyn Observer, stop: &dyn Fn() -> bool) -> Result<bool> {
        let shuffle = match self.shuffle {
            Some(shuffle) => shuffle,
            None => *self.shuffle.insert(Shuffle::draw()?),
        };
        let batches = shuffle.batches(self.data.train.len(), self.config.batch_size, self.device)?;
        let mut last_read = Instant::now();
        for indices in &batches[self.step as usize..] {
            if stop() {
                return Ok(false);
            }
            let last = self.step + 1 == self.steps();
            let (number, lr) = (self.epoch * self.steps() + self.step, self.schedule.lr());
            let loss = match last {
                false => self.stepper.step(indices, number, lr)?,
                true => self.stepper.eager_step(indices, number, lr)?,
            };
            let every = self.config.checkpoint_every;
            let save = every > 0 && (self.step + 1) % every == 0 && !last;
            // On a CPU the loss is there; on CUDA, where the host must wait for it, before it matters and now and then.
            let read = !self.device.is_cuda() || last || save || last_read.elapsed() >= READ_LOSS_EVERY;
            let shown = if read { Some(self.finite(&loss)?) } else { None };
            if read {
                last_read = Instant::now();
            }
            self.schedule.step_taken();
            self.step += 1;
            observer.event(&Event::Step { step: self.step, loss: shown })?;
            if save {
                self.save(checkpoint)?;
            }
        }
        Ok(true)
    }

    /// The value of this step's loss; an error when it, or one before it that was not read, is not finite.
    fn finite(&self, loss: &Tensor) -> Result<f64> {
        let value = f64::try_from(loss)?;
        if value.is_finite() {
            return Ok(value);
        }
        let start = self.epoch * self.steps();
        let unread = Vec::<f32>::try_from(self.stepper.losses.f_narrow(0, start, self.step)?)?;
        let step = unread.iter().position(|loss| !loss.is_finite()).unwrap_or(self.step as usize);
        bail!(Diverged { epoch: self.epoch, step: step as i64, lr: self.schedule.lr(), loss: value })
    }

    /// The test after an epoch: the whole split (with `--validation` the images held out), shuffled as the original
    /// shuffles it. None when `stop` ended it.
    fn test(&self, stop: &dyn Fn() -> bool) -> Result<Option<Evaluation>> {
        let split = self.data.measured();
        let batches = Shuffle::draw()?.batches(split.len(), self.config.batch_size, self.device)?;
        evaluate(self.net, split, &batches, || !stop())
    }

    fn record(
        &self,
        steps: &[StepRecord],
        test: &Evaluation,
        training_seconds: f64,
        seconds: f64,
    ) -> Result<EpochRecord> {
        let images = self.data.train.len();
        let epoch = &steps[(self.epoch * self.steps()) as usize..];
        let batch = |step: i64| self.config.batch_size.min(images - step * self.config.batch_size);
        let loss_sum: f64 = epoch.iter().zip(0..).map(|(record, step)| record.loss as f64 * batch(step) as f64).sum();
        Ok(EpochRecord {
            epoch: self.epoch,
            lr: epoch[0].lr,
            train_loss: loss_sum / images as f64,
            train_accuracy: percent(i64::try_from(&self.stepper.correct)?, images),
            measured: test.into(),
            seconds,
            images_per_second: images as f64 / training_seconds,
        })
    }

    /// Every step of the run so far.
    pub fn step_records(&self) -> Result<Vec<StepRecord>> {
        let done = self.epoch * self.steps() + self.step;
        let losses = Vec::<f32>::try_from(self.stepper.losses.f_narrow(0, 0, done)?)?;
        let mut schedule = Schedule::new(self.config, self.steps());
        let record = |(step, loss): (i64, f32)| {
            if step > 0 {
                schedule.step_taken();
                if step % self.steps() == 0 {
                    schedule.epoch_trained();
                }
            }
            StepRecord { step, epoch: step / self.steps(), lr: schedule.lr(), loss }
        };
        Ok((0..).zip(losses).map(record).collect())
    }

    /// Writes the checkpoint and says how long that took.
    fn save(&self, path: &Path) -> Result<Duration> {
        let began = Instant::now();
        Checkpoint::of(self)?.write(path)?;
        Ok(began.elapsed())
    }

    /// The epochs that are done.
    pub fn history(&self) -> &[EpochRecord] {
        &self.history
    }

    fn steps(&self) -> i64 {
        steps_per_epoch(self.config, self.data)
    }
}

/// Steps an epoch; the last may be of fewer images.
fn steps_per_epoch(config: &Config, data: &Data) -> i64 {
    (data.train.len() + config.batch_size - 1) / config.batch_size
}

/// A loss that is nan or infinite: what the step was given can no longer be trained.
#[derive(Debug)]
pub struct Diverged {
    /// From 0.
    pub epoch: i64,
    /// Within the epoch, from 0.
    pub step: i64,
    /// The learning rate of the step.
    pub lr: f64,
    /// nan or infinite.
    pub loss: f64,
}

impl std::fmt::Display for Diverged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Diverged { epoch, step, lr, loss } = self;
        write!(
            f,
            "the loss became {loss} at epoch {epoch}, step {step}, with the learning rate {lr}: try a lower --lr or \
             --momentum; the checkpoint before it is kept"
        )
    }
}

impl std::error::Error for Diverged {}
