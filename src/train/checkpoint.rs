//! Checkpoints: everything that the next step of a run depends on, in one safetensors file.

use super::{EpochRecord, Run, Shuffle, StepRecord};
use crate::config::{Config, ScheduleKind};
use crate::data::Data;
use crate::files::write_atomically;
use crate::libtorch::generator;
use crate::model::Net;
use crate::weights::{StateDict, safetensors};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Tensor};

/// The format of the file; one with a higher number comes from a newer program.
const FORMAT: u32 = 3;

/// The oldest format that a run can go on from: 2 knew no average.
const OLDEST_FORMAT: u32 = 2;

/// The key of the file's metadata that holds a [`State`] as JSON.
const STATE: &str = "tch-mnist-checkpoint";

/// A run between two steps, on its way to or from a file.
///
/// The file's tensors: `model.*` (the state_dict), `momentum_buffer.*`, `losses` and `lrs` (float64, one a step so far),
/// `rng.cpu` and `rng.cuda` (uint8). Where the weights are averaged, `model.*` is the average, as in the files that a run
/// leaves; `raw.*` is what the steps change, and `average_updates` how often it was averaged. All else is JSON in its
/// metadata.
pub struct Checkpoint {
    tensors: BTreeMap<String, Tensor>,
    state: State,
}

/// What is no tensor.
#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    /// The settings of the run; the schedule follows from them, `epoch` and `step`.
    config: Config,
    /// The SHA-256 of the four data files.
    checksums: BTreeMap<String, String>,
    epoch: i64,
    step: i64,
    /// The seed of the epoch's order, when the epoch has begun.
    shuffle_seed: Option<i64>,
    /// Training images classified right in this epoch.
    correct: i64,
    epochs: Vec<EpochRecord>,
}

