//! What the steps of an epoch take: each a batch of images with their targets, and a learning rate.
//!
//! On a CPU a batch is gathered and augmented when its step comes, and is still in the cache when the net reads it. On
//! a GPU all images are made ready before the epoch's first step, in its order: that takes some 30 kernels out of each
//! step, and a step that is a CUDA graph finds its batch and its learning rate by a counter in device memory.

use super::augmentations::{self, Transform};
use super::optimizers::Rate;
use super::state::{Position, State};
use crate::data::Split;
use crate::libtorch::generator;
use crate::settings::Settings;
use crate::shape::{CLASSES, SIDE};
use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

/// How many images are made ready at once. Augmentation needs some 30 kB for each of them meanwhile.
const CHUNK: i64 = 4096;

/// The batches of an epoch of `split`.
pub(super) struct Feed<'a> {
    split: &'a Split,
    augmentations: Vec<Box<dyn Transform>>,
    images_per_step: i64,
    /// The indices of the epoch's batches, and the learning rates of their steps.
    batches: Vec<Tensor>,
    lrs: Vec<f64>,
    /// Whether there are teachers, and what they say of each image of `split`.
    is_taught: bool,
    soft_targets: Option<Tensor>,
    /// Where images are made ready before the epoch's first step, if they are.
    ready: Option<Ready>,
}

/// An epoch in device memory that stays where it is, so that a CUDA graph may read it.
struct Ready {
    /// float32 [N, 1, 28, 28] and int64 [N], in the epoch's order.
    images: Tensor,
    labels: Tensor,
    /// float32 [N, 10], in the same order.
    soft_targets: Option<Tensor>,
    /// float32 [steps].
    lrs: Tensor,
    /// int64 [steps]: indices, within the epoch, of the next captured steps.
    numbers: Tensor,
}

