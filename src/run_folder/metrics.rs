//! The lines of `metrics.jsonl`: one per epoch, and a last one about the end of the run.

use crate::data::Part;
use crate::settings::Monitor;
use crate::train::{self, EpochRecord, Measured, key_of, part_of};
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// One JSON object on one line, its `event` first.
pub(crate) fn line(event: &str, fields: &impl Serialize) -> Result<String> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        event: &'a str,
        #[serde(flatten)]
        fields: &'a T,
    }
    Ok(serde_json::to_string(&Line { event, fields })?)
}

/// Reads the lines of `metrics.jsonl`. A last line that is half-written, as a process that was killed may leave it, is
/// passed over.
pub(super) fn read(text: &str) -> Result<(Vec<EpochRecord>, Option<Done>)> {
    let (mut epochs, mut done) = (Vec::new(), None);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let fields: Value = match serde_json::from_str(line.trim_end()) {
            Err(_) if !line.ends_with('\n') => break,
            fields => fields.map_err(|error| anyhow!("line {number}: {}", reason(&error)))?,
        };
        let epoch = || serde_json::from_value(fields.clone()).map_err(|error| anyhow!("line {number}: {error}"));
        match fields.get("event").and_then(Value::as_str) {
            Some(EPOCH) => epochs.push(epoch()?),
            Some(DONE) => done = Some(serde_json::from_value(fields).with_context(|| format!("line {number}"))?),
            _ => bail!("line {number} has no event that a run writes"),
        }
    }
    Ok((epochs, done))
}

/// What serde_json says without the line, which it counts within its own text.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or_default();
    format!("{reason} at column {}", error.column())
}

pub(crate) const EPOCH: &str = "epoch";
pub(crate) const DONE: &str = "done";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// All epochs are done.
    Done,
    /// An epoch reached the target accuracy.
    TargetReached,
    /// No epoch was better than the best one for `--patience` epochs.
    StoppedEarly,
    /// SIGUSR1 ended it.
    Pruned,
    /// Ctrl-C or SIGTERM ended it; the checkpoint is written.
    Interrupted,
    /// A loss was not finite.
    Diverged,
    /// Any other error.
    Failed,
}

impl Status {
    /// Whether `model.*` are the weights of this end.
    pub(crate) fn is_finished(self) -> bool {
        matches!(self, Status::Done | Status::TargetReached | Status::StoppedEarly)
    }
}

/// The last line of `metrics.jsonl`: how the run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Map<String, Value>", try_from = "Map<String, Value>")]
pub(crate) struct Done {
    pub(crate) status: Status,
    /// The number of epochs that are done.
    pub(crate) epochs: usize,
    /// How many parameters the net has; 0 in the files of older versions.
    pub(crate) parameters: i64,
    /// The part that the epochs were measured on; it is in the names of the keys.
    pub(crate) part: Part,
    /// Loss, accuracy in percent and correct images of the weights that are saved: after the last epoch, or
    /// `kept_epoch`.
    pub(crate) saved: Option<Measured>,
    /// The epoch whose weights are saved, with `--keep best`.
    pub(crate) kept_epoch: Option<i64>,
    /// The best accuracy in percent, and the first epoch that reached it, from 0.
    pub(crate) best: Option<(f64, i64)>,
    /// Loss and accuracy in percent with test-time augmentation.
    pub(crate) tta: Option<(f64, f64)>,
    /// How long the process took.
    pub(crate) seconds: f64,
    /// How long it took before its first step to get ready on a GPU: to capture a CUDA graph, to load kernels; 0 on a
    /// CPU, and in the files of older versions.
    pub(crate) preparation_seconds: f64,
    /// Whether its steps were replayed as a CUDA graph; false in the files of older versions.
    pub(crate) captured: bool,
    /// The run's folder.
    pub(crate) out: PathBuf,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

/// The best accuracy in percent, and the first epoch that reached it.
pub(crate) fn best(epochs: &[EpochRecord]) -> Option<(f64, i64)> {
    train::best(epochs, Monitor::Accuracy).map(|best| (best.measured.accuracy, best.epoch))
}

impl From<Done> for Map<String, Value> {
    fn from(done: Done) -> Map<String, Value> {
        let Done { status, epochs, parameters, part, saved, kept_epoch, best, tta, .. } = done;
        let Done { seconds, preparation_seconds, captured, out, error, .. } = done;
        let mut fields = Map::new();
        let mut put = |key: &str, value: Value| fields.insert(key_of(key, part), value);
        put("status", json!(status));
        put("epochs", json!(epochs));
        put("parameters", json!(parameters));
        let saved = saved.map(Map::from).unwrap_or_default();
        for key in Measured::KEYS {
            put(key, saved.get(&key_of(key, part)).cloned().unwrap_or_default());
        }
        put("best_PART_accuracy", json!(best.map(|(accuracy, _)| accuracy)));
        put("best_epoch", json!(best.map(|(_, epoch)| epoch)));
        put("seconds", json!(seconds));
        put("preparation_seconds", json!(preparation_seconds));
        put("captured", json!(captured));
        put("out", json!(out));
        if let Some(epoch) = kept_epoch {
            put("kept_epoch", json!(epoch));
        }
        if let Some((loss, accuracy)) = tta {
            put("tta_PART_loss", json!(loss));
            put("tta_PART_accuracy", json!(accuracy));
        }
        if let Some(error) = error {
            put("error", json!(error));
        }
        fields
    }
}

impl TryFrom<Map<String, Value>> for Done {
    type Error = anyhow::Error;