/// The part of a [`State`] that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Checkpoint {
    /// Copies the state of `run` between two steps.
    ///
    /// # Errors
    ///
    /// When libtorch fails.
    pub fn of(run: &Run) -> Result<Checkpoint> {
        let mut tensors = BTreeMap::new();
        let mut keep = |name: String, tensor: &Tensor| -> Result<()> {
            tensors.insert(name, tensor.detach().f_to_device(Device::Cpu)?.f_detach_copy()?);
            Ok(())
        };
        for (key, tensor) in run.trained().state_dict().0 {
            keep(format!("model.{key}"), &tensor)?;
        }
        if let Some(average) = &run.stepper.average {
            for (key, tensor) in run.net.state_dict().0 {
                keep(format!("raw.{key}"), &tensor)?;
            }
            keep("average_updates".into(), average.updates())?;
        }
        for (name, buffer) in run.stepper.sgd.momentum_buffers() {
            keep(format!("momentum_buffer.{name}"), buffer)?;
        }
        let records = run.step_records()?;
        let losses: Vec<f64> = records.iter().map(|record| f64::from(record.loss)).collect();
        let lrs: Vec<f64> = records.iter().map(|record| record.lr).collect();
        keep("losses".into(), &Tensor::f_from_slice(&losses)?)?;
        keep("lrs".into(), &Tensor::f_from_slice(&lrs)?)?;
        keep("rng.cpu".into(), &generator::state(Device::Cpu)?)?;
        if run.device.is_cuda() {
            keep("rng.cuda".into(), &generator::state(run.device)?)?;
        }
        let state = State {
            format: FORMAT,
            config: run.config.clone(),
            checksums: run.data.checksums.clone(),
            epoch: run.epoch,
            step: run.step,
            shuffle_seed: run.shuffle.map(|shuffle| shuffle.seed),
            correct: i64::try_from(&run.stepper.correct)?,
            epochs: run.history.clone(),
        };
        Ok(Checkpoint { tensors, state })
    }

    /// Writes the file; at every moment it is the one before or the whole new one.
    ///
    /// # Errors
    ///
    /// When the folder is gone or read-only, or the disk is full.
    pub fn write(&self, path: &Path) -> Result<()> {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let metadata = BTreeMap::from([(STATE.to_string(), serde_json::to_string(&self.state)?)]);
        write_atomically(path, |path| safetensors::write(path, &StateDict(tensors), &metadata))
    }

    /// Reads a file that [`Checkpoint::write`] wrote.
    ///
    /// # Errors
    ///
    /// One sentence when it cannot be read, is no checkpoint, or is one of a newer program.
    pub fn read(path: &Path) -> Result<Checkpoint> {
        let (StateDict(tensors), metadata) = safetensors::read(path)?;
        let damaged = || format!("the checkpoint {} is damaged", path.display());
        let Some(json) = metadata.get(STATE) else {
            bail!("{} is a safetensors file, but no checkpoint of tch-mnist", path.display());
        };
        let Format { format } = serde_json::from_str(json).with_context(damaged)?;
        ensure!(
            format <= FORMAT,
            "the checkpoint {} has the format {format} of a newer tch-mnist; this one reads up to {FORMAT}",
            path.display()
        );
        ensure!(
            format >= OLDEST_FORMAT,
            "the checkpoint {} has the format {format} of an older tch-mnist; this one goes on from {OLDEST_FORMAT} and up",
            path.display()
        );
        let state = serde_json::from_str(json).with_context(damaged)?;
        Ok(Checkpoint { tensors: tensors.into_iter().collect(), state })
    }

    /// The settings of the run.
    pub fn config(&self) -> &Config {
        &self.state.config
    }

    /// The epochs that are done.
    pub fn epochs(&self) -> &[EpochRecord] {
        &self.state.epochs
    }

    /// The run as it was, on `device`: its tensors go into `net`, its random numbers into libtorch's generators.
    ///
    /// `config` is the checkpoint's own, but for what may change: the number of epochs, where the data lies, the
    /// device.
    ///
    /// # Errors
    ///
    /// One sentence that names what differs: a data file, or a tensor of the net.
    pub fn restore<'a>(&self, config: &'a Config, data: &'a Data, device: Device, net: &'a Net) -> Result<Run<'a>> {
        let state = &self.state;
        for (file, checksum) in &state.checksums {
            ensure!(
                data.checksums.get(file) == Some(checksum),
                "{file} in {} is not the file that the run began with: its SHA-256 differs",
                config.data.display()
            );
        }
        // Where the weights are averaged, the net that goes on is the raw one.
        let own = if config.ema_decay > 0.0 { "raw" } else { "model" };
        net.load_state_dict(&self.state_dict(own, net)?)?;
        let stretched = matches!(config.schedule, ScheduleKind::OneCycle | ScheduleKind::Cosine);
        if stretched && config.epochs != state.config.epochs && !state.epochs.is_empty() {
            let schedule = config.schedule.to_possible_value();
            tracing::warn!(
                "the schedule {} is spread over {} epochs now instead of {}: the learning rate jumps",
                schedule.as_ref().map_or("", |value| value.get_name()),
                config.epochs,
                state.config.epochs
            );
        }
        let mut run = Run::new(config, data, device, net)?;
        let done = state.epoch * run.steps() + state.step;
        ensure!(
            done <= config.epochs * run.steps(),
            "--epochs {} is fewer than the run has done: {} epochs and {} steps",
            config.epochs,
            state.epoch,
            state.step
        );
        let (losses, lrs) = (self.numbers("losses", done)?, self.numbers("lrs", done)?);
        let records = (0..).zip(losses.into_iter().zip(lrs)).map(|(step, (loss, lr))| StepRecord {
            step,
            epoch: step / run.steps(),
            lr,
            loss: loss as f32,
        });
        run.records = records.collect();
        let under_way = run.records.split_off((state.epoch * run.steps()) as usize);
        let losses: Vec<f32> = under_way.iter().map(|record| record.loss).collect();
        run.stepper.losses.f_narrow(0, 0, state.step)?.f_copy_(&Tensor::f_from_slice(&losses)?)?;
        run.lrs = under_way.iter().map(|record| record.lr).collect();
        for (name, tensor) in &self.tensors {
            if let Some(name) = name.strip_prefix("momentum_buffer.") {
                run.stepper.sgd.set_momentum_buffer(name, tensor)?;
            }
        }
        if let Some(average) = &run.stepper.average {
            self.load(average.net())?;
            average.updates().shallow_clone().f_copy_(self.tensor("average_updates")?)?;
        }
        for step in 0..done {
            run.schedule.step_taken();
            if (step + 1) % run.steps() == 0 && step < state.epoch * run.steps() {
                run.schedule.epoch_trained();
            }
        }
        run.epoch = state.epoch;
        run.step = state.step;
        run.shuffle = state.shuffle_seed.map(|seed| Shuffle { seed });
        let _ = run.stepper.correct.f_fill_(state.correct)?;
        run.history = state.epochs.clone();
        generator::set_state(Device::Cpu, self.tensor("rng.cpu")?)?;
        if let (true, Some(state)) = (device.is_cuda(), self.tensors.get("rng.cuda")) {
            generator::set_state(device, state)?;
        }
        Ok(run)
    }

    /// Puts the weights that were measured into `net`.
    ///
    /// # Errors
    ///
    /// When they are those of another net.
    pub fn load(&self, net: &Net) -> Result<()> {
        net.load_state_dict(&self.state_dict("model", net)?)
    }

    /// The state_dict under `prefix`, in the order of `net`.
    fn state_dict(&self, prefix: &str, net: &Net) -> Result<StateDict> {
        let keys = net.state_dict().0.into_iter().map(|(key, _)| key);
        let entries = keys.map(|key| {
            let tensor = self.tensor(&format!("{prefix}.{key}"))?.shallow_clone();
            Ok((key, tensor))
        });
        Ok(StateDict(entries.collect::<Result<_>>()?))
    }

    /// The `count` numbers under a name, one a step.
    fn numbers(&self, name: &str, count: i64) -> Result<Vec<f64>> {
        let tensor = self.tensor(name)?;
        ensure!(tensor.size() == [count], "the checkpoint holds {:?} {name} after {count} steps", tensor.size());
        Ok(Vec::<f64>::try_from(tensor)?)
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).with_context(|| format!("the checkpoint holds no {name}: it is of another net"))
    }
}
