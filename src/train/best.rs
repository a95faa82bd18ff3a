//! Which epoch is the best so far: what `--patience` waits for, and `--keep best` keeps.

use super::events::EpochRecord;
use crate::settings::{Keep, Monitor, RunSettings};

/// The best of `epochs`; the first if several are equal.
pub(crate) fn best(epochs: &[EpochRecord], monitor: Monitor) -> Option<&EpochRecord> {
    let is_better = |one: &EpochRecord, other: &EpochRecord| match monitor {
        Monitor::Accuracy => one.measured.correct > other.measured.correct,
        Monitor::Loss => one.measured.loss < other.measured.loss,
    };
    epochs.iter().reduce(|best, epoch| if is_better(epoch, best) { epoch } else { best })
}

/// The epoch whose weights are saved.
pub(crate) fn kept<'a>(epochs: &'a [EpochRecord], run: &RunSettings) -> Option<&'a EpochRecord> {
    match run.keep {
        Keep::Last => epochs.last(),
        Keep::Best => best(epochs, run.monitor),
    }
}

/// Whether the last `--patience` epochs, or more, were not better than the best one.
pub(super) fn is_out_of_patience(epochs: &[EpochRecord], run: &RunSettings) -> bool {
    let waited = best(epochs, run.monitor).map_or(0, |best| epochs.len() as i64 - 1 - best.epoch);
    run.patience > 0 && waited >= run.patience
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::train::Measured;

    /// Epochs with these numbers of correct images and these losses.
    fn epochs(measured: &[(i64, f64)]) -> Vec<EpochRecord> {
        let line = r#"{"epoch":0,"lr":0.01,"train_loss":0.5,"train_accuracy":81.25,"validation_loss":0.25,
            "validation_accuracy":92.5,"correct":37,"seconds":1.5,"images_per_second":1e4}"#;
        let record: EpochRecord = serde_json::from_str(line).unwrap();
        let epoch = |(epoch, &(correct, loss))| {
            let measured = Measured { loss, correct, ..record.measured.clone() };
            EpochRecord { epoch, measured, ..record.clone() }
        };
        (0..).zip(measured).map(epoch).collect()
    }

    fn settings(flags: &[&str]) -> RunSettings {
        Settings::from_flags([&["--validation=50"], flags].concat()).unwrap().run
    }

    #[test]
    fn the_first_of_equal_epochs_is_the_best() {
        let epochs = epochs(&[(40, 0.5), (45, 0.4), (44, 0.3), (45, 0.3)]);
        let kept = |flags| kept(&epochs, &settings(flags)).unwrap().epoch;
        assert_eq!(kept(&[]), 3);
        assert_eq!(kept(&["--keep=best"]), 1);
        assert_eq!(kept(&["--keep=best", "--monitor=loss"]), 2);
        assert!(super::kept(&[], &settings(&["--keep=best"])).is_none());
    }

    #[test]
    fn patience_ends_with_the_last_of_its_epochs() {
        let epochs = epochs(&[(40, 0.5), (45, 0.6), (45, 0.7), (44, 0.4)]);
        let ends = |done: usize, flags| is_out_of_patience(&epochs[..done], &settings(flags));
        let after = |flags| (0..=4).map(|done| ends(done, flags)).collect::<Vec<_>>();
        assert_eq!(after(&["--patience=2"]), [false, false, false, false, true]);
        assert_eq!(after(&["--patience=1"]), [false, false, false, true, true]);
        assert_eq!(after(&["--patience=2", "--monitor=loss"]), [false, false, false, true, false]);
        assert_eq!(after(&[]), [false; 5]);
    }
}
