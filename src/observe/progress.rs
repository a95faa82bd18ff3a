//! How far a run is, on stderr: a bar on a terminal, elsewhere a line per epoch, and more in a long one.

use super::bar::Bar;
use crate::train::{EpochRecord, Event, Observer};
use anyhow::Result;
use std::time::{Duration, Instant};

/// The time between two lines within an epoch, at least.
const PAUSE: Duration = Duration::from_secs(10);

/// Shows how far a run of `epochs` epochs is.
pub(crate) struct Progress {
    epochs: i64,
    shows_bar: bool,
    bar: Option<Bar>,
    epoch: Epoch,
    /// When this process began to train, and the steps that it has made before this epoch.
    began: Instant,
    made: i64,
}

/// The epoch under way.
struct Epoch {
    number: i64,
    steps: i64,
    /// The steps that are done, and those that were when the epoch began here.
    done: i64,
    first: i64,
    began: Instant,
    /// When the last line was written.
    told: Instant,
    loss: Option<f64>,
}

impl Progress {
    /// Shows a bar or, without one, a line for each epoch.
    pub(crate) fn new(epochs: i64, shows_bar: bool) -> Progress {
        let now = Instant::now();
        let epoch = Epoch { number: 0, steps: 0, done: 0, first: 0, began: now, told: now, loss: None };
        Progress { epochs, shows_bar, bar: None, epoch, began: now, made: 0 }
    }

    /// A line for the log. A terminal has the bar instead.
    fn tell(&self, line: &str) {
        match self.shows_bar {
            true => tracing::debug!("{line}"),
            false => tracing::info!("{line}"),
        }
    }

    /// How long the epochs that are left take, as long as the steps of this process took with their tests; `None` if
    /// none is left.
    fn left(&self) -> Option<Duration> {
        let left = (self.epochs - self.epoch.number - 1) * self.epoch.steps;
        (left > 0 && self.made > 0).then(|| self.began.elapsed().mul_f64(left as f64 / self.made as f64))
    }
}

impl Observer for Progress {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::EpochStarted { epoch, steps, done } => {
                let (number, now) = (*epoch, Instant::now());
                self.epoch =
                    Epoch { number, steps: *steps, done: *done, first: *done, began: now, told: now, loss: None };
                // The bar of the epoch before ends first: the log is told of one bar at a time.
                self.bar = None;
                self.bar = self.shows_bar.then(|| Bar::start(*steps, *done, true));
            }
            Event::Steps { done, loss } => {
                self.epoch.done = *done;
                self.epoch.loss = loss.or(self.epoch.loss);
                if let Some(bar) = &self.bar {
                    if let Some(loss) = loss {
                        bar.set_message(format!("loss={loss:.4} batch_id={}", done - 1));
                    }
                    bar.go_to(*done);
                }
                if let Some(line) = self.epoch.line_if_due(Instant::now()) {
                    self.tell(&line);
                }
            }
            Event::EpochEnded => self.made += self.epoch.done - self.epoch.first,
            Event::EpochSaved { history, .. } => {
                let left = self.left().map_or(String::new(), |left| format!(", {} left", duration(left.as_secs_f64())));
                self.tell(&(epoch_line(history.last()) + &left));
            }
        }
        Ok(())
    }
}

impl Epoch {
    /// The next line within the epoch, if it is time for one at `now`.
    fn line_if_due(&mut self, now: Instant) -> Option<String> {
        let is_due = now.duration_since(self.told) >= PAUSE && self.done < self.steps;
        is_due.then(|| {
            self.told = now;
            self.line(now)
        })
    }

    /// `epoch 0: 282 of 469 steps, loss 0.1034, 21.28 steps/s, 8.8 s left in the epoch`
    fn line(&self, now: Instant) -> String {
        let rate = (self.done - self.first) as f64 / now.duration_since(self.began).as_secs_f64();
        let loss = self.loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
        format!(
            "epoch {}: {} of {} steps{loss}, {rate:.2} steps/s, {} left in the epoch",
            self.number,
            self.done,
            self.steps,
            duration((self.steps - self.done) as f64 / rate)
        )
    }
}

/// `epoch 0: train loss 0.3312, train accuracy 89.81%, test accuracy 96.45%, lr 0.01, 3904 images/s, 16.9 s`
fn epoch_line(record: &EpochRecord) -> String {
    let EpochRecord { epoch, lr, train_loss, train_accuracy, measured, seconds, images_per_second, .. } = record;
    // Four digits: a rate that a schedule computes has as many as a double.
    let lr: f64 = format!("{lr:.3e}").parse().unwrap_or(*lr);
    format!(
        "epoch {epoch}: train loss {train_loss:.4}, train accuracy {train_accuracy:.2}%, {} accuracy {:.2}%, lr {lr}, \
         {images_per_second:.0} images/s, {}",
        measured.part,
        measured.accuracy,
        duration(*seconds)
    )
}

/// `16.9 s`, `3 min 57 s`, `2 h 5 min`
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_epoch_has_a_line_at_most_every_ten_seconds() {
        let began = Instant::now();
        let mut epoch = Epoch { number: 3, steps: 469, done: 100, first: 0, began, told: began, loss: Some(0.5) };
        let mut at = |seconds: u64| epoch.line_if_due(began + Duration::from_secs(seconds));
        assert_eq!(at(9), None);
        assert_eq!(at(10).unwrap(), "epoch 3: 100 of 469 steps, loss 0.5000, 10.00 steps/s, 36.9 s left in the epoch");
        assert_eq!((at(19), at(20).is_some(), at(21)), (None, true, None));
        epoch.done = epoch.steps;
        assert_eq!(epoch.line_if_due(began + Duration::from_secs(100)), None);
    }
}
