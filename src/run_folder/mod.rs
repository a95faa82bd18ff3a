//! A run's folder: the name and the content of every file in it.
//!
//! | file | content |
//! |---|---|
//! | `config.toml` | every setting |
//! | `environment.json` | versions, device, checksums of the data: [`Environment`] |
//! | `metrics.jsonl` | a line per epoch, and one about the end: [`EpochRecord`], [`Done`] |
//! | `losses.csv` | a line per step: [`StepRecord`] |
//! | `checkpoint.safetensors` | everything that a resume needs: [`Checkpoint`] |
//! | `model.*` | the weights, in each of [`WEIGHTS`] |
//! | `report.html`, `plots/` | the report |
//! | `log.txt` | the log |

mod environment;
mod metrics;
mod records;

pub(crate) use environment::Environment;
pub(crate) use metrics::{DONE, Done, EPOCH, Status, best, line};
pub(crate) use records::Records;

use crate::data::Part;
use crate::error::UsageError;
use crate::files::{folder_of, write_atomically};
use crate::libtorch::transfer::to_host;
use crate::model::{Architecture, Net, StateDict};
use crate::predict::Knowledge;
use crate::settings::{Given, Settings};
use crate::train::{Checkpoint, EpochRecord, StepRecord, kept};
use crate::weights::{self, WeightsFile};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The formats that a run's weights are written in.
pub(crate) const WEIGHTS: [&str; 5] = ["pt", "pth", "safetensors", "onnx", "pt2"];

/// The format that is read back: the one that keeps metadata.
const WEIGHTS_TO_READ: &str = "safetensors";

/// The folder of a run.
#[derive(Clone, Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Whether a user named it.
    is_named: bool,
    /// What this process made, the last first: its log, the folder, those above it.
    made: Vec<PathBuf>,
}

impl RunFolder {
    /// The folder at `path`, which need not exist.
    pub(crate) fn at(path: &Path) -> RunFolder {
        RunFolder { path: path.to_path_buf(), is_named: true, made: Vec::new() }
    }

    /// The folder of a new run that nobody named: below `runs`, after the date and the seed.
    pub(crate) fn named_by_date(seed: i64) -> RunFolder {
        let date = jiff::ZonedDateTime::now().strftime("%Y%m%d-%H%M%S");
        RunFolder { is_named: false, ..RunFolder::at(Path::new(&format!("runs/{date}-{seed}"))) }
    }

    /// The folder whose own checkpoint `run` is: a folder, or the file in it.
    pub(crate) fn resumed(run: &Path) -> Result<RunFolder> {
        let file = RunFolder::checkpoint_of(run)?;
        let folder = RunFolder::at(folder_of(&file));
        if file.file_name() != folder.checkpoint().file_name() {
            bail!(UsageError(format!(
                "--resume {} is not named {}, so it is a copy: give --out DIR for the run that goes on from it",
                run.display(),
                folder.checkpoint().file_name().unwrap_or_default().display()
            )));
        }
        Ok(folder)
    }

    /// The checkpoint file of the run at `run`, a folder or the file itself.
    pub(crate) fn checkpoint_of(run: &Path) -> Result<PathBuf> {
        let file = if run.is_dir() { RunFolder::at(run).checkpoint() } else { run.to_path_buf() };
        ensure!(
            file.exists(),
            "--resume {}: there is no {}; give the folder of a run that has finished an epoch or was interrupted",
            run.display(),
            file.display()
        );
        Ok(file)
    }

    /// Refuses a folder that holds a run, or a file that a run would overwrite.
    pub(crate) fn check_unused(&self) -> Result<()> {
        let run = [self.metrics(), self.checkpoint(), self.weights(WEIGHTS[0])];
        if let Some(file) = run.iter().find(|file| file.exists()) {
            let out = self.path.display();
            let resume = match self.checkpoint().exists() {
                true => format!(", or resume it with --resume {out}"),
                false => String::new(),
            };
            bail!(UsageError(format!(
                "--out {out} already holds a run ({}): choose another folder{resume}",
                file.file_name().unwrap_or_default().display()
            )));
        }
        self.check_nothing_is_lost()
    }

    /// Refuses a folder with a file of somebody else under the name of one that a run writes. What a run writes before its
    /// first checkpoint may be there: the process that wrote it has been killed.
    fn check_nothing_is_lost(&self) -> Result<()> {
        let mut others = vec![self.losses(), self.report(), self.plots()];
        others.extend(WEIGHTS.map(|ending| self.weights(ending)));
        others.extend((!self.config_is_of_a_run()).then(|| self.config()));
        others.extend(self.read_environment().is_err().then(|| self.environment()));
        if let Some(file) = others.iter().find(|file| file.exists()) {
            bail!(UsageError(format!(
                "--out {} holds {}, which the run would overwrite: choose another folder",
                self.path.display(),
                file.file_name().unwrap_or_default().display()
            )));
        }
        Ok(())
    }

