//! All state that training changes, and the teachers' soft targets.
//!
//! The checkpoint, the resume and the snapshot before a CUDA graph is captured all go through [`State::tensors`]: a
//! tensor that is listed there is saved, restored and rewound. Nothing else lists them.

use super::average::Average;
use super::distillation;
use super::optimizers::Optimizer;
use super::shuffle::Shuffle;
use crate::data::Split;
use crate::libtorch::generator;
use crate::libtorch::transfer::to_host;
use crate::model::{Net, StateDict};
use crate::settings::{Keep, Settings};
use crate::shape::CLASSES;
use crate::weights::MAX_BYTES;
use crate::weights::safetensors::{CPU_GENERATOR, MODEL};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Everything a checkpoint must hold.
pub struct State {
    /// The net that is trained.
    pub(crate) net: Net,
    pub(crate) optimizer: Box<dyn Optimizer>,
    /// The average of the weights over the steps, with `--ema-decay`.
    pub(crate) average: Option<Average>,
    /// The best of the weights that were measured, with `--keep best`.
    best: Option<Net>,
    /// The loss of each step of the epoch, float32 [steps]; only those of finished steps have a meaning.
    pub(crate) losses: Tensor,
    /// Training images of the epoch that were classified correctly when it was their turn, an int64 scalar.
    pub(crate) correct: Tensor,
    /// The sum over the epoch's steps of the total norm of their gradients before clipping, a float64 scalar.
    pub(crate) grad_norm: Tensor,
    /// The gradients of an epoch's last step by name, for observers. No checkpoint holds them.
    pub(crate) last_gradients: Vec<(String, Tensor)>,
    pub(crate) position: Position,
    /// What teachers say of each training image, float32 [N, 10]. No step changes it; a checkpoint holds it, so that a
    /// run can be resumed without them.
    pub(crate) soft_targets: Option<Tensor>,
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The epoch, from 0, and how many of its steps are done.
    pub(crate) epoch: i64,
    pub(crate) step: i64,
    /// The order of the epoch's images; `None` between two epochs.
    pub(crate) shuffle: Option<Shuffle>,
    /// The state of the device's generator before it augmented the epoch's images, if that was done before the first
    /// step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generator: Option<Vec<u8>>,
}

impl State {
    /// The state before the first step of `net`, in epochs of `steps` steps.
    pub fn new(net: Net, settings: &Settings, steps: i64) -> Result<State> {
        let (device, decay) = (net.device(), settings.training.ema_decay);
        Ok(State {
            optimizer: settings.optimizer.over(&net)?,
            average: if decay > 0.0 { Some(Average::of(&net, decay)?) } else { None },
            best: if settings.run.keep == Keep::Best { Some(net.copy()?) } else { None },
            losses: Tensor::f_zeros([steps], (Kind::Float, device))?,
            correct: Tensor::f_zeros([0i64; 0], (Kind::Int64, device))?,
            grad_norm: Tensor::f_zeros([0i64; 0], (Kind::Double, device))?,
            last_gradients: Vec::new(),
            position: Position::default(),
            soft_targets: None,
            net,
        })
    }

    /// Refuses a run whose last checkpoint would be too large to be read.
    pub(crate) fn check_size(&self, settings: &Settings) -> Result<()> {
        let bytes = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        let tensors: u64 = self.tensors().iter().map(|(_, tensor)| bytes(tensor)).sum();
        // Two float64 per step of the run, and the rest of the file.
        let bytes = tensors + 16 * (settings.training.epochs * self.steps()) as u64 + (1 << 20);
        ensure!(
            bytes <= MAX_BYTES,
            "a checkpoint of this net with --optimizer {} would have {} MiB, and {} MiB is the most that is read: choose a \
             smaller net or another --optimizer, or leave out --ema-decay and --keep best",
            settings.optimizer.chosen.name(),
            bytes >> 20,
            MAX_BYTES >> 20
        );
        Ok(())
    }

    /// The net that is measured: the average if there is one, else the net that is trained.
    pub fn measured_net(&self) -> &Net {
        self.average.as_ref().map_or(&self.net, Average::net)
    }

