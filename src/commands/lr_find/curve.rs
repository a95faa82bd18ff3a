//! The arithmetic of a range test: the rate of each step, the smoothed loss, when the test is over, the rate it
//! suggests.

use crate::report::Smoothing;
use serde::Serialize;

/// The share of the steps that the smoothed loss is an average over, and how many they are at least.
const SMOOTHED_OVER: (f64, f64) = (0.03, 5.0);

/// The test is over when the smoothed loss exceeds this multiple of its minimum.
pub(super) const ROSE_TO: f64 = 4.0;

/// A test of fewer steps says little: the smoothed loss follows the loss by several steps.
const ENOUGH_STEPS: i64 = 100;

/// The smoothed loss has fallen, or risen, if it changed by this share of what it was at the start: less is noise.
const LEAST_CHANGE: f64 = 0.1;

/// The rates of a test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Range {
    /// The rate of the first step.
    pub(super) min: f64,
    /// The rate of the last step.
    pub(super) max: f64,
    /// At least 2.
    pub(super) steps: i64,
}

impl Range {
    /// The rate of a step, from 0: each is the same multiple of the one before.
    fn rate(&self, step: usize) -> f64 {
        self.min * (self.max / self.min).powf(step as f64 / (self.steps - 1) as f64)
    }
}

/// The losses of a test so far.
#[derive(Serialize)]
pub(super) struct LossCurve {
    #[serde(flatten)]
    range: Range,
    #[serde(skip)]
    smoothing: Smoothing,
    /// The smoothed loss is too noisy to be judged before this step.
    #[serde(skip)]
    settled: usize,
    /// The step with the lowest smoothed loss since then.
    #[serde(skip)]
    lowest: Option<usize>,
    /// The rate and the loss of each step, the loss of the batch before the step changes the weights.
    pub(super) rates: Vec<f64>,
    pub(super) losses: Vec<f32>,
    pub(super) smoothed: Vec<f64>,
}

/// Why a test is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// The smoothed loss rose to [`ROSE_TO`] times its minimum.
    LossRose,
    /// A loss is infinite or not a number.
    LossNotFinite,
    /// All steps are made.
    AllSteps,
}

impl LossCurve {
    /// The curve before the first step.
    pub(super) fn new(range: Range) -> LossCurve {
        let over = (SMOOTHED_OVER.0 * range.steps as f64).max(SMOOTHED_OVER.1);
        LossCurve {
            range,
            smoothing: Smoothing::over(over),
            settled: over as usize,
            lowest: None,
            rates: Vec::new(),
            losses: Vec::new(),
            smoothed: Vec::new(),
        }
    }

    pub(super) fn range(&self) -> Range {
        self.range
    }

    /// The rate of the next step; `None` if the test is over.
    pub(super) fn next_rate(&self) -> Option<f64> {
        self.end().is_none().then(|| self.range.rate(self.losses.len()))
    }

    /// The rates of the next `count` steps, whether or not the test is over before.
    pub(super) fn next_rates(&self, count: i64) -> Vec<f64> {
        let done = self.losses.len();
        (done..done + count as usize).map(|step| self.range.rate(step)).collect()
    }

    /// Adds the loss of a step at [`LossCurve::next_rate`].
    pub(super) fn push(&mut self, loss: f32) {
        let step = self.losses.len();
        let smoothed = self.smoothing.next(f64::from(loss));
        self.rates.push(self.range.rate(step));
        self.losses.push(loss);
        self.smoothed.push(smoothed);
        if step >= self.settled && self.lowest.is_none_or(|lowest| smoothed < self.smoothed[lowest]) {
            self.lowest = Some(step);
        }
    }

    /// Why the test is over; `None` if it is not.
    pub(super) fn end(&self) -> Option<End> {
        if !self.losses.last()?.is_finite() {
            return Some(End::LossNotFinite);
        }
        let smoothed = *self.smoothed.last()?;
        if self.lowest.is_some_and(|lowest| smoothed > ROSE_TO * self.smoothed[lowest]) {
            return Some(End::LossRose);
        }
        (self.losses.len() as i64 == self.range.steps).then_some(End::AllSteps)
    }

    /// The step at whose rate the smoothed loss fell most steeply before its minimum, over the logarithm of the rate.
    /// If there is none, why, and what to do.
    pub(super) fn steepest(&self) -> Result<usize, String> {
        let (start, steps) = (self.settled, self.range.steps);
        if self.smoothed.len() < 2 * start {
            return Err("too few steps were made: give more --steps, or a lower --min if the loss rose at once".into());
        }
        let lowest = self.lowest.unwrap_or(start);
        let (first, last) = (self.smoothed[start], self.smoothed[self.smoothed.len() - 1]);
        if self.smoothed[lowest] <= first * (1.0 - LEAST_CHANGE) {
            let slope = |step: &usize| self.smoothed[step + 1] - self.smoothed[step - 1];
            return (start..lowest).min_by(|a, b| slope(a).total_cmp(&slope(b))).ok_or("the loss never fell".into());
        }
        match last <= first * (1.0 + LEAST_CHANGE) {
            true => Err("the loss hardly changed: give a higher --max, or weights that are not trained yet".into()),
            false if steps < ENOUGH_STEPS => {
                Err(format!("{steps} steps are too few: give --steps {ENOUGH_STEPS} or more"))
            }
            false => Err("the loss never fell, it only rose: give a lower --min".into()),
        }
    }

    /// The step with the lowest smoothed loss.
    pub(super) fn lowest(&self) -> Option<usize> {
        self.lowest
    }

