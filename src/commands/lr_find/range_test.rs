//! The steps of a range test: those of a run, at a learning rate that rises.

use super::curve::LossCurve;
use crate::data::Split;
use crate::settings::Settings;
use crate::train::{Shuffle, State, Stepper};
use anyhow::{Result, ensure};

/// Makes the steps of a run on `images` from a new `state`, each at the next rate of `curve`, until the curve is over or
/// `stop` returns true; returns whether the curve is over. `watch` gets each step's rate and loss.
///
/// When all images are used, they are shuffled again, as at the start of an epoch.
pub(super) fn run(
    settings: &Settings,
    images: &Split,
    state: &mut State,
    curve: &mut LossCurve,
    watch: impl Fn(f64, f32),
    stop: impl Fn() -> bool,
) -> Result<bool> {
    let steps = state.steps();
    let mut stepper = Stepper::new(images, settings)?;
    stepper.prepare(state)?;
    while let Some(rate) = curve.next_rate() {
        if stop() {
            return Ok(false);
        }
        if state.position.step == steps {
            state.end_epoch()?;
        }
        if state.position.step == 0 {
            let order = Shuffle::draw()?.order(images.len(), images.device())?;
            stepper.begin_epoch(state, &order, &curve.next_rates(steps))?;
        }
        let loss = f32::try_from(stepper.step(state)?)?;
        ensure!(loss.is_finite() || !curve.losses.is_empty(), "the loss of the first batch is {loss}: check --init");
        curve.push(loss);
        watch(rate, loss);
    }
    Ok(true)
}
