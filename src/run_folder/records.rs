//! The files that grow with a run: `metrics.jsonl`, a line per epoch, and `losses.csv`, a line per step.

use super::metrics::{DONE, Done, EPOCH, line};
use super::write_text;
use crate::train::{EpochRecord, StepRecord};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

/// Writes both files.
pub(crate) struct Records {
    metrics: Lines,
    losses: Lines,
}

impl Records {
    pub(super) fn new(metrics: PathBuf, losses: PathBuf) -> Records {
        Records { metrics: Lines::new(metrics), losses: Lines::new(losses) }
    }

    /// Makes the files hold `epochs` and `steps`: adds those that this process has not written yet. What another process
    /// left there is replaced, so that a resumed run has no gap and no line twice.
    pub(crate) fn write(&mut self, epochs: &[EpochRecord], steps: &[StepRecord]) -> Result<()> {
        self.losses.update(steps.len(), |from| csv_text(&steps[from..], from == 0))?;
        self.metrics.update(epochs.len(), |from| json_text(&epochs[from..], None))
    }

    /// Writes the end of the run behind its `epochs`.
    pub(crate) fn end(&mut self, epochs: &[EpochRecord], done: &Done) -> Result<()> {
        self.metrics.update(epochs.len() + 1, |from| json_text(epochs.get(from..).unwrap_or_default(), Some(done)))
    }
}

/// A file of lines. It never ends in a half-written one.
struct Lines {
    path: PathBuf,
    /// The lines and the bytes that this process has written.
    lines: usize,
    bytes: u64,
}

impl Lines {
    fn new(path: PathBuf) -> Lines {
        Lines { path, lines: 0, bytes: 0 }
    }

    /// Makes the file `lines` lines long; `text_from` gives those from a number up. A file that is not as this process
    /// left it is written anew.
    fn update(&mut self, lines: usize, text_from: impl Fn(usize) -> Result<String>) -> Result<()> {
        let is_as_left = fs::metadata(&self.path).is_ok_and(|file| file.len() == self.bytes);
        match is_as_left && 0 < self.lines && self.lines <= lines {
            true => self.append(&text_from(self.lines)?)?,
            false => {
                let text = text_from(0)?;
                write_text(&self.path, &text)?;
                self.bytes = text.len() as u64;
            }
        }
        self.lines = lines;
        Ok(())
    }

    fn append(&mut self, text: &str) -> Result<()> {
        let cannot = || format!("{} cannot be written", self.path.display());
        let mut file = File::options().append(true).open(&self.path).with_context(cannot)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            // A full disk may have taken a part of the text.
            let _ = file.set_len(self.bytes);
        }
        written.with_context(cannot)?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

fn json_text(epochs: &[EpochRecord], done: Option<&Done>) -> Result<String> {
    let mut lines = epochs.iter().map(|epoch| line(EPOCH, epoch)).collect::<Result<Vec<_>>>()?;
    lines.extend(done.map(|done| line(DONE, done)).transpose()?);
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

fn csv_text(steps: &[StepRecord], with_header: bool) -> Result<String> {
    let mut writer = csv::WriterBuilder::new().has_headers(with_header).from_writer(Vec::new());
    steps.iter().try_for_each(|step| writer.serialize(step))?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(lines: usize) -> impl Fn(usize) -> Result<String> {
        move |from| Ok((from..lines).map(|n| format!("line {n}\n")).collect())
    }

    #[test]
    fn lines_are_added_and_what_others_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        fs::write(&path, "line 0\nof an earlier proc").unwrap();
        let mut file = Lines::new(path.clone());
        let read = || fs::read_to_string(&path).unwrap();
        file.update(2, numbered(2)).unwrap();
        assert_eq!(read(), numbered(2)(0).unwrap());
        // It is added to: the file stays the same one.
        let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
        let before = inode();
        file.update(5, numbered(5)).unwrap();
        assert_eq!((read(), inode()), (numbered(5)(0).unwrap(), before));
        // Somebody removed it, or wrote into it.
        fs::remove_file(&path).unwrap();
        file.update(6, numbered(6)).unwrap();
        assert_eq!(read(), numbered(6)(0).unwrap());
        fs::write(&path, "x").unwrap();
        file.update(7, numbered(7)).unwrap();
        assert_eq!(read(), numbered(7)(0).unwrap());
    }
}