    /// The highest smoothed loss before the last step, which may be much higher than all others.
    pub(super) fn highest(&self) -> f64 {
        let before = &self.smoothed[..self.smoothed.len().saturating_sub(1).max(1)];
        before.iter().copied().fold(f64::MIN_POSITIVE, f64::max)
    }

    /// Whether the smoothed loss fell, and had its minimum at the end of the range: a higher rate might do better.
    pub(super) fn still_falls(&self) -> bool {
        self.steepest().is_ok() && self.lowest.is_some_and(|lowest| lowest + self.settled >= self.range.steps as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range = Range { min: 1e-4, max: 1.0, steps: 401 };

    /// A test whose loss is a function of the logarithm of the rate, to base 10.
    fn curve(loss: impl Fn(f64) -> f64) -> LossCurve {
        let mut curve = LossCurve::new(RANGE);
        while let Some(rate) = curve.next_rate() {
            curve.push(loss(rate.log10()) as f32);
        }
        curve
    }

    fn suggestion(curve: &LossCurve) -> f64 {
        curve.rates[curve.steepest().unwrap()]
    }

    #[test]
    fn rates_rise_by_the_same_factor_from_the_lowest_to_the_highest() {
        let curve = curve(|_| 1.0);
        assert_eq!((curve.rates.len(), curve.rates[0], curve.rates[400]), (401, 1e-4, 1.0));
        assert!(curve.rates.windows(2).all(|pair| (pair[1] / pair[0] - 10f64.powf(0.01)).abs() < 1e-12));
    }

    #[test]
    fn the_suggestion_is_where_the_loss_falls_most_steeply() {
        // A smooth step from 2 down to 1, steepest at a rate of 0.01. The smoothed curve lags by 0.12 of a power of
        // ten.
        let curve = curve(|log| 1.5 - 0.5 * ((log + 2.0) / 0.3).tanh());
        assert_eq!(curve.end(), Some(End::AllSteps));
        let log = suggestion(&curve).log10();
        assert!((-2.0..-1.85).contains(&log), "{log}");
        assert!(curve.still_falls());
    }

    #[test]
    fn a_fall_after_the_minimum_does_not_count() {
        // A slow fall to a rate of 0.01, a rise of less than four times, and then a steeper fall that stays above the
        // minimum.
        let curve = curve(|log| match log {
            ..-2.0 => 2.0 - 0.5 * (log + 4.0),
            ..-1.0 => 1.0 + 2.0 * (log + 2.0),
            _ => 3.0 - 1.5 * (log + 1.0),
        });
        assert!(suggestion(&curve) < 0.01);
        assert!(!curve.still_falls());
    }

    #[test]
    fn a_loss_of_four_times_the_minimum_ends_the_test() {
        let curve = curve(|log| if log < -2.0 { 2.0 - 0.9 * (log + 4.0) } else { 0.2 * 10f64.powf(3.0 * (log + 2.0)) });
        assert_eq!(curve.end(), Some(End::LossRose));
        let (last, lowest) = (curve.smoothed.len() - 1, curve.lowest().unwrap());
        assert!(curve.smoothed[last] > 4.0 * curve.smoothed[lowest]);
        assert!(curve.smoothed[last - 1] <= 4.0 * curve.smoothed[lowest]);
        assert!(curve.rates[last] < 0.1);
    }

    #[test]
    fn a_loss_that_is_not_finite_ends_the_test_and_the_suggestion_is_from_before() {
        for not_finite in [f64::NAN, f64::INFINITY] {
            let curve = curve(|log| if log < -1.0 { 1.5 - 0.5 * ((log + 2.0) / 0.3).tanh() } else { not_finite });
            assert_eq!((curve.end(), curve.losses.len()), (Some(End::LossNotFinite), 301));
            assert!((0.01..0.02).contains(&suggestion(&curve)));
        }
    }

    #[test]
    fn the_first_noisy_steps_neither_end_a_test_nor_are_suggested() {
        // As with weights that are trained: one easy batch, then a hard one.
        let curve = curve(|log| match log {
            ..-3.99 => 0.001,
            ..-3.98 => 3.0,
            _ => 1.5 - 0.5 * ((log + 2.0) / 0.3).tanh(),
        });
        assert_eq!(curve.end(), Some(End::AllSteps));
        assert!((0.01..0.02).contains(&suggestion(&curve)));
    }

    #[test]
    fn without_a_fall_nothing_is_suggested() {
        let noise = |log: f64| 0.05 * (1e4 * log).sin();
        assert!(curve(|log| 2.3 + noise(log)).steepest().unwrap_err().contains("hardly changed"));
        let rising = curve(|log| 2.3 + log + 4.0 + noise(log));
        assert!(rising.steepest().unwrap_err().contains("only rose"));
    }

    #[test]
    fn few_steps_whose_loss_only_rose_are_not_said_to_fall() {
        let mut curve = LossCurve::new(Range { steps: 20, ..RANGE });
        (0..20).for_each(|step| curve.push(2.0 + 0.05 * step as f32));
        assert_eq!(curve.steepest().unwrap_err(), "20 steps are too few: give --steps 100 or more");
        assert!(!curve.still_falls());
    }

    #[test]
    fn too_few_steps_suggest_nothing() {
        let mut curve = LossCurve::new(Range { steps: 9, ..RANGE });
        (0..9).for_each(|step| curve.push(2.0 - 0.2 * step as f32));
        assert!(curve.steepest().unwrap_err().contains("too few steps"));
        let at_once = self::curve(|log| if log < -3.95 { 1.0 } else { f64::NAN });
        assert!(at_once.steepest().unwrap_err().contains("too few steps"));
        assert!(LossCurve::new(RANGE).steepest().is_err());
    }
}
