//! The training loop: the original's `train` and `test` functions and the epochs around them.

mod average;
pub mod checkpoint;
mod events;
mod optim;
mod schedule;
mod shuffle;
pub mod step;

pub use average::Average;
pub use checkpoint::Checkpoint;
pub use events::{Ending, EpochRecord, Event, Measured, Observer, StepRecord};
pub use optim::Sgd;
pub use schedule::Schedule;
pub use shuffle::Shuffle;
pub use step::Stepper;

use crate::config::Config;
use crate::data::Data;
use crate::evaluate::{Evaluation, evaluate, evaluate_tta, percent};
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
    /// The epochs that are done, and their steps.
    history: Vec<EpochRecord>,
    records: Vec<StepRecord>,
    /// The learning rates of the steps of the epoch under way.
    lrs: Vec<f64>,
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
            stepper: Stepper::new(net, &data.train, device, config, steps)?,
            schedule: Schedule::new(config, steps),
            epoch: 0,
            step: 0,
            shuffle: None,
            history: Vec::new(),
            records: Vec::new(),
            lrs: Vec::new(),
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
        while !self.target_reached() {
            if self.epoch >= self.config.epochs {
                return Ok(Ending::Done);
            }
            let (began, first) = (Instant::now(), self.step);
            observer.event(&Event::EpochStarted { epoch: self.epoch, steps: self.steps(), done: first })?;
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
            if !test.loss.is_finite() {
                bail!(Diverged { epoch: self.epoch, step: None, lr: self.lrs[self.lrs.len() - 1], loss: test.loss });
            }
            let images = (self.data.train.len() - first * self.config.batch_size).max(0) as f64;
            self.end_epoch(&test, began.elapsed().as_secs_f64(), images / training_seconds)?;
            observer.event(&Event::EpochEnded {
                epochs: &self.history,
                steps: &self.records,
                test: &test,
                net: self.trained(),
                gradients: self.stepper.last_gradients(),
            })?;
            let saved = self.save(checkpoint)?;
            tracing::debug!(
                "checkpoint: {:.1} ms, {:.2} % of the epoch",
                1e3 * saved.as_secs_f64(),
                100.0 * saved.as_secs_f64() / began.elapsed().as_secs_f64()
            );
            observer.event(&Event::EpochSaved { record: &self.history[self.history.len() - 1], test: &test })?;
        }
        Ok(Ending::TargetReached)
    }

    /// What is measured and saved: the net that is trained, or, where one is asked for, its average.
    pub fn trained(&self) -> &Net {
        self.stepper.average.as_ref().map_or(self.net, Average::net)
    }

    /// Whether the last epoch's accuracy is what was asked for.
    fn target_reached(&self) -> bool {
        let target = self.config.target_accuracy;
        target > 0.0 && self.history.last().is_some_and(|record| record.measured.accuracy >= target)
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
            let lr = self.schedule.lr();
            let loss = match last {
                false => self.stepper.step(indices, self.step, lr)?,
                true => self.stepper.last_step(indices, self.step, lr)?,
            };
            self.lrs.push(lr);
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
        let unread = Vec::<f32>::try_from(self.stepper.losses.f_narrow(0, 0, self.step)?)?;
        let step = unread.iter().position(|loss| !loss.is_finite()).unwrap_or(self.step as usize);
        bail!(Diverged { epoch: self.epoch, step: Some(step), lr: self.lrs[step], loss: value })
    }

    /// The test after an epoch: the whole split (with `--validation` the images held out), shuffled as the original
    /// shuffles it. None when `stop` ended it.
    fn test(&self, stop: &dyn Fn() -> bool) -> Result<Option<Evaluation>> {
        let split = self.data.measured();
        let batches = Shuffle::draw()?.batches(split.len(), self.config.batch_size, self.device)?;
        evaluate(self.trained(), split, &batches, || !stop())
    }

    /// The same images by test-time augmentation.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn test_tta(&self) -> Result<Evaluation> {
        let split = self.data.measured();
        evaluate_tta(self.trained(), split, &split.batches(self.config.batch_size)?)
    }

    /// Notes the epoch under way as done, and gets ready for the next.
    fn end_epoch(&mut self, test: &Evaluation, seconds: f64, images_per_second: f64) -> Result<()> {
        let images = self.data.train.len();
        let before = self.records.len();
        self.records = self.step_records()?;
        let steps = &self.records[before..];
        let batch = |step: i64| self.config.batch_size.min(images - step * self.config.batch_size);
        let loss_sum: f64 = steps.iter().zip(0..).map(|(record, step)| record.loss as f64 * batch(step) as f64).sum();
        self.history.push(EpochRecord {
            epoch: self.epoch,
            lr: steps[0].lr,
            train_loss: loss_sum / images as f64,
            train_accuracy: percent(i64::try_from(&self.stepper.correct)?, images),
            measured: test.into(),
            seconds,
            images_per_second,
        });
        self.epoch += 1;
        self.step = 0;
        self.shuffle = None;
        self.lrs.clear();
        let _ = self.stepper.correct.f_zero_()?;
        Ok(())
    }

    /// Every step of the run so far.
    ///
    /// # Errors
    ///
    /// When libtorch fails.
    pub fn step_records(&self) -> Result<Vec<StepRecord>> {
        let losses = Vec::<f32>::try_from(self.stepper.losses.f_narrow(0, 0, self.step)?)?;
        let mut records = self.records.clone();
        for (loss, lr) in losses.into_iter().zip(&self.lrs) {
            records.push(StepRecord { step: records.len() as i64, epoch: self.epoch, lr: *lr, loss });
        }
        Ok(records)
    }

    /// Writes the checkpoint and says how long that took. Weights that a step has just made nan replace no good ones.
    fn save(&self, path: &Path) -> Result<Duration> {
        let began = Instant::now();
        if !self.net.is_finite()? {
            let step = (self.step - 1).max(0) as usize;
            bail!(Diverged { epoch: self.epoch, step: Some(step), lr: self.schedule.lr(), loss: f64::NAN });
        }
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
pub fn steps_per_epoch(config: &Config, data: &Data) -> i64 {
    (data.train.len() + config.batch_size - 1) / config.batch_size
}

/// A loss that is nan or infinite: what it was made of can no longer be trained.
#[derive(Debug)]
pub struct Diverged {
    /// From 0.
    pub epoch: i64,
    /// Within the epoch, from 0; none where it was the epoch's test that showed it.
    pub step: Option<usize>,
    /// The learning rate of the step.
    pub lr: f64,
    /// nan or infinite.
    pub loss: f64,
}

impl std::fmt::Display for Diverged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Diverged { epoch, step, lr, loss } = self;
        let place = match step {
            Some(step) => format!("at epoch {epoch}, step {step}"),
            None => format!("in the test of epoch {epoch}"),
        };
        write!(f, "the loss became {loss} {place}, with the learning rate {lr}: try a lower --lr or --momentum")
    }
}

impl std::error::Error for Diverged {}
