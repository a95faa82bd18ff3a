//! NumPy's `.npy` files: the header, and where the numbers begin.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use anyhow::{Context, Result, bail, ensure};

/// The first bytes of a `.npy` file, before its version.
pub const MAGIC: &[u8] = b"\x93NUMPY";

/// The ending of an array's file, in an `.npz` archive too.
pub const ENDING: &str = ".npy";

/// The most dimensions that are read.
const MAX_DIMENSIONS: usize = 8;

/// An array as the file has it.
#[derive(Debug)]
pub struct Array<'a> {
    /// NumPy's name of the numbers' type without its byte order, such as `f4` or `u1`; always little-endian.
    pub dtype: String,
    /// Whether the first index, not the last, is the fastest.
    pub fortran_order: bool,
    /// Its sizes; none for a scalar.
    pub shape: Vec<usize>,
    /// The numbers. Their count is not checked.
    pub data: &'a [u8],
}

impl<'a> Array<'a> {
    /// Reads the header at the beginning of `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Array<'a>> {
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
        Array::of(header, data)
    }

    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (16, 1, 3, 3), }`, its keys in any order.
    fn of(header: &str, data: &'a [u8]) -> Result<Array<'a>> {
        let value = |key: &str| -> Result<&str> {
            let (_, rest) =
                header.split_once(&format!("'{key}':")).with_context(|| format!("its .npy header has no {key}"))?;
            Ok(rest.trim_start())
        };
        let descr = value("descr")?.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
        let descr = descr.context("its dtype is structured, which is not read: save one of its fields")?;
        ensure!(
            !descr.starts_with('>'),
            "its numbers are big-endian ({}), which is not read: save array.astype('{}')",
            descr.escape_debug(),
            descr[1..].escape_debug()
        );
        let shape = value("shape")?.strip_prefix('(').and_then(|rest| rest.split(')').next());
        let sizes = shape.context("its .npy header has no shape")?.split(',').map(str::trim);
        let shape: Result<Vec<usize>, _> = sizes.filter(|size| !size.is_empty()).map(str::parse).collect();
        let shape = shape.context("its .npy header has no shape")?;
        ensure!(shape.len() <= MAX_DIMENSIONS, "it has {} dimensions", shape.len());
        Ok(Array {
            dtype: descr.trim_start_matches(['<', '|', '=']).to_string(),
            fortran_order: value("fortran_order")?.starts_with("True"),
            shape,
            data,
        })
    }
}