    /// The net that is saved: the best that was measured with `--keep best`, else the last.
    pub(crate) fn saved_net(&self) -> &Net {
        self.best.as_ref().unwrap_or(self.measured_net())
    }

    /// Notes that the weights that were just measured are the best so far.
    pub(crate) fn keep_best(&self) -> Result<()> {
        self.best.iter().try_for_each(|best| best.load_state_dict(&self.measured_net().state_dict()))
    }

    /// Notes that `steps` steps were made, no more than [`State::until_optimizer`]; then the optimizer may have something
    /// to do.
    pub(crate) fn advance(&mut self, steps: i64) -> Result<()> {
        self.position.step += steps;
        let done = self.steps_of_run();
        if done % self.optimizer.after_steps_every() == 0 { self.optimizer.after_steps(done) } else { Ok(()) }
    }

    /// Steps until the optimizer's next periodic work.
    pub(crate) fn until_optimizer(&self) -> i64 {
        let every = self.optimizer.after_steps_every();
        every - self.steps_of_run() % every
    }

    /// How many steps of the epoch are done.
    pub fn steps_done(&self) -> i64 {
        self.position.step
    }

    /// How many steps of the run are done.
    fn steps_of_run(&self) -> i64 {
        self.position.epoch * self.steps() + self.position.step
    }

    /// Gets ready for the first step of the next epoch.
    pub fn end_epoch(&mut self) -> Result<()> {
        self.position = Position { epoch: self.position.epoch + 1, ..Position::default() };
        let _ = self.correct.f_zero_()?;
        let _ = self.grad_norm.f_zero_()?;
        Ok(())
    }

    /// Every tensor that training changes, under its name in a checkpoint, and the soft targets. They share the state's
    /// memory.
    ///
    /// `model.*` is the state_dict that is measured. If that is an average, `raw.*` are the weights that the steps
    /// change. With `--keep best`, `best.*` is the state_dict that is saved.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors = named(MODEL, self.measured_net());
        tensors.extend(self.best.iter().flat_map(|best| named(BEST, best)));
        if let Some(average) = &self.average {
            tensors.extend(named(RAW, &self.net));
            tensors.push(("average_updates".into(), average.updates()));
        }
        tensors.extend(self.optimizer.state());
        tensors.push(("epoch.losses".into(), self.losses.shallow_clone()));
        tensors.push(("epoch.correct".into(), self.correct.shallow_clone()));
        tensors.push(("epoch.grad_norm".into(), self.grad_norm.shallow_clone()));
        tensors.extend(self.soft_targets.iter().map(|targets| (SOFT_TARGETS.into(), targets.shallow_clone())));
        tensors
    }

    /// How many steps an epoch has.
    pub(crate) fn steps(&self) -> i64 {
        self.losses.size()[0]
    }

    /// A copy of all tensors on `device`, the CPU or that of the state, and of the generators that a step draws from.
    pub(crate) fn snapshot(&self, device: Device) -> Result<Snapshot> {
        let (names, tensors): (Vec<String>, Vec<Tensor>) = self.tensors().into_iter().unzip();
        let copies = match device {
            Device::Cpu => to_host(&tensors.iter().collect::<Vec<_>>())?,
            _ => tensors.iter().map(|tensor| Ok(tensor.detach().f_detach_copy()?)).collect::<Result<_>>()?,
        };
        let mut snapshot: BTreeMap<_, _> = names.into_iter().zip(copies).collect();
        for (name, device) in self.generators() {
            snapshot.insert(name.to_string(), generator::state(device)?);
        }
        Ok(Snapshot(snapshot))
    }

    /// Makes the steps learn from `teachers` too, which are asked about the images of `split`; without teachers nothing
    /// changes. The default generators are left as they were.
    pub fn learn_from(&mut self, teachers: &[Net], split: &Split, settings: &Settings) -> Result<()> {
        if teachers.is_empty() {
            return Ok(());
        }
        let state = |(_, device): (&str, Device)| Ok((device, generator::state(device)?));
        let before = self.generators().into_iter().map(state).collect::<Result<Vec<_>>>()?;
        tch::manual_seed(settings.training.seed);
        self.soft_targets = Some(distillation::soft_targets(teachers, split, settings)?);
        before.iter().try_for_each(|(device, state)| generator::set_state(*device, state))
    }

    /// Makes the soft targets those of a checkpoint, for a run with `images` to train on.
    pub(super) fn learn_as_before(&mut self, snapshot: &Snapshot, images: i64) -> Result<()> {
        let soft_targets = snapshot.get(SOFT_TARGETS)?;
        let (size, kind) = (soft_targets.size(), soft_targets.kind());
        ensure!(
            size == [images, CLASSES as i64] && kind == Kind::Float,
            "{SOFT_TARGETS} is {kind:?} {size:?}, and there are {images} images"
        );
        self.soft_targets = Some(soft_targets.f_to_device(self.net.device())?);
        Ok(())
    }

    /// Makes tensors and generators what they were when `snapshot` was made, in place: a CUDA graph may hold their
    /// memory.
    pub(crate) fn restore(&self, snapshot: &Snapshot) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for (name, mut tensor) in self.tensors() {
            let saved = snapshot.get(&name)?;
            ensure!(saved.size() == tensor.size(), "{name} has the shape {:?}, not {:?}", saved.size(), tensor.size());
            tensor.f_copy_(saved)?;
        }
        for (name, device) in self.generators() {
            // A run that began on a CPU has no state of a GPU's generator: the seed decides.
            if name == CPU_GENERATOR || snapshot.0.contains_key(name) {
                generator::set_state(device, snapshot.get(name)?)?;
            }
        }
        Ok(())
    }

    /// The default generators: shuffling draws from the CPU's, dropout and augmentation from the device's.
    fn generators(&self) -> Vec<(&'static str, Device)> {
        match self.net.device() {
            Device::Cpu => vec![(CPU_GENERATOR, Device::Cpu)],
            device => vec![(CPU_GENERATOR, Device::Cpu), (CUDA_GENERATOR, device)],
        }
    }
}

