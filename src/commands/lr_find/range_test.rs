//! The steps of a range test: those of a run, at a learning rate that rises.

use super::curve::LossCurve;
use crate::data::Split;
use crate::model::Net;
use crate::settings::Settings;
use crate::train::{Shuffle, State, Stepper};
use anyhow::{Context, Result, ensure};

/// Trains `net` on `images` with the steps of a run, each at the next rate of `curve`, until the curve is over or `stop`
/// returns true; returns whether the curve is over. `watch` gets each step's rate and loss.
///
/// When all images are used, they are shuffled again, as at the start of an epoch.
pub(super) fn run(
    settings: &Settings,
    images: &Split,
    net: Net,
    curve: &mut LossCurve,
    watch: impl Fn(f64, f32),
    stop: impl Fn() -> bool,
) -> Result<bool> {
    // To the state it is one long epoch.
    let mut state = State::new(net, settings, curve.range().steps)?;
    let mut stepper = Stepper::new(images, settings)?;
    stepper.prepare(&mut state)?;
    let mut batches = Vec::new().into_iter();
    while let Some(rate) = curve.next_rate() {
        if stop() {
            return Ok(false);
        }
        if batches.len() == 0 {
            let batch_size = settings.training.batches.batch_size;
            batches = Shuffle::draw()?.batches(images.len(), batch_size, images.device())?.into_iter();
        }
        let indices = batches.next().context("the training set is empty")?;
        let loss = f32::try_from(stepper.step(&mut state, &indices, rate)?)?;
        ensure!(loss.is_finite() || !curve.losses.is_empty(), "the loss of the first batch is {loss}: check --init");
        curve.push(loss);
        watch(rate, loss);
    }
    Ok(true)
}
