//! What a run tells those who watch it: events, and the records of its epochs and steps.

use crate::data::Part;
use crate::evaluate::Evaluation;
use crate::model::Net;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::Tensor;

/// Somebody who watches a run: the progress bar, the lines on stdout, the files of the run's folder.
pub trait Observer {
    /// Takes note of `event`. An error ends the run, with the checkpoint written.
    fn event(&mut self, event: &Event) -> Result<()>;
}

/// Several observers as one.
impl Observer for Vec<&mut dyn Observer> {
    fn event(&mut self, event: &Event) -> Result<()> {
        self.iter_mut().try_for_each(|observer| observer.event(event))
    }
}

/// Something that happened in a run.
pub enum Event<'a> {
    /// An epoch begins, or goes on after `done` of its steps.
    EpochStarted { epoch: i64, steps: i64, done: i64 },
    /// So many steps of the epoch are `done`: one more, or as many more as a CUDA graph makes. `loss` is that of the
    /// last; `None` if reading it would wait for the device.
    Steps { done: i64, loss: Option<f64> },
    /// An epoch and its test are done; its checkpoint is not written yet.
    EpochEnded,
    /// The checkpoint after an epoch is written: the epoch can be noted and announced.
    EpochSaved {
        /// The history of the run so far.
        history: &'a History,
        /// The test of the epoch.
        test: &'a Evaluation,
        /// The net that was measured.
        net: &'a Net,
        /// The gradient of each parameter in the epoch's last step; empty if another process made that step.
        gradients: &'a [(String, Tensor)],
    },
}

/// The epochs that are done, and their steps.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The epochs, in order.
    pub epochs: Vec<EpochRecord>,
    /// The steps of all these epochs, in order.
    pub steps: Vec<StepRecord>,
}

impl History {
    /// The epoch that was done last; there is one.
    pub(crate) fn last(&self) -> &EpochRecord {
        self.epochs.last().expect("an epoch is done")
    }

    /// The losses of the epochs so far.
    pub(crate) fn losses(&self) -> Vec<f64> {
        self.epochs.iter().map(|epoch| epoch.measured.loss).collect()
    }
}

/// One epoch: a line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 0.
    pub epoch: i64,
    /// The learning rate of the epoch's first step.
    pub lr: f64,
    /// The mean over the training images of their loss in this epoch's steps (with label smoothing if it is on), in
    /// nats.
    pub train_loss: f64,
    /// The share of training images that were classified correctly in this epoch's steps (augmented, with dropout), in
    /// percent.
    pub train_accuracy: f64,
    /// The mean over the epoch's steps of the total norm of the gradients before --clip-grad-norm; older runs have
    /// none.
    #[serde(default)]
    pub grad_norm: Option<f64>,
    /// The test after the epoch, on the test set or on the images that are held out.
    #[serde(flatten)]
    pub measured: Measured,
    /// How long the epoch took with its test; after a resume, the rest of the epoch.
    pub seconds: f64,
    /// Training images per second, without the test.
    pub images_per_second: f64,
}

/// The keys of an epoch's line in `metrics.jsonl`, and what they are; [`PART`] is the part that was measured.
pub(crate) const METRICS: &[(&str, &str)] = &[
    ("epoch", "its number, from 0"),
    ("lr", "the learning rate of its first step"),
    (
        "train_loss",
        "the mean loss of its steps, augmented and with dropout; in nats (with `--teacher`, of the whole loss)",
    ),
    ("train_accuracy", "the share of images that were right in its steps, augmented and with dropout; in percent"),
    ("grad_norm", "the mean norm of the gradients, before `--clip-grad-norm`"),
    ("PART_loss", "measured after the epoch: the mean loss, in nats"),
    ("PART_accuracy", "the share of images that are right, in percent"),
    ("correct", "the number of images that are right"),
    ("seconds", "of the epoch and its measurement; after a resume, of the rest of the epoch"),
    ("images_per_second", "training images, without the measurement"),
];