    /// Whether `config.toml` is, to the letter, what a run writes there: no comment of somebody is in it.
    fn config_is_of_a_run(&self) -> bool {
        let settings = Settings::resolve(Some(&self.config()), &Given::default());
        settings.is_ok_and(|settings| fs::read_to_string(self.config()).is_ok_and(|text| text == settings.to_toml()))
    }

    /// Refuses a folder whose run has got further than to its start, but has no checkpoint to go on from. One that failed
    /// because it could not write the checkpoint has left nothing to keep.
    pub(crate) fn check_not_begun(&self) -> Result<()> {
        let is_begun = |(epochs, done): (Vec<EpochRecord>, Option<Done>)| {
            !epochs.is_empty() && done.is_none_or(|done| done.status != Status::Failed)
        };
        if self.has_weights() || self.lines().is_none_or(is_begun) {
            bail!(UsageError(format!(
                "--out {} holds a run without its {}: choose another folder",
                self.path.display(),
                self.checkpoint().file_name().unwrap_or_default().display()
            )));
        }
        self.check_nothing_is_lost()
    }

    /// Refuses to write the run of `checkpoint`, read from `file`, over another one.
    pub(crate) fn check_goes_on(&self, file: &Path, checkpoint: &Checkpoint) -> Result<()> {
        let is_same = |a: &Path, b: &Path| a.canonicalize().ok().is_some_and(|a| Some(a) == b.canonicalize().ok());
        if !is_same(file, &self.checkpoint()) {
            return self.check_unused();
        }
        if !self.is_of(checkpoint) {
            bail!(UsageError(format!(
                "--resume: {} is of another run than the files beside it, which would be overwritten: give --out DIR for the \
                 run that goes on",
                file.display()
            )));
        }
        Ok(())
    }

    /// Whether the files in the folder are of the run that made `checkpoint`.
    fn is_of(&self, checkpoint: &Checkpoint) -> bool {
        let ours = self.lines().map_or(Vec::new(), |(epochs, _)| epochs);
        let theirs = checkpoint.epochs();
        match ours.is_empty() {
            // How long an epoch took tells two runs of the same settings apart.
            false => !theirs.is_empty() && ours.iter().zip(theirs).all(|(one, other)| one == other),
            // The process ended before it listed its first epoch, the list is lost, or the checkpoint is alone.
            true if self.config().exists() => {
                let has_its_settings = checkpoint.settings().resumed(Some(&self.config()), &Given::default());
                !self.has_weights() && has_its_settings.is_ok()
            }
            true => {
                let others = [self.environment(), self.metrics(), self.losses(), self.report()];
                !self.has_weights() && !others.iter().any(|file| file.exists())
            }
        }
    }

    fn has_weights(&self) -> bool {
        WEIGHTS.iter().any(|ending| self.weights(ending).exists())
    }

