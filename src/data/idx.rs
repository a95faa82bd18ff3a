//! IDX files, read with suspicion: whatever a header claims, no more is allocated than the file holds.
//!
//! The format is described at <http://yann.lecun.com/exdb/mnist/>: big-endian 32-bit numbers (a magic number, the
//! count, and for images rows and columns), then one byte per pixel or label.

use crate::shape::{CLASSES, PIXELS, SIDE};
use flate2::bufread::GzDecoder;
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

/// One of the four files of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdxFile {
    /// The published name, without `.gz`.
    pub name: &'static str,
    /// What it holds.
    pub content: Content,
}

/// What an IDX file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Magic 2051, count, rows, columns; then 28x28 bytes per image.
    Images,
    /// Magic 2049, count; then one byte from 0 to 9 per label.
    Labels,
}

/// The four files: images and labels of the training split, then of the test split.
pub(crate) const FILES: [IdxFile; 4] = [
    IdxFile { name: "train-images-idx3-ubyte", content: Content::Images },
    IdxFile { name: "train-labels-idx1-ubyte", content: Content::Labels },
    IdxFile { name: "t10k-images-idx3-ubyte", content: Content::Images },
    IdxFile { name: "t10k-labels-idx1-ubyte", content: Content::Labels },
];

/// The most items a file may announce: it limits time, disk and memory. EMNIST, the largest set of this kind, has
/// 814,255.
pub(super) const MAX_COUNT: u64 = 1_000_000;

impl Content {
    fn magic(self) -> u32 {
        match self {
            Content::Images => 2051,
            Content::Labels => 2049,
        }
    }

    /// Bytes before the first item.
    pub(crate) fn header_length(self) -> usize {
        match self {
            Content::Images => 16,
            Content::Labels => 8,
        }
    }

    pub(super) fn item_length(self) -> u64 {
        match self {
            Content::Images => PIXELS as u64,
            Content::Labels => 1,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Content::Images => "images",
            Content::Labels => "labels",
        }
    }
}

/// What the IDX file that begins with `bytes` holds; `None` if it is another kind of file.
pub(super) fn magic(bytes: &[u8]) -> Option<Content> {
    let magic = u32::from_be_bytes(*bytes.first_chunk()?);
    [Content::Images, Content::Labels].into_iter().find(|content| content.magic() == magic)
}

/// Writes an IDX file of `items`: 784 bytes per image, or one per label.
pub(super) fn write(content: Content, items: &[u8], output: &mut impl Write) -> io::Result<()> {
    let count = (items.len() as u64 / content.item_length()) as u32;
    output.write_all(&content.magic().to_be_bytes())?;
    output.write_all(&count.to_be_bytes())?;
    if content == Content::Images {
        output.write_all(&(SIDE as u32).to_be_bytes())?;
        output.write_all(&(SIDE as u32).to_be_bytes())?;
    }
    output.write_all(items)
}

/// A valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// How many images or labels follow: 1 to [`MAX_COUNT`].
    pub count: u64,
    /// How long the whole file is then, in bytes.
    pub length: u64,
}

/// Why a file cannot be used, as the end of a sentence that begins with its name: `t10k-labels-idx1-ubyte is empty`.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Its bytes are wrong.
    Content(String),
    /// It cannot be read.
    Read(io::Error),
    /// Its copy cannot be written.
    Write(io::Error),
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Content(reason) => f.write_str(reason),
            Fault::Read(error) => write!(f, "cannot be read ({error})"),
            Fault::Write(error) => write!(f, "cannot be copied ({error})"),
        }
    }
}

impl std::error::Error for Fault {}

/// Reads an IDX header from the first bytes of a file; there may be too few.
///
/// # Errors
///
/// [`Fault::Content`] for a short header, a wrong magic number, no items or too many, images of another size.
pub(super) fn parse_header(content: Content, bytes: &[u8]) -> Result<Header, Fault> {
    let fault = |reason: String| Err(Fault::Content(reason));
    let number = |index: usize| {
        let bytes = bytes.get(4 * index..4 * index + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    if bytes.is_empty() {
        return fault("is empty".into());
    }
    let noun = content.noun();
    match number(0) {
        Some(magic) if magic == content.magic() => {}
        Some(2051) => return fault(format!("holds images where {noun} are expected")),
        Some(2049) => return fault(format!("holds labels where {noun} are expected")),
        Some(magic) => {
            return fault(format!("starts with {magic} where an IDX file of {noun} starts with {}", content.magic()));
        }
        // Too short even for a magic number: see below.
        None => {}
    }
    let expected = content.header_length();
    if bytes.len() < expected {
        return fault(format!("has {} bytes, fewer than the {expected} of its header", bytes.len()));
    }
    let count = u64::from(number(1).unwrap_or_default());
    if count == 0 {
        return fault(format!("declares no {noun}; at least one is expected"));
    }
    if count > MAX_COUNT {
        return fault(format!("declares {count} {noun}; at most {MAX_COUNT} are accepted"));
    }
    if content == Content::Images {
        let (rows, columns) = (number(2).unwrap_or_default(), number(3).unwrap_or_default());
        if (rows as usize, columns as usize) != (SIDE, SIDE) {
            return fault(format!("declares images of {rows}x{columns} pixels; {SIDE}x{SIDE} are expected"));
        }
    }
    // No overflow: 16 + 1,000,000 * 784 at most.
    Ok(Header { count, length: expected as u64 + count * content.item_length() })
}

/// Opens a file that should hold `content`, gzipped or not, and checks what is quick to check: that it is a regular
/// file, its header and, if it is not gzipped, its length.
pub(super) fn open(path: &Path, content: Content, gzipped: bool) -> Result<(File, Header), Fault> {
    // Before opening it: opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(Fault::Read)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "a device, pipe or socket" };
        return Err(Fault::Content(format!("is {what}, where a file is expected")));
    }
    if metadata.len() == 0 {
        return Err(Fault::Content("is empty".into()));
    }
    let file = File::open(path).map_err(Fault::Read)?;
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..content.header_length()];
    let header = if gzipped {
        let length = read_full(&mut Unpacked::new(&file), bytes).map_err(gzip_fault)?;
        parse_header(content, &bytes[..length])?
    } else {
        let length = read_full(&mut &file, bytes).map_err(Fault::Read)?;
        let header = parse_header(content, &bytes[..length])?;
        if metadata.len() != header.length {
            return Err(wrong_length(content, header, metadata.len()));
        }
        header
    };
    io::Seek::rewind(&mut &file).map_err(Fault::Read)?;
    Ok((file, header))
}

