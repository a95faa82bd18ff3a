//! The files of a run's folder that grow with it: `metrics.jsonl` and `losses.csv`.

use crate::run_folder::RunFolder;
use crate::train::{Event, Observer};
use anyhow::Result;

/// Writes both files anew after each epoch, so that a resumed run has no gap in them and no line twice.
pub(crate) struct Files(pub(crate) RunFolder);

impl Observer for Files {
    fn event(&mut self, event: &Event) -> Result<()> {
        if let Event::EpochEnded { history, .. } = event {
            self.0.write_losses(&history.steps)?;
            self.0.write_metrics(&history.epochs, None)?;
        }
        Ok(())
    }
}