/// Prefixes of names in a checkpoint, beside [`MODEL`] of the weights that are measured: those that the steps change, if
/// an average is measured; the best.
const RAW: &str = "raw.";
const BEST: &str = "best.";

const SOFT_TARGETS: &str = "soft_targets";

const CUDA_GENERATOR: &str = "rng.cuda";

fn named(prefix: &str, net: &Net) -> Vec<(String, Tensor)> {
    net.state_dict().0.into_iter().map(|(key, tensor)| (format!("{prefix}{key}"), tensor)).collect()
}

/// A copy of a [`State`]'s tensors and generators by name.
pub(crate) struct Snapshot(pub(crate) BTreeMap<String, Tensor>);

impl Snapshot {
    /// The weights that a run saves, for a net with these `keys`.
    pub(crate) fn saved_weights(&self, keep: Keep, keys: impl Iterator<Item = String>) -> Result<StateDict> {
        let prefix = match keep {
            Keep::Last => MODEL,
            Keep::Best => BEST,
        };
        let entry = |key: String| Ok((key.clone(), self.get(&format!("{prefix}{key}"))?.shallow_clone()));
        Ok(StateDict(keys.map(entry).collect::<Result<_>>()?))
    }

    /// Whether every number in the weights and buffers that a step changes is finite.
    pub(crate) fn is_finite(&self) -> Result<bool> {
        let is_weight = |name: &str| [MODEL, RAW].iter().any(|prefix| name.starts_with(prefix));
        let weights = self.0.iter().filter(|(name, _)| is_weight(name));
        let finite = weights.map(|(_, tensor)| Ok(tensor.f_isfinite()?.f_all()?)).collect::<Result<Vec<_>>>()?;
        Ok(bool::try_from(Tensor::f_stack(&finite, 0)?.f_all()?)?)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).with_context(|| format!("it holds no {name}: it belongs to another net or to other settings"))
    }
}