/// Stands in a key for `test` or `validation`.
const PART: &str = "PART";

/// `key` with the part's name in it.
pub(crate) fn key_of(key: &str, part: Part) -> String {
    key.replace(PART, &part.to_string())
}

/// The part that the keys of a line name.
pub(crate) fn part_of(fields: &Map<String, Value>) -> Part {
    if fields.contains_key("validation_loss") { Part::Validation } else { Part::Test }
}

/// An [`Evaluation`] in short. Its JSON keys name the part that was measured: `test_loss`, `test_accuracy` and
/// `correct`, or `validation_loss`, `validation_accuracy` and `correct`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Map<String, Value>", try_from = "Map<String, Value>")]
pub struct Measured {
    /// The part of the dataset.
    pub part: Part,
    /// The mean loss over the images, in nats.
    pub loss: f64,
    /// The share of images that are classified correctly, in percent.
    pub accuracy: f64,
    /// The number of images that are classified correctly.
    pub correct: i64,
}

impl Measured {
    /// The keys of its numbers, with [`PART`] for the part.
    pub(crate) const KEYS: [&str; 3] = ["PART_loss", "PART_accuracy", "correct"];
}

impl From<&Evaluation> for Measured {
    fn from(evaluation: &Evaluation) -> Measured {
        let Evaluation { part, loss, correct, .. } = *evaluation;
        Measured { part, loss, accuracy: evaluation.accuracy(), correct }
    }
}

impl From<Measured> for Map<String, Value> {
    fn from(Measured { part, loss, accuracy, correct }: Measured) -> Map<String, Value> {
        let numbers = [json!(loss), json!(accuracy), json!(correct)];
        Measured::KEYS.into_iter().zip(numbers).map(|(key, number)| (key_of(key, part), number)).collect()
    }
}

impl TryFrom<Map<String, Value>> for Measured {
    type Error = anyhow::Error;

    fn try_from(fields: Map<String, Value>) -> Result<Measured> {
        let part = part_of(&fields);
        let number =
            |key| fields.get(&key_of(key, part)).with_context(|| format!("missing field `{}`", key_of(key, part)));
        let float = |key| number(key)?.as_f64().with_context(|| format!("`{}` is not a number", key_of(key, part)));
        Ok(Measured {
            part,
            loss: float("PART_loss")?,
            accuracy: float("PART_accuracy")?,
            correct: number("correct")?.as_i64().context("`correct` is not an integer")?,
        })
    }
}

/// One step: a line of `losses.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's number in the run, from 0.
    pub step: i64,
    /// From 0.
    pub epoch: i64,
    /// The learning rate of the step.
    pub lr: f64,
    /// The mean loss over the batch, in nats (with label smoothing if it is on).
    pub loss: f32,
}

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Done,
    /// An epoch's accuracy reached `target_accuracy`.
    TargetReached,
    /// No epoch was better than the best one for `patience` epochs.
    StoppedEarly,
    /// It was asked to stop; the checkpoint is written.
    Interrupted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_an_epochs_line_is_listed_in_its_order() {
        for part in [Part::Test, Part::Validation] {
            let measured = Measured { part, loss: 0.25, accuracy: 92.5, correct: 37 };
            let (lr, train_loss, train_accuracy, grad_norm) = (0.01, 0.5, 81.25, Some(1.0));
            let record = EpochRecord {
                epoch: 0,
                lr,
                train_loss,
                train_accuracy,
                grad_norm,
                measured,
                seconds: 1.5,
                images_per_second: 1e4,
            };
            let written = serde_json::to_value(&record).unwrap();
            let keys: Vec<String> = written.as_object().unwrap().keys().cloned().collect();
            assert_eq!(keys, METRICS.iter().map(|(key, _)| key_of(key, part)).collect::<Vec<_>>());
            assert_eq!(serde_json::from_value::<EpochRecord>(written).unwrap(), record);
        }
    }
}