    /// The lines of `metrics.jsonl`; `None` if it is damaged.
    fn lines(&self) -> Option<(Vec<EpochRecord>, Option<Done>)> {
        match fs::read_to_string(self.metrics()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some((Vec::new(), None)),
            text => text.ok().and_then(|text| metrics::read(&text).ok()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's own name.
    pub(crate) fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    fn environment(&self) -> PathBuf {
        self.path.join("environment.json")
    }

    fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    fn losses(&self) -> PathBuf {
        self.path.join("losses.csv")
    }

    fn log(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    /// The weights in the format with this file name ending.
    pub(crate) fn weights(&self, ending: &str) -> PathBuf {
        self.path.join(format!("model.{ending}"))
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    pub(crate) fn plots(&self) -> PathBuf {
        self.path.join("plots")
    }

    /// Makes the folder and opens `log.txt` in it. The log is locked as long as the process lives, so that no two train
    /// in one folder.
    pub(crate) fn open(&mut self) -> Result<File> {
        let out = self.path.display().to_string();
        if self.path.to_str().is_none() {
            bail!(UsageError(format!("--out {out}: its name is not UTF-8; give another folder")));
        }
        if self.path.is_file() {
            bail!(UsageError(format!("--out {out} is a file: name a folder")));
        }
        self.claim().with_context(|| format!("--out {out} cannot be made"))?;
        let out = self.path.display();
        let is_new = !self.log().exists();
        let file = File::options().append(true).create(true).open(self.log());
        let file = file.with_context(|| format!("--out {out} cannot be written to"));
        let file = file.inspect_err(|_| self.leave_nothing())?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => bail!("another process is training in {out}"),
            // On a file system without locks, train without one.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        if is_new {
            self.made.insert(0, self.log());
        }
        Ok(file)
    }

    /// Makes the folder. If nobody named it and another run has its name, it gets a number.
    fn claim(&mut self) -> io::Result<()> {
        let first = self.path.display().to_string();
        for n in 2.. {
            self.made = make(&self.path)?;
            if !self.made.is_empty() || self.is_named {
                break;
            }
            self.path = PathBuf::from(format!("{first}-{n}"));
        }
        Ok(())
    }

    /// Removes what this process made for a run that has failed before it began.
    pub(crate) fn remove_unless_begun(&self) {
        if !self.config().exists() {
            self.leave_nothing();
        }
    }

    /// Removes the log, and the folders if nothing else is in them, as far as this process made them.
    pub(crate) fn leave_nothing(&self) {
        for path in &self.made {
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }

    pub(crate) fn write_settings(&self, settings: &Settings) -> Result<()> {
        write_text(&self.config(), &settings.to_toml())
    }

    pub(crate) fn write_environment(&self, environment: &Environment) -> Result<()> {
        write_text(&self.environment(), &(serde_json::to_string_pretty(environment)? + "\n"))
    }

    /// The files that grow with the run.
    pub(crate) fn records(&self) -> Records {
        Records::new(self.metrics(), self.losses())
    }

    /// Writes the weights of `net` after `epoch` in each of [`WEIGHTS`], with how they came about in the metadata.
    pub(crate) fn write_weights(
        &self,
        net: &Net,
        settings: &Settings,
        epoch: Option<&EpochRecord>,
        knowledge: &Knowledge,
    ) -> Result<()> {
        let mut metadata = knowledge.to_metadata()?;
        metadata.insert(weights::CONFIG.into(), settings.to_toml());
        if let Some(EpochRecord { epoch, measured, .. }) = epoch {
            metadata.insert("epochs".into(), (epoch + 1).to_string());
            metadata.insert(format!("{}_loss", measured.part), measured.loss.to_string());
            metadata.insert(format!("{}_accuracy", measured.part), measured.accuracy.to_string());
            metadata.insert("correct".into(), measured.correct.to_string());
        }
        // Once for all formats, and from a GPU in few transfers.
        let (keys, tensors): (Vec<_>, Vec<_>) = net.state_dict().0.into_iter().unzip();
        let tensors = to_host(&tensors.iter().collect::<Vec<_>>())?;
        let state_dict = StateDict(keys.into_iter().zip(tensors).collect());
        for ending in WEIGHTS {
            weights::write(&self.weights(ending), &state_dict, net.architecture(), &metadata)?;
        }
        Ok(())
    }

    /// Reads the files of a run that has finished an epoch.
    ///
    /// # Errors
    ///
    /// One sentence that names the file that is missing or damaged.
    pub(crate) fn read(path: &Path) -> Result<RunFiles> {
        let folder = RunFolder::at(path);
        let place = path.display();
        ensure!(path.exists(), "{place} is not the folder of a run: it does not exist");
        ensure!(path.is_dir(), "{place} is not the folder of a run but a file: name the folder that it is in");
        let metrics = folder.metrics();
        ensure!(
            metrics.exists(),
            "{place} is not the folder of a run that has finished an epoch: it holds no {}",
            metrics.file_name().unwrap_or_default().display()
        );
        let text = fs::read_to_string(&metrics).with_context(|| format!("{} cannot be read", metrics.display()))?;
        let (epochs, done) = metrics::read(&text).with_context(|| format!("{} is damaged", metrics.display()))?;
        ensure!(!epochs.is_empty(), "{} holds no epoch: there is nothing to show yet", metrics.display());
        let settings = Settings::resolve(Some(&folder.config()), &Given::default())
            .with_context(|| format!("{place} is not the folder of a run"))?;
        let losses = folder.losses();
        let cannot = || format!("{} cannot be read", losses.display());
        let mut text = fs::read(&losses).with_context(cannot)?;
        // A last line without its end is half-written: the process was killed, or is just writing it.
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        let steps = csv::Reader::from_reader(&text[..]).deserialize().collect::<Result<_, _>>().with_context(cannot)?;
        let environment = folder.read_environment()?;
        Ok(RunFiles { folder, settings, environment, epochs, done, steps })
    }

    /// `None` if the file does not exist.
    fn read_environment(&self) -> Result<Option<Environment>> {
        let path = self.environment();
        if !path.exists() {
            return Ok(None);
        }
        let read = || -> Result<_> { Ok(serde_json::from_str(&fs::read_to_string(&path)?)?) };
        read().with_context(|| format!("{} is damaged", path.display())).map(Some)
    }
}

/// The files of a run's folder, read back.
pub(crate) struct RunFiles {
    pub(crate) folder: RunFolder,
    pub(crate) settings: Settings,
    pub(crate) environment: Option<Environment>,
    /// At least one.
    pub(crate) epochs: Vec<EpochRecord>,
    /// How the run ended, if it has.
    pub(crate) done: Option<Done>,
    pub(crate) steps: Vec<StepRecord>,
}

impl RunFiles {
    /// The net with the weights that the run saved, or would have saved at its last checkpoint if it has not ended.
    /// `draw` makes a net of an architecture.
    pub(crate) fn net(&self, draw: impl Fn(&Architecture) -> Net) -> Result<Net> {
        let model = self.folder.weights(WEIGHTS_TO_READ);
        // A run that goes on again leaves the model of its earlier end, which is older than its checkpoint.
        if self.done.as_ref().is_some_and(|done| done.status.is_finished()) && model.exists() {
            let dropout = self.settings.training.net.dropout;
            let file = WeightsFile::open(&model)?;
            let net = draw(&file.architecture(None, dropout)?.unwrap_or_else(|| Architecture::original(dropout)));
            file.load(None, &net)?;
            return Ok(net);
        }
        let checkpoint = Checkpoint::read(&self.folder.checkpoint())?;
        let net = draw(&checkpoint.architecture()?);
        checkpoint.load(&net)?;
        Ok(net)
    }

    /// What the epochs were measured on: the test set, or the images that were held out.
    pub(crate) fn part(&self) -> Part {
        self.kept().measured.part
    }

    /// The epoch whose weights are saved.
    pub(crate) fn kept(&self) -> &EpochRecord {
        kept(&self.epochs, &self.settings.run).expect("there is at least one epoch")
    }

    /// Whether it was trained on a GPU.
    pub(crate) fn is_on_gpu(&self) -> bool {
        self.environment.as_ref().is_some_and(|environment| environment.device != "cpu")
    }

    /// How long the epochs took, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.epochs.iter().map(|epoch| epoch.seconds).sum()
    }
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, |path| Ok(fs::write(path, text)?))
}

/// Makes a folder and those above it. Returns those that are new, from the inside out.
fn make(path: &Path) -> io::Result<Vec<PathBuf>> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing = path.ancestors().filter(is_missing).map(Path::to_path_buf).collect();
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::create_dir(path) {
        // Some file systems have another error than AlreadyExists.
        Err(_) if path.is_dir() => Ok(Vec::new()),
        made => made.map(|()| missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_overwrites_no_file_that_it_did_not_write() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::at(folder.path());
        run.write_settings(&Settings::from_flags(["--recipe=best", "--epochs=3", "--dropout=0.1"]).unwrap()).unwrap();
        fs::write(run.log(), "killed before its first checkpoint").unwrap();
        run.check_unused().unwrap();
        run.check_not_begun().unwrap();

        let own = fs::read_to_string(run.config()).unwrap();
        let names =
            ["losses.csv", "report.html", "model.pth", "model.onnx", "environment.json", "plots", "config.toml"];
        for name in names {
            let file = folder.path().join(name);
            fs::write(&file, if name == "config.toml" { format!("# mine\n{own}") } else { "mine".into() }).unwrap();
            let sentence = run.check_unused().unwrap_err().to_string();
            let expected = format!("holds {name}, which the run would overwrite: choose another folder");
            assert!(sentence.ends_with(&expected), "{sentence}");
            assert!(run.check_not_begun().is_err(), "{name}");
            fs::remove_file(file).unwrap();
        }
    }

    #[test]
    fn a_resume_is_offered_where_there_is_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::at(folder.path());
        let refused = || run.check_unused().unwrap_err().to_string();
        fs::write(run.metrics(), "").unwrap();
        assert!(refused().ends_with("already holds a run (metrics.jsonl): choose another folder"), "{}", refused());
        fs::write(run.checkpoint(), "").unwrap();
        assert!(refused().contains("choose another folder, or resume it with --resume "), "{}", refused());
    }
}
