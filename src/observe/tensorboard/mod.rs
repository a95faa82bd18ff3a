//! TensorBoard: an event file that grows by an epoch at a time.
//!
//! | tag | step | what |
//! |---|---|---|
//! | `step/loss`, `step/lr` | of the run | every training step |
//! | `loss/*`, `accuracy/*`, `lr`, ... | epoch | the line of `metrics.jsonl` |
//! | `weights/*`, `gradients/*` | epoch | histograms of what is measured, and of the gradients of the last step |
//! | `misclassified`, `confusion` | the last epoch | the report's pictures |
//!
//! The settings are there for the HParams page. A resumed run begins a new file with those events of the old one that
//! lie before the checkpoint, and removes the old one: no step is there twice, whoever reads.

mod file;
mod messages;

use crate::data::Part;
use crate::libtorch::transfer::to_host;
use crate::settings::Settings;
use crate::train::{EpochRecord, Event as RunEvent, Observer, StepRecord};
use anyhow::{Result, ensure};
use canvas::svg_to_png;
use file::EventFile;
use image::ImageReader;
use messages::{
    Dim, Event, Experiment, HParam, HParamInfo, HParamsPluginData, Histogram, Image, MetricInfo, MetricName,
    PluginData, SessionEndInfo, SessionStartInfo, Summary, SummaryMetadata, TensorProto, TensorShape, Value,
};
use prost::Message;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tch::{Kind, Tensor};

/// The tag that is written last of an epoch: where it is, the epoch is whole.
const LAST_TAG: &str = "lr";

/// Buckets of a histogram.
const BUCKETS: usize = 64;

/// Writes the event file of a run.
pub(crate) struct TensorBoard {
    out: PathBuf,
    settings: Settings,
    file: Option<EventFile>,
    /// How many epochs the file holds.
    epochs: usize,
    /// When the epoch under way began.
    began: f64,
}

impl TensorBoard {
    /// An observer that writes into the folder `out`. The file is begun when training begins.
    pub(crate) fn new(out: &Path, settings: &Settings) -> TensorBoard {
        TensorBoard { out: out.to_path_buf(), settings: settings.clone(), file: None, epochs: 0, began: 0.0 }
    }

    /// Writes the last events: the pictures, SVGs under their tags, and how the run ended.
    pub(crate) fn finish(&mut self, pictures: &[(&str, String)], success: bool) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let image = |(tag, svg): &(&str, String)| -> Result<Value> {
            let encoded_image_string = svg_to_png(svg, 0.5)?;
            let (width, height) =
                ImageReader::new(Cursor::new(&encoded_image_string)).with_guessed_format()?.into_dimensions()?;
            let image = Image { width: width as i32, height: height as i32, colorspace: 4, encoded_image_string };
            Ok(Value { tag: tag.to_string(), image: Some(image), ..Value::default() })
        };
        let images = pictures.iter().map(image).collect::<Result<_>>()?;
        let images = summary(now(), self.epochs as i64 - 1, images);
        let end = SessionEndInfo { status: if success { 1 } else { 2 }, end_time_secs: now() };
        let end = HParamsPluginData { session_end_info: Some(end), ..HParamsPluginData::default() };
        file.append(&[images, hparams("_hparams_/session_end_info", &end)])
    }

    /// Begins the file when epoch `epoch` of `steps` steps is about to be trained or to go on.
    fn begin(&mut self, epoch: i64, steps: i64) -> Result<()> {
        let kept = kept(file::read(&self.out)?, epoch, steps);
        self.epochs = kept.iter().filter(|event| tag(event) == LAST_TAG).count();
        let events = settings(&self.settings).into_iter().chain(kept).collect();
        self.file = Some(EventFile::begin(&self.out, events)?);
        Ok(())
    }

    /// The scalars of the epochs that the file does not hold yet.
    fn scalars(&self, epochs: &[EpochRecord], steps: &[StepRecord]) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for (epoch, record) in epochs.iter().enumerate().skip(self.epochs) {
            let of_epoch: Vec<_> = steps.iter().filter(|step| step.epoch == epoch as i64).collect();
            for (k, step) in of_epoch.iter().enumerate() {
                // Written when the epoch is over, dated as if the steps had been equally long.
                let part = (k + 1) as f64 / of_epoch.len() as f64;
                let values = vec![scalar("step/loss", f64::from(step.loss)), scalar("step/lr", step.lr)];
                events.push(summary(self.began + part * (now() - self.began), step.step, values));
            }
            let record = serde_json::to_value(record)?;
            let fields = record.as_object().into_iter().flatten();
            let numbers: Vec<_> = fields.filter_map(|(key, value)| Some((key.as_str(), value.as_f64()?))).collect();
            let tag = |key: &str| match key.split_once('_') {
                Some((split, what @ ("loss" | "accuracy"))) => format!("{what}/{split}"),
                _ => key.to_string(),
            };
            let others = numbers.iter().filter(|(key, _)| !["epoch", "correct", LAST_TAG].contains(key));
            let lr = numbers.iter().filter(|(key, _)| *key == LAST_TAG);
            for (key, value) in others.chain(lr) {
                events.push(summary(now(), epoch as i64, vec![scalar(&tag(key), *value)]));
            }
        }
        Ok(events)
    }
}

