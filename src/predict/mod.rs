//! Which class an image shows, by a net from a file: the class, and whether the image looks like any class at all.

mod familiarity;
mod reading;

pub(crate) use familiarity::Familiarity;
pub(crate) use reading::{Place, Reading};

use crate::data::{Classes, pixel_table};
use crate::digit::{Digit, Lines, Sign};
use crate::memory::in_smaller_batches;
use crate::model::Net;
use crate::shape::SIDE;
use crate::weights;
use anyhow::{Context, Result, bail, ensure};
use reading::Symbol;
use std::cell::Cell;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// A net, and what is known about its classes.
pub(crate) struct Predictor {
    pub(crate) net: Net,
    pub(crate) device: Device,
    pub(crate) knowledge: Knowledge,
    /// The most images that go through the net together; fewer once they did not fit into memory.
    at_once: Cell<i64>,
}

/// What a weights file says about the classes: their names, and what they look like to the net.
pub(crate) struct Knowledge {
    /// What the classes are called.
    pub(crate) classes: Classes,
    /// `None` if it was not measured.
    pub(crate) familiarity: Option<Familiarity>,
}

impl Knowledge {
    /// As the metadata of a weights file.
    pub(crate) fn to_metadata(&self) -> Result<BTreeMap<String, String>> {
        let mut metadata = BTreeMap::new();
        if let Some(names) = self.classes.names() {
            metadata.insert(weights::CLASSES.into(), serde_json::to_string(names)?);
        }
        if let Some(familiarity) = &self.familiarity {
            metadata.insert(weights::FAMILIARITY.into(), familiarity.to_text()?);
        }
        Ok(metadata)
    }

    /// From the metadata of a weights file, which may have none of it.
    pub(crate) fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Knowledge> {
        let classes = metadata.get(weights::CLASSES).map(|names| serde_json::from_str(names)).transpose();
        let familiarity = metadata.get(weights::FAMILIARITY).map(|text| Familiarity::from_text(text)).transpose();
        Ok(Knowledge {
            classes: classes.context("the names of its classes are damaged")?.unwrap_or_default(),
            familiarity: familiarity.context("what it says about familiar images is damaged")?,
        })
    }
}

/// The sentence on weights by which a net computes no number.
pub(crate) const NOT_FINITE: &str =
    "the outputs of the net with these weights are not finite numbers: the weights are damaged or far too large";

/// What the net says about one image.
#[derive(Clone, Debug)]
pub(crate) struct Prediction {
    /// The most probable class.
    pub(crate) digit: usize,
    /// The second.
    pub(crate) runner_up: usize,
    /// Of each class.
    pub(crate) probabilities: Vec<f64>,
    /// Whether the image looks like none of the classes; `None` if that was not judged.
    pub(crate) unsure: Option<bool>,
}

/// The outputs of one member of the net for one image, each from 0 for the lowest to 255 for the highest.
pub(crate) struct Maps {
    pub(crate) name: String,
    pub(crate) channels: i64,
    pub(crate) height: i64,
    pub(crate) width: i64,
    /// channels x height x width.
    pub(crate) bytes: Vec<u8>,
}

impl Predictor {
    pub(crate) fn new(net: Net, device: Device, knowledge: Knowledge) -> Predictor {
        Predictor { net, device, knowledge, at_once: Cell::new(i64::MAX) }
    }

    /// What the net says about each of `digits`.
    fn classify(&self, digits: &[Digit]) -> Result<Vec<Prediction>> {
        if digits.is_empty() {
            return Ok(Vec::new());
        }
        let in_batches = |size| digits.chunks(size as usize).map(|digits| self.classify_together(digits)).collect();
        let most = self.at_once.get().min(digits.len() as i64);
        let (batches, size): (Vec<_>, _) = in_smaller_batches("predicting", most, in_batches)?;
        if size < most {
            self.at_once.set(size);
        }
        Ok(batches.concat())
    }

    /// The same for digits that go through the net together, at least one.
    fn classify_together(&self, digits: &[Digit]) -> Result<Vec<Prediction>> {
        let _no_grad = tch::no_grad_guard();
        let outputs = self.net.forward_units(&images(digits)?.f_to_device(self.device)?);
        let familiarity = self.knowledge.familiarity.as_ref();
        let unsure = familiarity.map(|it| it.unsure(self.net.architecture(), &outputs)).transpose()?;
        let output = self.net.log_probabilities(&outputs).f_exp()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let numbers = Vec::<f64>::try_from(output.f_reshape([-1])?)?;
        let rows = numbers.chunks(numbers.len() / digits.len()).enumerate();
        rows.map(|(k, row)| Prediction::of(row, unsure.as_ref().map(|unsure| unsure[k]))).collect()
    }

