//! The end of a run: weights, the last line, the report, and what to do next.

use crate::commands::Outcome;
use crate::data::Data;
use crate::error::{pasted, sentence, without_panic};
use crate::evaluate::{Evaluation, Findings};
use crate::flags::table_of;
use crate::memory;
use crate::observe::{OutputFormat, TensorBoard, duration, say};
use crate::predict::{Familiarity, Knowledge};
use crate::report;
use crate::run_folder::{DONE, Done, Records, RunFolder, Status, WEIGHTS, best, line};
use crate::settings::{Keep, Settings, text_of};
use crate::train::{Diverged, Ending, EpochRecord, Run, kept};
use anyhow::{Result, anyhow};
use signal_hook::consts::SIGUSR1;
use std::time::Instant;

/// A run that has ended, one way or another.
pub(super) struct Finish<'a> {
    pub(super) settings: &'a Settings,
    pub(super) folder: &'a RunFolder,
    pub(super) records: Records,
    pub(super) data: &'a Data,
    pub(super) run: &'a Run<'a>,
    /// What stdout gets.
    pub(super) format: OutputFormat,
    /// How long the process took so far.
    pub(super) seconds: f64,
    pub(super) tensorboard: Option<TensorBoard>,
}

impl Finish<'_> {
    /// Writes and says how the run ended; `signal` is what stopped it, if something did.
    pub(super) fn end(mut self, ended: Result<Ending>, signal: i32) -> Result<Outcome> {
        let epochs = &self.run.history().epochs;
        let mut knowledge = Knowledge { classes: (*self.data.train.classes).clone(), familiarity: None };
        let ended = ended.and_then(|ending| {
            if ending != Ending::Interrupted {
                let net = self.run.saved_net();
                knowledge.familiarity = self.familiarity();
                self.folder.write_weights(net, self.settings, self.kept(), &knowledge)?;
            }
            Ok(ending)
        });
        let status = status(&ended, signal);
        let tta = if status.is_finished() && self.settings.run.tta { self.test_tta() } else { None };
        let ended = ended.map_err(|error| self.explained(error));
        let done = self.done(status, tta.as_ref(), ended.as_ref().err().map(sentence));
        let written = self.records.end(epochs, &done);
        let said = self.say(&done);
        if let (Err(_), Some(tensorboard)) = (&ended, &mut self.tensorboard) {
            // If this fails too, the first error is the one to report.
            let _ = tensorboard.finish(&[], false);
        }
        match (ended?, status) {
            // The reader of an interrupted run may be gone, as when Ctrl-C ends a whole pipe: `written` and `said` may
            // fail.
            (Ending::Interrupted, Status::Pruned) => {
                tracing::info!("pruned by SIGUSR1 after {} epochs", epochs.len());
                Ok(Outcome::Done)
            }
            (Ending::Interrupted, _) => {
                let folder = pasted(self.folder.path());
                tracing::warn!("interrupted; everything is saved, resume with: tch-mnist train --resume {folder}");
                Ok(Outcome::Interrupted(signal))
            }
            (Ending::Done | Ending::TargetReached | Ending::StoppedEarly, _) => {
                written.and(said)?;
                self.look(knowledge.familiarity.as_ref());
                self.summary(&done, tta.as_ref());
                Ok(Outcome::Done)
            }
        }
    }

    /// What digits look like to the net, for `predict` and the report. A run without a report is one of many, and not
    /// meant for either.
    fn familiarity(&self) -> Option<Familiarity> {
        if !self.settings.run.report {
            return None;
        }
        tracing::info!("measuring the statistics of the training images, by which predict marks non-digits");
        let measured = without_panic(|| Familiarity::measure(self.run.saved_net(), &self.data.train));
        measured.unwrap_or_else(|error| {
            tracing::warn!("the statistics of the training images were not measured: {}", sentence(&error));
            None
        })
    }

    /// The last line of `metrics.jsonl` and of `--format json`.
    fn done(&self, status: Status, tta: Option<&Evaluation>, error: Option<String>) -> Done {
        let epochs = &self.run.history().epochs;
        Done {
            status,
            epochs: epochs.len(),
            parameters: self.run.saved_net().architecture().parameters(),
            part: self.data.measured().part,
            saved: self.kept().map(|record| record.measured.clone()),
            kept_epoch: self.kept().filter(|_| self.settings.run.keep == Keep::Best).map(|record| record.epoch),
            best: best(epochs),
            tta: tta.map(|tta| (tta.loss, tta.accuracy())),
            seconds: self.seconds,
            preparation_seconds: self.run.preparation().as_secs_f64(),
            captured: self.run.is_captured(),
            out: self.folder.path().to_path_buf(),
            error,
        }
    }

    /// The epoch whose weights are saved.
    fn kept(&self) -> Option<&EpochRecord> {
        kept(&self.run.history().epochs, &self.settings.run)
    }

    fn say(&self, done: &Done) -> Result<()> {
        match self.format {
            OutputFormat::Json => say(line(DONE, done)?),
            OutputFormat::Text => Ok(()),
        }
    }

    /// The test of the saved weights once more, with test-time augmentation. The run is done by then: an error here is
    /// a warning.
    fn test_tta(&self) -> Option<Evaluation> {
        tracing::info!("measuring with test-time augmentation");
        let tested = without_panic(|| self.run.test_tta());
        tested.inspect_err(|error| tracing::warn!("--tta was not measured: {}", sentence(error))).ok()
    }

    /// TensorBoard's pictures, and the plots and the page. The run is done by then: an error here is a warning.
    fn look(&mut self, familiarity: Option<&Familiarity>) {
        let began = Instant::now();
        let (wants_report, measured) = (self.settings.run.report, self.data.measured());
        if !wants_report && self.tensorboard.is_none() {
            return;
        }
        if wants_report {
            tracing::info!("writing the report");
        }
        let found = without_panic(|| Findings::of(self.run.saved_net(), measured));
        if let (Ok(findings), Some(tensorboard)) = (&found, &mut self.tensorboard) {
            let shown = without_panic(|| tensorboard.finish(&report::pictures_of(findings, measured)?, true));
            if let Err(error) = shown {
                tracing::warn!("TensorBoard's pictures could not be written: {}", sentence(&error));
            }
        }
        if !wants_report {
            return;
        }
        let folder = self.folder.path();
        let written = found.and_then(|findings| {
            without_panic(|| report::write_run(folder, self.run.saved_net(), &findings, familiarity, self.data))
        });
        match written {
            Ok(_) => tracing::debug!("report: {:.2} s", began.elapsed().as_secs_f64()),
            Err(error) => tracing::warn!(
                "the report could not be made: {}; try again with: tch-mnist report {}",
                sentence(&error),
                pasted(folder)
            ),
        }
    }

    /// What a person wants to know when a run is over: how good it is, where it is, what to do with it.
    fn summary(&self, done: &Done, tta: Option<&Evaluation>) {
        // Of all its epochs, those before a resume too.
        let seconds = self.run.history().epochs.iter().map(|epoch| epoch.seconds).sum();
        let (part, time) = (done.part, duration(seconds));
        if let (Some(saved), Some((best, at))) = (&done.saved, done.best) {
            let saved = saved.accuracy;
            match done.kept_epoch {
                None => tracing::info!(
                    "{part} accuracy: {saved:.2}% at the end, {best:.2}% at best (epoch {at}), after {time}"
                ),
                Some(epoch) => {
                    tracing::info!(
                        "{part} accuracy: {saved:.2}% by the weights that are kept (epoch {epoch}), after {time}"
                    )
                }
            }
        }
        if let Some(tta) = tta {
            tracing::info!("{}", tta.tta_line());
        }
        let weights = WEIGHTS.map(|ending| self.folder.weights(ending).display().to_string());
        tracing::info!("weights: {}", weights.join(", "));
        if self.settings.run.report && self.folder.report().exists() {
            tracing::info!("report: {}", self.folder.report().display());
        }
        tracing::info!("next: {}", self.next(&pasted(&self.folder.weights(WEIGHTS[0]))));
    }

    /// The command that one would run next. The test images are still unseen if others were held out.
    fn next(&self, weights: &str) -> String {
        let data = &self.settings.data;
        if data.validation == 0 {
            return format!("tch-mnist predict --weights {weights} IMAGE");
        }
        let (given, defaults) = (table_of(&data.source), Settings::default().table());
        let flags = given.iter().filter(|(key, value)| defaults.get(*key) != Some(value));
        let flags: String = flags.map(|(key, value)| format!(" --{key} {}", text_of(value))).collect();
        format!("tch-mnist evaluate {weights}{flags}, which measures these weights on the test images")
    }

    /// An error in the middle of a run, with what can be done about it.
    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let error = memory::of_batch_size(error, self.settings.training.batches.batch_size);
        let mut text = sentence(&error);
        let checkpoint = self.folder.checkpoint();
        if checkpoint.exists() {
            let (folder, file) = (pasted(self.folder.path()), pasted(&checkpoint));
            text += &match error.is::<Diverged>() {
                // A resume cannot change the settings that led there.
                true => format!("; the last good weights are kept, start from them by --init {file}"),
                false => format!("; the last checkpoint is kept, resume with: tch-mnist train --resume {folder}"),
            };
        }
        anyhow!(text)
    }
}

fn status(ended: &Result<Ending>, signal: i32) -> Status {
    match ended {
        Ok(Ending::Done) => Status::Done,
        Ok(Ending::TargetReached) => Status::TargetReached,
        Ok(Ending::StoppedEarly) => Status::StoppedEarly,
        Ok(Ending::Interrupted) if signal == SIGUSR1 => Status::Pruned,
        Ok(Ending::Interrupted) => Status::Interrupted,
        Err(error) if error.is::<Diverged>() => Status::Diverged,
        Err(_) => Status::Failed,
    }
}
