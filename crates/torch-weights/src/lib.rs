#![doc = include_str!("../README.md")]
#![deny(missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

mod archive;
mod array;
mod contents;
mod dicts;
mod foreign;
mod format;
mod formats;
mod input;
pub mod npy;
mod pickle;
mod sets;
mod storages;
mod text;

use anyhow::{Context, Result, anyhow};
pub use archive::{stored, with_extra};
pub use array::{Array, Dtype};
pub use contents::{Contents, Dict, Entry};
pub use format::{Format, Room, Write};
pub use formats::{FORMATS, html, onnx, pt2, safetensors};
pub use input::{Input, locate, read_file};
use input::{beside, part_of_several};
pub use sets::{Set, distinct};
use std::path::Path;

/// The largest file that is read, in bytes: 10 million parameters with the two buffers of Adam, in double precision, take
/// 240 MB.
pub const MAX_BYTES: u64 = 256 << 20;

/// Reads the weights file `path`, and those beside it that belong to it; of a folder, the file by which its weights are
/// found ([`locate`]).
///
/// # Errors
///
/// One sentence on a file that is missing, damaged or of an unknown format.
pub fn open(path: &Path) -> Result<Contents> {
    let path = locate(path)?;
    let read = || -> Result<Contents> {
        let bytes = read_file(&path, MAX_BYTES)?;
        let contents = contents(&Input { bytes: &bytes, folder: path.parent() });
        let contents = contents.map_err(|error| match beside(&path) {
            Some(file) => anyhow!("it is the data of {}: name that file", file.display()),
            None => error,
        })?;
        Ok(Contents { hint: contents.hint.or_else(|| part_of_several(&path)), ..contents })
    };
    read().with_context(|| format!("{} cannot be read as weights", path.display()))
}

/// Reads the bytes of a weights file.
///
/// # Errors
///
/// One sentence on bytes that are damaged, of an unknown format, or need another file.
pub fn read(bytes: &[u8]) -> Result<Contents> {
    contents(&Input { bytes, folder: None })
}

fn contents(input: &Input) -> Result<Contents> {
    let format = Format::of(input.bytes)?;
    Ok(Contents { format: Some(format), ..(format.read)(input)? })
}
