//! A noisy series, smoothed.

/// An exponential moving average without the bias of its start, as TensorBoard smooths curves, and as Adam corrects its
/// moments.
#[derive(Clone, Debug)]
pub(crate) struct Smoothing {
    /// The share of a new value.
    new: f64,
    average: f64,
    /// The sum of the shares of all values so far, which nears 1.
    weight: f64,
}

impl Smoothing {
    /// An average over about the last `values` values.
    pub(crate) fn over(values: f64) -> Smoothing {
        Smoothing { new: 1.0 / values, average: 0.0, weight: 0.0 }
    }

    /// Takes the next value, and returns the average with it.
    pub(crate) fn next(&mut self, value: f64) -> f64 {
        self.average += self.new * (value - self.average);
        self.weight += self.new * (1.0 - self.weight);
        self.average / self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smoothed_value_is_the_weighted_mean_of_its_definition() {
        let values = [3.0, -1.0, 0.5, 8.0, 2.0];
        let mut smoothing = Smoothing::over(4.0);
        for last in 0..values.len() {
            // Each value weighs 3/4 of the one after it.
            let weights: Vec<f64> = (0..=last).map(|k| 0.75f64.powi((last - k) as i32)).collect();
            let sum: f64 = weights.iter().zip(values).map(|(weight, value)| weight * value).sum();
            let expected = sum / weights.iter().sum::<f64>();
            assert!((smoothing.next(values[last]) - expected).abs() < 1e-12, "value {last}");
        }
    }

    #[test]
    fn a_constant_stays_what_it_is() {
        let mut smoothing = Smoothing::over(20.0);
        assert!((0..9).all(|_| (smoothing.next(0.7) - 0.7).abs() < 1e-15));
    }
}