impl Observer for TensorBoard {
    fn event(&mut self, event: &RunEvent) -> Result<()> {
        match event {
            RunEvent::EpochStarted { epoch, steps, .. } => {
                self.began = now();
                if self.file.is_none() {
                    self.begin(*epoch, *steps)?;
                }
            }
            RunEvent::Steps { .. } | RunEvent::EpochEnded => {}
            RunEvent::EpochSaved { history, net, gradients, .. } => {
                let epoch = history.epochs.len() as i64 - 1;
                let weights = net.parameters().map(|(name, weight)| (format!("weights/{name}"), weight));
                let gradients = gradients.iter().map(|(name, it)| (format!("gradients/{name}"), it));
                let (tags, tensors): (Vec<_>, Vec<_>) = weights.chain(gradients).unzip();
                let copies = to_host(&tensors)?;
                let histograms = tags.iter().zip(&copies).map(|(tag, numbers)| histogram(tag, numbers));
                let histograms = histograms.collect::<Result<_>>()?;
                let mut events = vec![summary(now(), epoch, histograms)];
                events.extend(self.scalars(&history.epochs, &history.steps)?);
                if let Some(file) = &mut self.file {
                    file.append(&events)?;
                }
                self.epochs = history.epochs.len();
            }
        }
        Ok(())
    }
}

/// The events of an earlier file that stay when a run goes on at `epoch`: those of the whole epochs before it, without
/// those that [`TensorBoard::begin`] writes anew.
fn kept(events: Vec<Event>, epoch: i64, steps: i64) -> Vec<Event> {
    let whole = events.iter().filter(|event| tag(event) == LAST_TAG).count() as i64;
    let epochs = epoch.min(whole);
    let keep = |event: &Event| match tag(event) {
        "" => false,
        tag if tag.starts_with("_hparams_/") => false,
        tag if tag.starts_with("step/") => event.step < epochs * steps,
        _ => event.step < epochs,
    };
    events.into_iter().filter(keep).collect()
}

/// The tag of an event's first value; none of an event without values.
fn tag(event: &Event) -> &str {
    event.summary.iter().flat_map(|summary| &summary.value).next().map_or("", |value| &value.tag)
}

fn summary(wall_time: f64, step: i64, value: Vec<Value>) -> Event {
    Event { wall_time, step, summary: Some(Summary { value }), ..Event::default() }
}

fn scalar(tag: &str, value: f64) -> Value {
    Value { tag: tag.into(), simple_value: Some(value as f32), ..Value::default() }
}

/// The distribution of the numbers of a tensor on the CPU, in buckets of equal width.
fn histogram(tag: &str, tensor: &Tensor) -> Result<Value> {
    let numbers = Vec::<f64>::try_from(tensor.f_to_kind(Kind::Double)?.f_reshape([-1])?)?;
    ensure!(numbers.iter().all(|number| number.is_finite()), "{tag} holds a number that is nan or infinite");
    let (min, max) = numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    // Equal numbers make one bucket of a width that is not 0.
    let width = if max > min { (max - min) / BUCKETS as f64 } else { 1.0 };
    let mut bucket = vec![0.0; if max > min { BUCKETS } else { 1 }];
    let last = bucket.len() - 1;
    for number in &numbers {
        bucket[(((number - min) / width) as usize).min(last)] += 1.0;
    }
    let histo = Histogram {
        min,
        max,
        num: numbers.len() as f64,
        sum: numbers.iter().sum(),
        sum_squares: numbers.iter().map(|number| number * number).sum(),
        bucket_limit: (1..=bucket.len()).map(|k| min + k as f64 * width).collect(),
        bucket,
    };
    Ok(Value { tag: tag.into(), histo: Some(histo), ..Value::default() })
}

/// The hyperparameters for the HParams page, and the metrics that it puts beside them.
fn settings(settings: &Settings) -> Vec<Event> {
    let mut start = SessionStartInfo { start_time_secs: now(), ..SessionStartInfo::default() };
    let mut experiment = Experiment::default();
    for (name, value) in settings.hyperparameters() {
        let (hparam, r#type) = match value {
            toml::Value::String(text) => (HParam { string_value: Some(text), ..HParam::default() }, 1),
            toml::Value::Boolean(it) => (HParam { bool_value: Some(it), ..HParam::default() }, 2),
            toml::Value::Float(x) => (HParam { number_value: Some(x), ..HParam::default() }, 3),
            toml::Value::Integer(n) => (HParam { number_value: Some(n as f64), ..HParam::default() }, 3),
            _ => continue,
        };
        experiment.hparam_infos.push(HParamInfo { name: name.clone(), r#type });
        start.hparams.insert(name, hparam);
    }
    let measured = if settings.data.validation > 0 { Part::Validation } else { Part::Test };
    for tag in
        [format!("accuracy/{measured}"), format!("loss/{measured}"), "accuracy/train".into(), "loss/train".into()]
    {
        experiment.metric_infos.push(MetricInfo { name: Some(MetricName { tag }) });
    }
    let experiment = HParamsPluginData { experiment: Some(experiment), ..HParamsPluginData::default() };
    let start = HParamsPluginData { session_start_info: Some(start), ..HParamsPluginData::default() };
    vec![hparams("_hparams_/experiment", &experiment), hparams("_hparams_/session_start_info", &start)]
}

/// An event of the HParams plugin, which keeps its data in a tag's metadata.
fn hparams(tag: &str, data: &HParamsPluginData) -> Event {
    let plugin_data = PluginData { plugin_name: "hparams".into(), content: data.encode_to_vec() };
    let shape = TensorShape { dim: vec![Dim { size: 0 }] };
    let value = Value {
        tag: tag.into(),
        tensor: Some(TensorProto { dtype: 1, tensor_shape: Some(shape), float_val: vec![] }),
        metadata: Some(SummaryMetadata { plugin_data: Some(plugin_data) }),
        ..Value::default()
    };
    summary(now(), 0, vec![value])
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