    fn try_from(fields: Map<String, Value>) -> Result<Done> {
        let part = part_of(&fields);
        let get = |key: &str| fields.get(&key_of(key, part)).cloned().unwrap_or(Value::Null);
        let number = |key: &str| get(key).as_f64();
        Ok(Done {
            status: serde_json::from_value(get("status")).context("status")?,
            epochs: serde_json::from_value(get("epochs")).context("epochs")?,
            parameters: get("parameters").as_i64().unwrap_or(0),
            part,
            saved: Measured::try_from(fields.clone()).ok(),
            kept_epoch: get("kept_epoch").as_i64(),
            best: number("best_PART_accuracy").zip(get("best_epoch").as_i64()),
            tta: number("tta_PART_loss").zip(number("tta_PART_accuracy")),
            seconds: number("seconds").context("seconds")?,
            preparation_seconds: number("preparation_seconds").unwrap_or(0.0),
            captured: get("captured").as_bool().unwrap_or(false),
            out: serde_json::from_value(get("out")).context("out")?,
            error: get("error").as_str().map(String::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (part, tta, kept_epoch) in [(Part::Test, None, None), (Part::Validation, Some((0.2, 95.0)), Some(0))] {
            // As a run of this format wrote it: a number that was added later must have a default.
            let line = r#"{"epoch":0,"lr":0.01,"train_loss":0.5,"train_accuracy":81.25,"PART_loss":0.25,
                "PART_accuracy":92.5,"correct":37,"seconds":1.5,"images_per_second":1e4}"#;
            let epoch: EpochRecord = serde_json::from_str(&line.replace("PART", &part.to_string())).unwrap();
            let Measured { loss, accuracy, correct, .. } = epoch.measured;
            assert_eq!((epoch.measured.part, loss, accuracy, correct), (part, 0.25, 92.5, 37));
            let done = Done {
                status: Status::Done,
                epochs: 1,
                parameters: 11_392,
                part,
                saved: Some(epoch.measured.clone()),
                kept_epoch,
                best: best(std::slice::from_ref(&epoch)),
                tta,
                seconds: 2.0,
                preparation_seconds: 0.5,
                captured: true,
                out: "runs/a".into(),
                error: None,
            };
            let failed =
                Done { status: Status::Failed, saved: None, best: None, error: Some("why".into()), ..done.clone() };
            for done in [done, failed] {
                let text = format!("{}\n{}\n", self::line(EPOCH, &epoch).unwrap(), self::line(DONE, &done).unwrap());
                assert_eq!(read(&text).unwrap(), (vec![epoch.clone()], Some(done)));
            }
        }
    }

    #[test]
    fn a_damaged_line_is_named_and_a_half_written_last_one_passed_over() {
        let done = r#"{"event":"done","status":"done","epochs":0,"seconds":1,"out":"runs/a"}"#;
        let error = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(error(&format!("{done}\n{{\"event\":\"x\"}}\n")), "line 2 has no event that a run writes");
        assert!(error(&format!("{done}\n{}\n", &done[..20])).starts_with("line 2: EOF while parsing"));
        assert!(error("{\"event\":\"epoch\"}\n").starts_with("line 1: missing field"));
        for end in 0..done.len() {
            let (epochs, read) = read(&format!("{done}\n{}", &done[..end])).unwrap();
            assert!(epochs.is_empty() && read.is_some(), "{}", &done[..end]);
        }
    }
}
