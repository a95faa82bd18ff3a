//! NumPy's `.npz`: a zip archive with one `.npy` file per array.

use super::archive::{Archive, stored};
use super::format::{Contents, Dict, Entry, Format, Weights};
use super::{MAX_BYTES, NET, raw, tensor};
use crate::npy::{self, ENDING as NPY, MAGIC};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use tch::{Kind, Tensor};
use zip::ZipWriter;

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
        let metadata = serde_json::from_slice(archive.comment()).unwrap_or_default();
        Ok(Contents { dicts: vec![Dict { path: String::new(), entries }], metadata, hint: None })
    }

    fn write(&self, weights: &Weights) -> Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (key, tensor) in &weights.state_dict.0 {
            zip.start_file(format!("{key}{NPY}"), stored())?;
            zip.write_all(&header(tensor)?)?;
            zip.write_all(&raw(tensor)?)?;
        }
        // NumPy would list a record of metadata among the arrays. A zip archive's comment has room for 64 KB.
        let net: BTreeMap<_, _> = weights.metadata.get_key_value(NET).into_iter().collect();
        zip.set_raw_comment(serde_json::to_vec(&net)?.into())?;
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
    let array = npy::Array::parse(bytes)?;
    let found = DTYPES.iter().find(|(name, _)| name.trim_start_matches(['<', '|']) == array.dtype);
    let unknown = || format!("its numbers have a type ({}) that is not read", array.dtype.escape_debug());
    let kind = found.with_context(unknown)?.1;
    let mut shape = array.shape.iter().map(|&size| i64::try_from(size)).collect::<Result<Vec<_>, _>>()?;
    if !array.fortran_order {
        return tensor(array.data, &shape, kind);
    }
    // The first index is the fastest: the transpose, read in C order.
    shape.reverse();
    let axes: Vec<i64> = (0..shape.len() as i64).rev().collect();
    Ok(tensor(array.data, &shape, kind)?.f_permute(axes)?.f_contiguous()?)
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
