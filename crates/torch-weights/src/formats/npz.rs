//! NumPy's `.npz`: a zip archive with one `.npy` file per array.

use crate::archive::{Archive, stored};
use crate::array::gathered;
use crate::contents::Entry;
use crate::npy::{self, ENDING as NPY, MAGIC};
use crate::{Array, Contents, Dtype, Format, Input, MAX_BYTES, Room};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use zip::ZipWriter;

/// The header of a `.npy` file ends at a multiple of this, so that the numbers are aligned.
const ALIGNMENT: usize = 64;

/// The bytes that a zip archive's comment has room for.
const MAX_COMMENT: usize = u16::MAX as usize;

/// The arrays of a state_dict, for NumPy.
pub(crate) const FORMAT: Format = Format {
    title: "NumPy arrays",
    endings: &["npz"],
    written_by: "`numpy.savez`, tch's tools",
    purpose: "NumPy",
    opens_with: "numpy.load(file)",
    keeps: "the state_dict; the net's layers in the comment of the archive, and nothing else",
    layers: false,
    batch_counts: true,
    metadata: Room::Comment,
    recognises: |bytes| {
        let names = Archive::flat(bytes).map_or_else(|_| Vec::new(), |archive| archive.names());
        names.iter().any(|name| name.ends_with(NPY))
    },
    read,
    write: Some(write),
};

fn read(input: &Input) -> Result<Contents> {
    let mut archive = Archive::flat(input.bytes)?;
    let (mut entries, mut left) = (Vec::new(), MAX_BYTES);
    for name in archive.names() {
        let Some(key) = name.strip_suffix(NPY) else { continue };
        let file = archive.record(&name, left)?;
        left -= file.len() as u64;
        entries.push((key.to_string(), Entry::from(parse(&file))));
    }
    let metadata = serde_json::from_slice(archive.comment()).unwrap_or_default();
    Ok(Contents { metadata, ..Contents::of_entries(entries) })
}

fn write(arrays: &[(String, Array)], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (key, array) in arrays {
        zip.start_file(format!("{key}{NPY}"), stored())?;
        zip.write_all(&header(array)?)?;
        zip.write_all(array.bytes())?;
    }
    // NumPy would list a record of metadata among the arrays.
    let comment = serde_json::to_vec(metadata)?;
    ensure!(
        comment.len() <= MAX_COMMENT,
        "the texts beside the arrays take {} bytes, and an .npz file has room for {MAX_COMMENT}: use .safetensors",
        comment.len()
    );
    zip.set_raw_comment(comment.into())?;
    Ok(zip.finish()?.into_inner())
}

/// The header of a `.npy` file of version 1.0.
fn header(array: &Array) -> Result<Vec<u8>> {
    let descr = DTYPES.iter().find(|(_, dtype)| *dtype == array.dtype()).context("NumPy has no such type")?.0;
    let shape: String = array.shape().iter().map(|size| format!("{size}, ")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    let before = MAGIC.len() + 4;
    // A newline ends the padding.
    let length = (before + text.len() + 1).next_multiple_of(ALIGNMENT) - before;
    text.extend(std::iter::repeat_n(' ', length - text.len() - 1));
    text.push('\n');
    Ok([MAGIC, &[1, 0], &(length as u16).to_le_bytes(), text.as_bytes()].concat())
}

/// NumPy's names of types, as a header has them.
const DTYPES: [(&str, Dtype); 9] = [
    ("<f4", Dtype::F32),
    ("<i8", Dtype::I64),
    ("<f8", Dtype::F64),
    ("<f2", Dtype::F16),
    ("<i4", Dtype::I32),
    ("<i2", Dtype::I16),
    ("|i1", Dtype::I8),
    ("|u1", Dtype::U8),
    ("|b1", Dtype::Bool),
];

/// The array in a `.npy` file.
fn parse(bytes: &[u8]) -> Result<Array> {
    let array = npy::Array::parse(bytes)?;
    let found = DTYPES.iter().find(|(name, _)| name.trim_start_matches(['<', '|']) == array.dtype);
    let unknown = || format!("its numbers have a type ({}) that is not read", array.dtype.escape_debug());
    let dtype = found.with_context(unknown)?.1;
    let read = Array::new(dtype, array.shape.clone(), array.data.to_vec())?;
    if !array.fortran_order {
        return Ok(read);
    }
    // The first index is the fastest.
    let strides: Vec<usize> = (0..array.shape.len()).map(|axis| array.shape[..axis].iter().product()).collect();
    Array::new(dtype, array.shape.clone(), gathered(array.data, dtype.size(), 0, &array.shape, &strides))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A `.npy` file of floats.
    fn file(order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': {shape}");
        [MAGIC, &[1, 0], &(text.len() as u16).to_le_bytes(), text.as_bytes(), data].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let floats = Array::new(Dtype::F32, vec![2, 3], (0..24).collect()).unwrap();
        let scalar = Array::new(Dtype::I64, vec![], 7i64.to_le_bytes().to_vec()).unwrap();
        for array in [floats, scalar] {
            let header = header(&array).unwrap();
            assert!(header.len().is_multiple_of(ALIGNMENT));
            assert_eq!(parse(&[&header, array.bytes()].concat()).unwrap(), array);
        }
    }

    #[test]
    fn fortran_order_is_the_transpose() {
        let numbers = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        let read = parse(&file("True", "(2, 3), }", &numbers(&[0., 1., 2., 3., 4., 5.]))).unwrap();
        assert_eq!((read.shape(), read.bytes()), (&[2, 3][..], &numbers(&[0., 2., 4., 1., 3., 5.])[..]));
    }

    #[test]
    fn texts_that_do_not_fit_into_the_comment_are_a_sentence() {
        let texts = BTreeMap::from([("net".to_string(), "x".repeat(70_000))]);
        let error = write(&[], &texts).unwrap_err().to_string();
        assert!(error.contains("70010 bytes, and an .npz file has room for 65535"), "{error}");
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(shape in "[{}'(),:<|a-z0-9 -]{0,80}", numbers in prop::collection::vec(any::<u8>(), 0..64)) {
            for order in ["False", "True"] {
                if let Ok(array) = parse(&file(order, &format!("({shape}"), &numbers)) {
                    prop_assert_eq!(array.bytes().len(), numbers.len());
                }
            }
        }
    }
}
