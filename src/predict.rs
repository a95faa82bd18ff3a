//! Which class an image shows, by a net from a file.

use crate::data::{Classes, pixel_table};
use crate::digit::Digit;
use crate::model::Net;
use crate::shape::SIDE;
use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

/// A net, and what its classes are called.
pub(crate) struct Predictor {
    pub(crate) net: Net,
    pub(crate) device: Device,
    pub(crate) classes: Classes,
}

/// What the net says about one image.
#[derive(Clone, Debug)]
pub(crate) struct Prediction {
    /// The most probable class.
    pub(crate) digit: usize,
    /// The second.
    pub(crate) runner_up: usize,
    /// Of each class.
    pub(crate) probabilities: Vec<f64>,
}

impl Predictor {
    /// What the net says about each of `digits`.
    pub(crate) fn classify(&self, digits: &[Digit]) -> Result<Vec<Prediction>> {
        if digits.is_empty() {
            return Ok(Vec::new());
        }
        let _no_grad = tch::no_grad_guard();
        let images = images(digits)?.f_to_device(self.device)?;
        let output = self.net.forward_t(&images, false).f_exp()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let numbers = Vec::<f64>::try_from(output.f_reshape([-1])?)?;
        numbers.chunks(numbers.len() / digits.len()).map(Prediction::of).collect()
    }
}

/// The net's input: float32 [N, 1, 28, 28], normalised, on the CPU.
fn images(digits: &[Digit]) -> Result<Tensor> {
    let bytes = Tensor::from_slice(digits.as_flattened()).to_kind(Kind::Int64);
    Ok(pixel_table().f_index_select(0, &bytes)?.f_view([-1, 1, SIDE as i64, SIDE as i64])?)
}

impl Prediction {
    fn of(probabilities: &[f64]) -> Result<Prediction> {
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let [digit, runner_up, ..] = order[..] else { return None.context("the net has fewer than two classes") };
        Ok(Prediction { digit, runner_up, probabilities: probabilities.to_vec() })
    }

    pub(crate) fn probability(&self) -> f64 {
        self.probabilities[self.digit]
    }

    pub(crate) fn runner_up_probability(&self) -> f64 {
        self.probabilities[self.runner_up]
    }
}