    /// What the net says about the digits of several pages.
    pub(crate) fn read(&self, pages: Vec<Lines>) -> Result<Vec<Reading<'_>>> {
        let digit = |sign: &Sign| if let Sign::Digit(found) = sign { Some(found.digit) } else { None };
        let digits: Vec<Digit> = pages.iter().flatten().flatten().filter_map(digit).collect();
        let mut predictions = self.classify(&digits)?.into_iter();
        let mut symbol = |sign| match sign {
            Sign::Digit(found) => Symbol::Digit(found, predictions.next().expect("one for each digit")),
            Sign::Mark(bounds) => Symbol::Mark(bounds),
        };
        let mut line = |line: Vec<Sign>| line.into_iter().map(&mut symbol).collect();
        let mut reading =
            |lines: Lines| Reading::new(lines.into_iter().map(&mut line).collect(), &self.knowledge.classes);
        Ok(pages.into_iter().map(&mut reading).collect())
    }

    /// The outputs of each member of the net for `digit`. If several members are computed in one go, they have the
    /// output of the last one.
    pub(crate) fn maps(&self, digit: &Digit) -> Result<Vec<Maps>> {
        let _no_grad = tch::no_grad_guard();
        let outputs = self.net.forward_units(&images(&[*digit])?.f_to_device(self.device)?);
        let layers = self.net.architecture().layers();
        let mut maps = Vec::new();
        for members in layers.iter().zip(1..).collect::<Vec<_>>().chunk_by(|(a, _), (b, _)| a.member() == b.member()) {
            let (named, end) = members[members.len() - 1];
            let (_, output) = outputs.iter().find(|(done, _)| *done >= end).context("every layer has an output")?;
            maps.push(Maps::of(named.member(), output)?);
        }
        Ok(maps)
    }
}

/// The net's input: float32 [N, 1, 28, 28], normalised, on the CPU.
fn images(digits: &[Digit]) -> Result<Tensor> {
    let bytes = Tensor::from_slice(digits.as_flattened()).f_to_kind(Kind::Int64)?;
    Ok(pixel_table().f_index_select(0, &bytes)?.f_view([-1, 1, SIDE as i64, SIDE as i64])?)
}

impl Prediction {
    fn of(probabilities: &[f64], unsure: Option<bool>) -> Result<Prediction> {
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        ensure!(probabilities.iter().all(|probability| probability.is_finite()), NOT_FINITE);
        let [digit, runner_up, ..] = order[..] else { return None.context("the net has fewer than two classes") };
        Ok(Prediction { digit, runner_up, probabilities: probabilities.to_vec(), unsure })
    }

    pub(crate) fn probability(&self) -> f64 {
        self.probabilities[self.digit]
    }

    pub(crate) fn runner_up_probability(&self) -> f64 {
        self.probabilities[self.runner_up]
    }
}

impl Maps {
    /// Of an output [1, C, H, W] or [1, features].
    fn of(name: &str, output: &Tensor) -> Result<Maps> {
        let (channels, height, width) = match output.size()[..] {
            [_, channels, height, width] => (channels, height, width),
            [_, channels] => (channels, 1, 1),
            _ => bail!("the output of {name} is not of images"),
        };
        let (low, high) = (output.f_min()?, output.f_max()?);
        let range = f64::try_from(high.f_sub(&low)?)?.max(f64::from(f32::MIN_POSITIVE));
        let bytes =
            output.f_sub(&low)?.f_mul_scalar(255.0 / range)?.f_round()?.f_clamp(0, 255)?.f_to_kind(Kind::Uint8)?;
        let bytes = Vec::<u8>::try_from(bytes.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
        Ok(Maps { name: name.to_string(), channels, height, width, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_that_is_no_number_is_no_prediction() {
        assert_eq!(Prediction::of(&[0.25, 0.75], None).unwrap().digit, 1);
        for number in [f64::NAN, f64::INFINITY] {
            assert_eq!(Prediction::of(&[0.25, number], None).unwrap_err().to_string(), NOT_FINITE);
        }
    }
}
