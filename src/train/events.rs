//! What a run tells its observers.

use crate::data::Part;
use crate::evaluate::Evaluation;
use crate::model::Net;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Somebody who follows a run: the progress bar, the lines on stdout, the files of the run's folder.
pub trait Observer {
    /// Takes note of `event`. An error ends the run.
    ///
    /// # Errors
    ///
    /// When the observer cannot do its work, as when its file's disk is full.
    fn event(&mut self, event: &Event) -> Result<()>;
}

/// Something that happened in a run.
pub enum Event<'a> {
    /// An epoch begins, or goes on after `done` of its steps.
    EpochStarted { epoch: i64, steps: i64, done: i64 },
    /// A step is done, the `step`th of its epoch, from 1. Its loss, where reading it costs no wait.
    Step { step: i64, loss: Option<f64> },
    /// An epoch and its test are done.
    EpochEnded {
        /// All epochs of the run so far.
        epochs: &'a [EpochRecord],
        /// All steps of the run so far.
        steps: &'a [StepRecord],
        /// The test after the last epoch.
        test: &'a Evaluation,
        /// The net that is measured: where the weights are averaged, the average.
        net: &'a Net,
        /// The gradient of each parameter in the epoch's last step; none when that step was another process's.
        gradients: &'a [(String, Tensor)],
    },
    /// The checkpoint of an epoch that ended is written: it can be announced.
    EpochSaved {
        /// The epoch.
        record: &'a EpochRecord,
        /// Its test.
        test: &'a Evaluation,
    },
}

/// One epoch: a line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 0.
    pub epoch: i64,
    /// The learning rate of the epoch's first step.
    pub lr: f64,
    /// The mean over the images of the loss when it was their turn (smoothed with `label_smoothing`), in nats.
    pub train_loss: f64,
    /// The share of images that were classified right when it was their turn (with dropout, augmented), in percent.
    pub train_accuracy: f64,
    /// What the net did after it on the test images, or on those that are held out.
    #[serde(flatten)]
    pub measured: Measured,
    /// How long the epoch took with its test; after a resume, what was left of it.
    pub seconds: f64,
    /// Training images a second, the test not counted.
    pub images_per_second: f64,
}

/// An [`Evaluation`] in short. Its JSON keys say what was measured: `test_loss`, `test_accuracy` and `correct`, or
/// `validation_loss`, `validation_accuracy` and `correct`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "MeasuredKeys", from = "MeasuredKeys")]
pub struct Measured {
    /// Of the test images, or of those that are held out.
    pub part: Part,
    /// The mean loss over the images, in nats.
    pub loss: f64,
    /// The share of images that are classified right, in percent.
    pub accuracy: f64,
    /// The number of images that are classified right.
    pub correct: i64,
}

impl From<&Evaluation> for Measured {
    fn from(evaluation: &Evaluation) -> Measured {
        let Evaluation { part, loss, correct, .. } = *evaluation;
        Measured { part, loss, accuracy: evaluation.accuracy(), correct }
    }
}

/// The JSON forms of [`Measured`].
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum MeasuredKeys {
    Test { test_loss: f64, test_accuracy: f64, correct: i64 },
    Validation { validation_loss: f64, validation_accuracy: f64, correct: i64 },
}

impl From<Measured> for MeasuredKeys {
    fn from(Measured { part, loss, accuracy, correct }: Measured) -> MeasuredKeys {
        match part {
            Part::Validation => {
                MeasuredKeys::Validation { validation_loss: loss, validation_accuracy: accuracy, correct }
            }
            Part::Train | Part::Test => MeasuredKeys::Test { test_loss: loss, test_accuracy: accuracy, correct },
        }
    }
}

impl From<MeasuredKeys> for Measured {
    fn from(keys: MeasuredKeys) -> Measured {
        let (part, loss, accuracy, correct) = match keys {
            MeasuredKeys::Test { test_loss, test_accuracy, correct } => (Part::Test, test_loss, test_accuracy, correct),
            MeasuredKeys::Validation { validation_loss, validation_accuracy, correct } => {
                (Part::Validation, validation_loss, validation_accuracy, correct)
            }
        };
        Measured { part, loss, accuracy, correct }
    }
}

/// One step: a line of `losses.csv`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRecord {
    /// Of the run, from 0.
    pub step: i64,
    /// From 0.
    pub epoch: i64,
    /// The learning rate of the step.
    pub lr: f64,
    /// The mean loss over the batch, in nats; with `label_smoothing` the smoothed one.
    pub loss: f32,
}

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All epochs are done.
    Done,
    /// An epoch's accuracy reached `target_accuracy`.
    TargetReached,
    /// A signal asked for it; the checkpoint is written.
    Interrupted,
}