impl<'a> Feed<'a> {
    /// The batches of `split`, before the first epoch. With `ahead` they are made ready before an epoch's first step.
    pub(super) fn new(split: &'a Split, settings: &Settings, ahead: bool) -> Result<Feed<'a>> {
        let (device, images_per_step) = (split.device(), settings.training.images_per_step());
        let is_taught = !settings.distillation.teachers().is_empty();
        Ok(Feed {
            split,
            augmentations: augmentations::transforms(&settings.augmentation, device)?,
            images_per_step,
            batches: Vec::new(),
            lrs: Vec::new(),
            is_taught,
            soft_targets: None,
            ready: if ahead { Some(Ready::new(split.len(), images_per_step, is_taught, device)?) } else { None },
        })
    }

    /// Gets ready for the steps of the epoch of `state`, which takes the images in this `order` (int64 [N]) and has
    /// a learning rate for each step.
    pub(super) fn begin_epoch(&mut self, state: &mut State, order: &Tensor, lrs: &[f64]) -> Result<()> {
        self.batches = order.f_split(self.images_per_step, 0)?;
        let steps = self.batches.len();
        ensure!(order.size() == [self.split.len()], "an epoch takes each of {} images once", self.split.len());
        ensure!(lrs.len() == steps, "an epoch of {steps} steps has as many learning rates, not {}", lrs.len());
        let is_taught = state.soft_targets.is_some();
        ensure!(self.is_taught == is_taught, "--teacher needs State::learn_from before the first step");
        self.lrs = lrs.to_vec();
        self.soft_targets = state.soft_targets.as_ref().map(Tensor::shallow_clone);
        match &self.ready {
            Some(ready) => self.make_ready(ready, &mut state.position, order),
            None => Ok(()),
        }
    }

    /// An epoch that goes on gets the images that it had: its augmentation is drawn from the generator as it was then,
    /// and the generator is put back to where it is now.
    fn make_ready(&self, ready: &Ready, position: &mut Position, order: &Tensor) -> Result<()> {
        let device = self.split.device();
        let now = generator::state(device)?;
        match &position.generator {
            Some(before) => {
                generator::set_state(device, &Tensor::f_from_slice(before)?)?;
                self.fill(ready, order)?;
                generator::set_state(device, &now)?;
            }
            None => {
                position.generator = Some(Vec::try_from(&now)?);
                self.fill(ready, order)?;
            }
        }
        ready.set_steps(&self.lrs, position.step)
    }

    fn fill(&self, ready: &Ready, order: &Tensor) -> Result<()> {
        let places = ready.images.f_split(CHUNK, 0)?.into_iter().zip(ready.labels.f_split(CHUNK, 0)?);
        for (indices, (mut its_images, its_labels)) in order.f_split(CHUNK, 0)?.iter().zip(places) {
            self.split.fill_batch(indices, &its_images, &its_labels)?;
            if !self.augmentations.is_empty() {
                its_images.f_copy_(&augmentations::apply(&self.augmentations, its_images.shallow_clone())?)?;
            }
        }
        if let (Some(its_targets), Some(soft_targets)) = (&ready.soft_targets, &self.soft_targets) {
            its_targets.shallow_clone().f_copy_(&soft_targets.f_index_select(0, order)?)?;
        }
        Ok(())
    }

    /// The images at `indices`, augmented, and their labels.
    fn images(&self, indices: &Tensor) -> Result<(Tensor, Tensor)> {
        let (images, labels) = self.split.batch(indices)?;
        Ok((augmentations::apply(&self.augmentations, images)?, labels))
    }

    /// How many steps the epoch has.
    fn steps(&self) -> i64 {
        self.batches.len() as i64
    }

    pub(super) fn device(&self) -> Device {
        self.split.device()
    }

    /// The batch of a step of the epoch.
    fn batch(&self, step: i64) -> Result<Batch> {
        let indices = &self.batches[step as usize];
        let Some(ready) = &self.ready else {
            let (images, labels) = self.images(indices)?;
            let soft_targets = self.soft_targets.as_ref().map(|targets| targets.f_index_select(0, indices));
            return Ok(Batch { images, labels, soft_targets: soft_targets.transpose()? });
        };
        let (first, count) = (step * self.images_per_step, indices.size()[0]);
        let rows = |tensor: &Tensor| tensor.f_narrow(0, first, count);
        Ok(Batch {
            images: rows(&ready.images)?,
            labels: rows(&ready.labels)?,
            soft_targets: ready.soft_targets.as_ref().map(rows).transpose()?,
        })
    }

    /// The learning rate of a step of the epoch.
    fn lr(&self, step: i64) -> Result<Rate> {
        Ok(match &self.ready {
            Some(ready) if self.device() != Device::Cpu => Rate::Device(ready.lrs.f_select(0, step)?),
            _ => Rate::Host(self.lrs[step as usize]),
        })
    }

    /// What this step of the epoch takes, one kernel at a time.
    pub(super) fn next(&self, step: i64) -> Result<Next> {
        let batch = self.batch(step)?;
        Ok(Next {
            labels: batch.labels.shallow_clone(),
            batches: vec![batch],
            lrs: vec![self.lr(step)?],
            numbers: Numbers::Host(step),
            ends_epoch: step + 1 == self.steps(),
        })
    }

    /// What the next steps take, all of it read from device memory. The last step of an epoch is not among them.
    pub(super) fn next_static(&self, steps: i64) -> Result<Next> {
        let ready = self.ready.as_ref().context("a static step takes images that were made ready before")?;
        let numbers = ready.numbers.f_narrow(0, 0, steps)?;
        let whole = self.split.len() / self.images_per_step;
        let rows = |tensor: &Tensor| -> Result<Tensor> {
            let rows = tensor.f_narrow(0, 0, whole * self.images_per_step)?.f_view([whole, -1])?;
            Ok(rows.f_index_select(0, &numbers)?)
        };
        let images = rows(&ready.images)?.f_view([-1, 1, SIDE as i64, SIDE as i64])?;
        let labels = rows(&ready.labels)?.f_view([-1])?;
        let mut batches = Vec::new();
        for (images, labels) in
            images.f_split(self.images_per_step, 0)?.into_iter().zip(labels.f_split(self.images_per_step, 0)?)
        {
            batches.push(Batch { images, labels, soft_targets: None });
        }
        if let Some(targets) = &ready.soft_targets {
            let targets = rows(targets)?.f_view([-1, CLASSES as i64])?.f_split(self.images_per_step, 0)?;
            batches.iter_mut().zip(targets).for_each(|(batch, targets)| batch.soft_targets = Some(targets));
        }
        let lrs = ready.lrs.f_index_select(0, &numbers)?.f_unbind(0)?.into_iter().map(Rate::Device).collect();
        Ok(Next { batches, labels, lrs, numbers: Numbers::Device(numbers), ends_epoch: false })
    }

    /// Notes that steps were made.
    pub(super) fn advance(&self, steps: i64) -> Result<()> {
        self.ready.iter().try_for_each(|ready| Ok(ready.numbers.shallow_clone().f_add_scalar_(steps).map(drop)?))
    }

    /// Goes back to the epoch's first step, as far as static steps are concerned.
    pub(super) fn rewind(&self) -> Result<()> {
        self.ready.iter().try_for_each(|ready| ready.begin_at(0))
    }
}

/// Images and what the net should say of them.
pub(super) struct Batch {
    /// float32 [B, 1, 28, 28], normalised and augmented.
    pub(super) images: Tensor,
    /// int64 [B].
    pub(super) labels: Tensor,
    /// float32 [B, 10], if there are teachers.
    pub(super) soft_targets: Option<Tensor>,
}

/// What the next steps take.
pub(super) struct Next {
    /// One for each step.
    pub(super) batches: Vec<Batch>,
    /// Those of all batches, int64 [images].
    pub(super) labels: Tensor,
    pub(super) lrs: Vec<Rate>,
    numbers: Numbers,
    /// Whether they end with the epoch's last step.
    pub(super) ends_epoch: bool,
}

/// Which steps of the epoch they are.
enum Numbers {
    /// A single one.
    Host(i64),
    /// int64 [steps].
    Device(Tensor),
}

impl Next {
    /// Stores the `losses` of these steps among those of the epoch, float32 [steps of the epoch].
    pub(super) fn note_losses(&self, losses: &[Tensor], of_epoch: &mut Tensor) -> Result<()> {
        match &self.numbers {
            Numbers::Host(step) => of_epoch.f_select(0, *step)?.f_copy_(&losses[0])?,
            Numbers::Device(numbers) => {
                // A stack of one would be a copy.
                let losses = if let [only] = losses { only.f_unsqueeze(0)? } else { Tensor::f_stack(losses, 0)? };
                drop(of_epoch.f_index_copy_(0, numbers, &losses)?);
            }
        }
        Ok(())
    }
}

impl Ready {
    fn new(images: i64, images_per_step: i64, is_taught: bool, device: Device) -> Result<Ready> {
        let steps = (images + images_per_step - 1) / images_per_step;
        let soft_targets = is_taught.then(|| Tensor::f_zeros([images, CLASSES as i64], (Kind::Float, device)));
        Ok(Ready {
            images: Tensor::f_zeros([images, 1, SIDE as i64, SIDE as i64], (Kind::Float, device))?,
            labels: Tensor::f_zeros([images], (Kind::Int64, device))?,
            soft_targets: soft_targets.transpose()?,
            lrs: Tensor::f_zeros([steps], (Kind::Float, device))?,
            numbers: Tensor::f_arange(steps, (Kind::Int64, device))?,
        })
    }

    fn set_steps(&self, lrs: &[f64], next: i64) -> Result<()> {
        self.lrs.shallow_clone().f_copy_(&Tensor::f_from_slice(lrs)?)?;
        self.begin_at(next)
    }

    /// Makes `next` the next static step.
    fn begin_at(&self, next: i64) -> Result<()> {
        let numbers =
            Tensor::f_arange_start(next, next + self.numbers.numel() as i64, (Kind::Int64, self.numbers.device()))?;
        self.numbers.shallow_clone().f_copy_(&numbers)?;
        Ok(())
    }
}
