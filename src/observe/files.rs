//! The files of a run's folder that grow with it: `metrics.jsonl` and `losses.csv`.

use crate::run_folder::Records;
use crate::train::{Event, Observer};
use anyhow::Result;

/// Adds each epoch once its checkpoint is written: an epoch that is listed can be resumed.
impl Observer for Records {
    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::EpochSaved { history, .. } => self.write(&history.epochs, &history.steps),
            Event::EpochStarted { .. } | Event::Steps { .. } | Event::EpochEnded => Ok(()),
        }
    }
}
