//! Training: the loop ([`run`]), one step ([`step`]), how it is launched ([`launch`]), what it takes ([`feed`]), everything
//! that it changes ([`state`]), and the parts that settings choose: optimizers, schedules, augmentations.

pub(crate) mod augmentations;
mod average;
mod best;
mod checkpoint;
mod clip_grad;
mod distillation;
mod events;
mod feed;
mod launch;
mod loss;
pub(crate) mod optimizers;
mod run;
mod schedule;
pub(crate) mod schedules;
mod shuffle;
mod state;
mod step;

pub(crate) use best::{best, kept};
pub use checkpoint::Checkpoint;
pub use events::{Ending, EpochRecord, Event, History, Measured, Observer, StepRecord};
pub(crate) use events::{METRICS, key_of, part_of};
pub use run::Run;
pub(crate) use run::{Diverged, steps_per_epoch};
pub use schedule::Schedule;
pub use shuffle::Shuffle;
pub use state::State;
pub use step::Stepper;