/// The facts about a file that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    /// SHA-256 of the IDX bytes, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of the gzipped bytes, if the file was gzipped.
    pub gzip_sha256: Option<String>,
    /// How many images or labels it holds.
    pub count: u64,
    /// Its length in bytes, unpacked.
    pub length: u64,
}

/// Reads an IDX file to its end, checks header, length and labels, and copies it to `output`.
///
/// Whatever `input` sends, it never writes more than the header declares, and holds only a small buffer in memory.
pub(super) fn copy_checked(mut input: impl Read, content: Content, output: &mut impl Write) -> Result<Digest, Fault> {
    let mut buffer = vec![0; 1 << 16];
    let header_length = content.header_length();
    let length = read_full(&mut input, &mut buffer[..header_length]).map_err(Fault::Read)?;
    let header = parse_header(content, &buffer[..length])?;
    let mut hash = Sha256::new();
    hash.update(&buffer[..header_length]);
    output.write_all(&buffer[..header_length]).map_err(Fault::Write)?;
    let mut done = header_length as u64;
    while done < header.length {
        let wanted = (header.length - done).min(buffer.len() as u64) as usize;
        let chunk = match input.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(wrong_length(content, header, done)),
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(wrong_length(content, header, done));
            }
            Err(error) => return Err(Fault::Read(error)),
        };
        if content == Content::Labels
            && let Some(wrong) = chunk.iter().position(|&label| usize::from(label) >= CLASSES)
        {
            let number = done - header_length as u64 + wrong as u64;
            return Err(Fault::Content(format!(
                "holds the label {} (number {number}, from 0); labels are 0 to {}",
                chunk[wrong],
                CLASSES - 1
            )));
        }
        hash.update(chunk);
        output.write_all(chunk).map_err(Fault::Write)?;
        done += chunk.len() as u64;
    }
    // There must be no more bytes. Asking for one also makes gzip check its own checksum.
    if read_full(&mut input, &mut buffer[..1]).map_err(Fault::Read)? != 0 {
        return Err(wrong_length(content, header, format!("more than {done}")));
    }
    Ok(Digest { sha256: hex(hash), gzip_sha256: None, count: header.count, length: header.length })
}

/// As [`copy_checked`], from gzipped bytes.
pub(super) fn unpack_checked(input: impl Read, content: Content, output: &mut impl Write) -> Result<Digest, Fault> {
    let mut packed = Hashing { input, hash: Sha256::new() };
    let digest = copy_checked(Unpacked::new(&mut packed), content, output).map_err(|fault| match fault {
        Fault::Read(error) => gzip_fault(error),
        fault => fault,
    })?;
    io::copy(&mut packed.by_ref().take(1 << 20), &mut io::sink()).map_err(Fault::Read)?;
    Ok(Digest { gzip_sha256: Some(hex(packed.hash)), ..digest })
}

/// How gzipped bytes begin.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Unpacks gzipped bytes as gzip does: all members, one after the other. What follows the last one is ignored.
pub(super) struct Unpacked<R>(Option<GzDecoder<BufReader<R>>>);

impl<R: Read> Unpacked<R> {
    pub(super) fn new(packed: R) -> Unpacked<R> {
        Unpacked(Some(GzDecoder::new(BufReader::new(packed))))
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let length = member.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let mut rest = self.0.take().expect("it was just read").into_inner();
            let next = rest.fill_buf()?;
            // There may be one byte only where the buffer ends.
            let is_member = !next.is_empty() && GZIP.starts_with(&next[..next.len().min(GZIP.len())]);
            self.0 = is_member.then(|| GzDecoder::new(rest));
        }
        Ok(0)
    }
}

/// Passes bytes on and hashes them.
struct Hashing<R> {
    input: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}

fn wrong_length(content: Content, header: Header, length: impl Display) -> Fault {
    Fault::Content(format!(
        "has {length} bytes; its header declares {} {}, so {} bytes are expected",
        header.count,
        content.noun(),
        header.length
    ))
}

/// flate2's errors about invalid gzip data are about the content, not about the disk.
fn gzip_fault(error: io::Error) -> Fault {
    match error.kind() {
        ErrorKind::UnexpectedEof => Fault::Content("ends in the middle of its gzipped data".into()),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            Fault::Content(format!("is not a valid gzip file ({error})"))
        }
        _ => Fault::Read(error),
    }
}

/// Fills `buffer` until it is full or the input ends.
fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// A checksum in hexadecimal.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
