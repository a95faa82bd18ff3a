//! How the learning rate changes.

use crate::error::UsageError;
use crate::flags::{Chosen, within};
use crate::train::schedules::Scheduler;
use serde::Serialize;

/// The longest warm-up in epochs: the rate of each of its steps is kept in memory.
const LONGEST_WARMUP: i64 = 100;

/// The schedule with its settings, and the warm-up before it.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct ScheduleSettings {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) chosen: Chosen<dyn Scheduler>,
    /// Linear warm-up over the first N epochs, per step; works with every schedule
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within("a whole number of epochs", 0..=LONGEST_WARMUP))]
    pub warmup_epochs: i64,
}

impl ScheduleSettings {
    /// Refuses settings that the schedule does not have, and a warm-up that leaves it none of the `epochs`.
    pub(super) fn check(&self, epochs: i64) -> Result<(), UsageError> {
        self.chosen.check()?;
        if self.warmup_epochs >= epochs {
            return Err(UsageError(format!(
                "--warmup-epochs {} leaves no epoch for the schedule: give fewer than --epochs {epochs}",
                self.warmup_epochs
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    #[test]
    fn a_setting_of_another_schedule_is_refused_unless_it_has_its_default() {
        let refused = |flags: &[&str]| Settings::from_flags(flags).unwrap_err().to_string();
        let step_size = "cosine has no --step-size: leave it out; step has it";
        assert_eq!(refused(&["--schedule=cosine", "--step-size=3"]), step_size);
        let gamma = "constant has no --gamma: leave it out; step, multi-step and exponential have it";
        assert_eq!(refused(&["--schedule=constant", "--gamma=0.5"]), gamma);
        let cosine = Settings::from_flags(["--schedule=cosine"]).unwrap();
        assert_eq!(Settings::from_flags(["--schedule=cosine", "--step-size=6"]).unwrap(), cosine);
    }
}
