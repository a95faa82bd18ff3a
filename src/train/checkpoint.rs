//! Checkpoints: everything that the next step of a run depends on, in one safetensors file.

use super::events::{EpochRecord, History, StepRecord};
use super::state::{Position, Snapshot, State};
use crate::data::Data;
use crate::files::write_atomically;
use crate::model::{Architecture, Net, StateDict};
use crate::settings::Settings;
use crate::weights::safetensors;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Tensor};

/// The format of the file. It rises when the content changes.
const FORMAT: u32 = 6;

/// The key in the file's metadata of the [`Header`] as JSON.
const HEADER: &str = "tch-mnist-checkpoint";

/// A run between two steps, on its way to or from a file.
///
/// The file holds the tensors of [`State::tensors`] and the generators' states under their names, `losses`
/// and `lrs` (float64, one number per step so far), and a [`Header`] in its metadata.
pub struct Checkpoint {
    tensors: Snapshot,
    header: Header,
}

/// What is not a tensor.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    /// The settings of the run. The schedule follows from them and the position.
    config: Settings,
    /// The layers, in the text of a net file: the one that the settings name may have changed.
    net: String,
    /// The SHA-256 of each data file that was read.
    checksums: BTreeMap<String, String>,
    position: Position,
    epochs: Vec<EpochRecord>,
}

/// The part of a [`Header`] that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Checkpoint {
    /// Copies a run between two steps: its state, and its `history` with every step so far.
    pub(super) fn of(settings: &Settings, data: &Data, state: &State, history: &History) -> Result<Checkpoint> {
        let mut tensors = state.snapshot(Device::Cpu)?;
        let losses: Vec<f64> = history.steps.iter().map(|record| f64::from(record.loss)).collect();
        let lrs: Vec<f64> = history.steps.iter().map(|record| record.lr).collect();
        tensors.0.insert("losses".into(), Tensor::f_from_slice(&losses)?);
        tensors.0.insert("lrs".into(), Tensor::f_from_slice(&lrs)?);
        let header = Header {
            format: FORMAT,
            config: settings.clone(),
            net: state.net.architecture().to_string(),
            checksums: data.checksums.clone(),
            position: state.position.clone(),
            epochs: history.epochs.clone(),
        };
        Ok(Checkpoint { tensors, header })
    }

    /// Whether every number in the weights is finite.
    pub(super) fn is_finite(&self) -> Result<bool> {
        self.tensors.is_finite()
    }

    /// Writes the file; at every moment it is the old or the whole new one.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let tensors = self.tensors.0.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let metadata = BTreeMap::from([(HEADER.to_string(), serde_json::to_string(&self.header)?)]);
        write_atomically(path, |path| safetensors::write(path, &StateDict(tensors), &metadata))
    }

    /// Reads a file that [`Checkpoint::write`] wrote.
    ///
    /// # Errors
    ///
    /// One sentence if it is damaged, not a checkpoint, or of another format.
    pub fn read(path: &Path) -> Result<Checkpoint> {
        let file = path.display();
        let (StateDict(tensors), metadata) = safetensors::read(path)?;
        let damaged = || format!("the checkpoint {file} is damaged");
        let Some(json) = metadata.get(HEADER) else {
            bail!("{file} is a safetensors file, but not a checkpoint of tch-mnist");
        };
        let Format { format } = serde_json::from_str(json).with_context(damaged)?;
        let age = if format > FORMAT { "a newer" } else { "an older" };
        ensure!(
            format == FORMAT,
            "the checkpoint {file} has the format {format} of {age} tch-mnist, and this one resumes from format {FORMAT}: start a \
             new run from its weights by --init {file}"
        );
        let header = serde_json::from_str(json).with_context(damaged)?;
        Ok(Checkpoint { tensors: Snapshot(tensors.into_iter().collect()), header })
    }

    /// The settings of the run.
    pub(crate) fn settings(&self) -> &Settings {
        &self.header.config
    }

    /// The epochs that are done.
    pub(crate) fn epochs(&self) -> &[EpochRecord] {
        &self.header.epochs
    }

    /// The net of the run.
    pub(crate) fn architecture(&self) -> Result<Architecture> {
        Architecture::parse(&self.header.net, &BTreeMap::new()).context("the checkpoint's net is damaged")
    }

    /// Makes `state` what it was, libtorch's generators included; returns the epochs and steps so far.
    ///
    /// `settings` are the checkpoint's own, except for those that a resumed run may change; an epoch has `steps` steps.
    ///
    /// # Errors
    ///
    /// One sentence that names the data file or the tensor that differs.
    pub(super) fn restore(&self, settings: &Settings, data: &Data, state: &mut State, steps: i64) -> Result<History> {
        let Header { config, checksums, position, epochs, .. } = &self.header;
        data.same_files(checksums, &settings.data.source.data, "the run began")?;
        let done = position.epoch * steps + position.step;
        ensure!(
            done <= settings.training.epochs * steps,
            "the run has done {} of {} epochs and {} steps already: --epochs {} is too few; give {} or more, or leave it out",
            position.epoch,
            config.training.epochs,
            position.step,
            settings.training.epochs,
            position.epoch + i64::from(position.step > 0)
        );
        if done > 0 {
            self.warn_if_stretched(settings);
        }
        if !settings.distillation.teachers().is_empty() {
            state.learn_as_before(&self.tensors, data.train.len()).context("the checkpoint does not fit")?;
            state.check_size(settings)?;
        }
        state.restore(&self.tensors).context("the checkpoint does not fit")?;
        state.position = position.clone();
        Ok(History { epochs: epochs.clone(), steps: self.step_records(done, steps)? })
    }

    /// Schedules that depend on the number of epochs change their rate at once when it changes.
    fn warn_if_stretched(&self, settings: &Settings) {
        let (before, now) = (self.settings().training.epochs, settings.training.epochs);
        let schedule = &settings.schedule.chosen;
        if schedule.kind().spans_the_run() && before != now {
            let schedule = schedule.name();
            tracing::warn!(
                "the schedule {schedule} is spread over {now} epochs now instead of {before}: the learning rate jumps"
            );
        }
    }

    /// The `done` steps of the run, in epochs of `steps` steps.
    fn step_records(&self, done: i64, steps: i64) -> Result<Vec<StepRecord>> {
        let numbers = |name: &str| -> Result<Vec<f64>> {
            let tensor = self.tensors.get(name)?;
            ensure!(tensor.size() == [done], "the checkpoint holds {:?} {name} after {done} steps", tensor.size());
            Ok(Vec::try_from(tensor)?)
        };
        let record =
            |(step, (loss, lr)): (i64, (f64, f64))| StepRecord { step, epoch: step / steps, lr, loss: loss as f32 };
        Ok((0..).zip(numbers("losses")?.into_iter().zip(numbers("lrs")?)).map(record).collect())
    }

    /// Copies the weights that the run would save into `net`.
    pub(crate) fn load(&self, net: &Net) -> Result<()> {
        let keys = net.state_dict().0.into_iter().map(|(key, _)| key);
        net.load_state_dict(&self.tensors.saved_weights(self.settings().run.keep, keys)?)
    }
}
