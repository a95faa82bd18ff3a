//! NumPy's `.npz`: a zip archive with one `.npy` file per array.
//!
//! Format of `.npy`: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use super::archive::Archive;
use super::format::{Contents, Dict, Entry, Format, Weights};
use super::{MAX_BYTES, raw, tensor};
use anyhow::{Context, Result, bail, ensure};
use std::io::{Cursor, Write};
use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

const NPY: &str = ".npy";

/// The first bytes of a `.npy` file, before its version.
const MAGIC: &[u8] = b"\x93NUMPY";

/// The header of a `.npy` file ends at a multiple of this, so that the numbers are aligned.
const ALIGNMENT: usize = 64;

/// The arrays of a state_dict, for NumPy.
pub(super) struct Npz;

impl Format for Npz {
    fn name(&self) -> &'static str {
        "NumPy arrays"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["npz"]
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        let names = Archive::flat(bytes).map_or_else(|_| Vec::new(), |archive| archive.names());
        names.iter().any(|name| name.ends_with(NPY))
    }

    fn read(&self, bytes: &[u8]) -> Result<Contents> {
        let mut archive = Archive::flat(bytes)?;
        let (mut entries, mut left) = (Vec::new(), MAX_BYTES);
        for name in archive.names() {
            let Some(key) = name.strip_suffix(NPY) else { continue };
            let file = archive.record(&name, left)?;
            left -= file.len() as u64;
            let entry = match parse(&file) {
                Ok(tensor) => Entry::Tensor(tensor),
                Err(error) => Entry::Unreadable(format!("{error:#}")),
            };
            entries.push((key.to_string(), entry));
        }
        Ok(Contents { dicts: vec![Dict { path: String::new(), entries }], ..Contents::default() })
    }

    fn write(&self, weights: &Weights) -> Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        // Without a time: the bytes depend only on the weights.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let options = options.last_modified_time(DateTime::default());
        for (key, tensor) in &weights.state_dict.0 {
            zip.start_file(format!("{key}{NPY}"), options)?;
            zip.write_all(&header(tensor)?)?;
            zip.write_all(&raw(tensor)?)?;
        }
        Ok(zip.finish()?.into_inner())
    }
}

/// The header of a `.npy` file of version 1.0.
fn header(tensor: &Tensor) -> Result<Vec<u8>> {
    let descr = DTYPES.iter().find(|(_, kind)| *kind == tensor.kind()).context("NumPy has no such type")?.0;
    let shape: String = tensor.size().iter().map(|size| format!("{size}, ")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    let before = MAGIC.len() + 4;
    // A newline ends the padding.
    let length = (before + text.len() + 1).next_multiple_of(ALIGNMENT) - before;
    text.extend(std::iter::repeat_n(' ', length - text.len() - 1));
    text.push('\n');
    Ok([MAGIC, &[1, 0], &(length as u16).to_le_bytes(), text.as_bytes()].concat())
}

/// NumPy's names of types, as a header has them.
const DTYPES: [(&str, Kind); 9] = [
    ("<f4", Kind::Float),
    ("<i8", Kind::Int64),
    ("<f8", Kind::Double),
    ("<f2", Kind::Half),
    ("<i4", Kind::Int),
    ("<i2", Kind::Int16),
    ("|i1", Kind::Int8),
    ("|u1", Kind::Uint8),
    ("|b1", Kind::Bool),
];

/// The tensor in a `.npy` file.
fn parse(bytes: &[u8]) -> Result<Tensor> {
    let cut_short = "its .npy file is cut short";
    let rest = bytes.strip_prefix(MAGIC).context("it is not a .npy file")?;
    let (version, rest) = rest.split_at_checked(2).context(cut_short)?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().context(cut_short)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>().context(cut_short)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => bail!("its .npy file has the version {other}, which is not read"),
    };
    let (header, data) = rest.split_at_checked(length).context(cut_short)?;
    let header = std::str::from_utf8(header).context("its .npy header is not text")?;
    let Header { kind, fortran_order, mut shape } = Header::parse(header)?;
    if !fortran_order {
        return tensor(data, &shape, kind);
    }
    // The first index is the fastest: the transpose, read in C order.
    shape.reverse();
    let axes: Vec<i64> = (0..shape.len() as i64).rev().collect();
    Ok(tensor(data, &shape, kind)?.f_permute(axes)?.f_contiguous()?)
}

/// The dict in a `.npy` header.
struct Header {
    kind: Kind,
    fortran_order: bool,
    shape: Vec<i64>,
}

impl Header {
    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (16, 1, 3, 3), }`, its keys in any order.
    fn parse(text: &str) -> Result<Header> {
        let value = |key: &str| -> Result<&str> {
            let (_, rest) =
                text.split_once(&format!("'{key}':")).with_context(|| format!("its .npy header has no {key}"))?;
            Ok(rest.trim_start())
        };
        let descr = value("descr")?.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
        let descr = descr.context("its numbers have a type that is not read")?;
        let found = DTYPES.iter().find(|(name, _)| *name == descr || name.trim_start_matches(['<', '|']) == descr);
        let kind =
            found.with_context(|| format!("its numbers have a type ({}) that is not read", descr.escape_debug()))?.1;
        let fortran_order = value("fortran_order")?.starts_with("True");
        let shape = value("shape")?.strip_prefix('(').and_then(|rest| rest.split(')').next());
        let sizes = shape.context("its .npy header has no shape")?.split(',').map(str::trim);
        let shape: Result<Vec<i64>, _> = sizes.filter(|size| !size.is_empty()).map(str::parse).collect();
        let shape = shape.context("its .npy header has no shape")?;
        ensure!(shape.len() <= 8, "it has {} dimensions", shape.len());
        Ok(Header { kind, fortran_order, shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::Device;

    #[test]
    fn what_is_written_is_read() {
        for tensor in [Tensor::randn([2, 3], (Kind::Float, Device::Cpu)), Tensor::from(7i64)] {
            let file = [header(&tensor).unwrap(), raw(&tensor).unwrap()].concat();
            assert!((file.len() - raw(&tensor).unwrap().len()).is_multiple_of(ALIGNMENT));
            assert!(parse(&file).unwrap().equal(&tensor));
        }
    }

    #[test]
    fn fortran_order_is_the_transpose() {
        let text = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }";
        let mut file = [MAGIC, &[1, 0], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
        file.extend((0..6).flat_map(|number| (number as f32).to_le_bytes()));
        let expected = Tensor::from_slice(&[0f32, 2., 4., 1., 3., 5.]).view([2, 3]);
        assert!(parse(&file).unwrap().equal(&expected));
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(text in "[{}'(),:<|a-z0-9 -]{0,80}", numbers in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({text}");
            let file = [MAGIC, &[1, 0], &(text.len() as u16).to_le_bytes(), text.as_bytes(), &numbers].concat();
            if let Ok(tensor) = parse(&file) {
                prop_assert_eq!(tensor.numel() * 4, numbers.len());
            }
        }
    }
}
