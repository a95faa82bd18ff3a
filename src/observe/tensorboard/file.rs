//! Event files: TFRecords of events. A record is its length (u64), a checksum of that, the event, a checksum of it.

use super::messages::{Event, SessionLog};
use super::now;
use crate::files::write_atomically;
use anyhow::{Context, Result};
use prost::Message;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How the names of the files begin, which is how TensorBoard knows them, and end, which is how this program knows
/// its own.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".tch-mnist";

/// An event file that is written to.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `folder` with `events`, and removes those that earlier processes wrote there.
    pub(super) fn begin(folder: &Path, events: Vec<Event>) -> Result<EventFile> {
        let earlier = find(folder)?;
        // TensorBoard reads the files in the order of their names, so the new one must come last.
        let least = earlier.last().map_or(0, |(second, _)| second + 1);
        let path = folder.join(format!("{PREFIX}{:010}{SUFFIX}", least.max(now() as u64)));
        let version = Event { wall_time: now(), file_version: Some("brain.Event:2".into()), ..Event::default() };
        // A TensorBoard that is watching drops what it has read of the earlier files.
        let start = Event { wall_time: now(), session_log: Some(SessionLog { status: 1 }), ..Event::default() };
        let records: Vec<u8> = [version, start].iter().chain(&events).flat_map(record).collect();
        write_atomically(&path, |path| Ok(fs::write(path, records)?))?;
        for (_, path) in earlier {
            fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
        let file = File::options().append(true).open(&path);
        Ok(EventFile { file: file.with_context(|| format!("{} cannot be written", path.display()))?, path })
    }

    /// Appends `events`.
    pub(super) fn append(&mut self, events: &[Event]) -> Result<()> {
        let records: Vec<u8> = events.iter().flat_map(record).collect();
        self.file.write_all(&records).with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

/// The events that an earlier process left in `folder`, up to the first that is damaged or cut off.
pub(super) fn read(folder: &Path) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    if let Some((_, path)) = find(folder)?.last() {
        let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut rest = &bytes[..];
        while let Some((event, behind)) = first(rest) {
            events.push(event);
            rest = behind;
        }
    }
    Ok(events)
}

/// This program's event files in `folder`, oldest first, with the second that their names tell.
fn find(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let second = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
        if let Some(second) = second.and_then(|second| second.parse().ok()) {
            found.push((second, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn record(event: &Event) -> Vec<u8> {
    let event = event.encode_to_vec();
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), &event, &checksum(&event)].concat()
}

/// The first event of `bytes`, and what is behind it.
fn first(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (length, rest) = bytes.split_at_checked(8)?;
    let (length_checksum, rest) = rest.split_at_checked(4)?;
    if length_checksum != checksum(length) {
        return None;
    }
    let length = u64::from_le_bytes(length.try_into().ok()?);
    let (event, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (event_checksum, rest) = rest.split_at_checked(4)?;
    if event_checksum != checksum(event) {
        return None;
    }
    Some((Event::decode(event).ok()?, rest))
}

/// TFRecord's masked CRC-32C.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(step: i64) -> Event {
        Event { wall_time: 1.0, step, ..Event::default() }
    }

    #[test]
    fn what_was_cut_off_is_left_out_and_one_file_remains() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::begin(folder.path(), vec![event(1)]).unwrap();
        file.append(&[event(2), event(3)]).unwrap();
        let whole = fs::read(&file.path).unwrap();
        fs::write(&file.path, &whole[..whole.len() - 3]).unwrap();
        let steps = |events: &[Event]| events[2..].iter().map(|event| event.step).collect::<Vec<_>>();
        let events = read(folder.path()).unwrap();
        assert_eq!(steps(&events), [1, 2]);

        let path = file.path.clone();
        let file = EventFile::begin(folder.path(), events[2..].to_vec()).unwrap();
        assert!(file.path > path && !path.exists());
        assert_eq!(steps(&read(folder.path()).unwrap()), [1, 2]);
    }

    #[test]
    fn a_damaged_record_ends_the_file() {
        let mut bytes = [record(&event(1)), record(&event(2))].concat();
        let last = bytes.len() - 6;
        bytes[last] ^= 1;
        let (_, rest) = first(&bytes).unwrap();
        assert!(first(rest).is_none());
        // A length that no memory could hold.
        assert!(first(&[&u64::MAX.to_le_bytes()[..], &checksum(&u64::MAX.to_le_bytes()), &[0; 9]].concat()).is_none());
    }
}
