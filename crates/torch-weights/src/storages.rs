//! The tensors of a pickle: views of storages, blocks of memory that lie beside the pickle in the file.

use crate::MAX_BYTES;
use crate::array::gathered;
use crate::pickle::{Storage, TensorView};
use crate::{Array, Dtype};
use anyhow::{Result, anyhow, ensure};
use std::collections::HashMap;

/// The most memory that a file's storages and the tensors made of them may take together: views that repeat one storage
/// can claim any size.
const MAX_TENSOR_BYTES: u64 = 2 * MAX_BYTES;

/// Where the bytes of a storage are.
pub(crate) trait Source {
    /// The bytes of the storage with this key.
    fn storage(&mut self, key: &str) -> Result<Vec<u8>>;
}

/// The storages of a file, read when a tensor first needs them.
pub(crate) struct Storages<'a, S> {
    source: S,
    big_endian: bool,
    /// By class and key; why it cannot be read is kept too, for many tensors may view it.
    read: HashMap<(&'a str, &'a str), Result<Block, String>>,
    /// The bytes of all storages and tensors so far.
    bytes: u64,
}

/// A storage that was read, little-endian.
struct Block {
    numel: i64,
    bytes: Vec<u8>,
}

impl<'a, S: Source> Storages<'a, S> {
    pub(crate) fn new(source: S, big_endian: bool) -> Storages<'a, S> {
        Storages { source, big_endian, read: HashMap::new(), bytes: 0 }
    }

    /// Whether the limit of memory is reached: then the file is refused, not only one tensor.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.bytes > MAX_TENSOR_BYTES
    }

    /// The tensor that `view` describes, with memory of its own.
    pub(crate) fn tensor(&mut self, view: &TensorView<'a>) -> Result<Array> {
        let dtype = view.storage.dtype()?;
        let key = (view.storage.class, view.storage.key);
        if !self.read.contains_key(&key) {
            let block = self.block(view.storage, dtype).map_err(|error| format!("{error:#}"));
            self.read.insert(key, block);
            self.count(0)?;
        }
        // Checked before anything is allocated: a view may claim more elements than its storage has, or repeat them.
        let numel = numel_within(view);
        self.count(numel.unwrap_or(0).saturating_mul(dtype.size() as u64))?;
        let block = self.read[&key].as_ref().map_err(|error| anyhow!(error.clone()))?;
        ensure!(block.numel == view.storage.numel, "its storage is described in two ways");
        ensure!(numel.is_some(), "it reaches beyond its storage");
        // None is negative: the view is within its storage.
        let unsigned = |sizes: &[i64]| sizes.iter().map(|&size| size as usize).collect::<Vec<_>>();
        let (shape, strides) = (unsigned(&view.size), unsigned(&view.stride));
        let bytes = gathered(&block.bytes, dtype.size(), view.offset as usize, &shape, &strides);
        Array::new(dtype, shape, bytes)
    }

    fn block(&mut self, storage: Storage<'a>, dtype: Dtype) -> Result<Block> {
        let mut bytes = self.source.storage(storage.key)?;
        self.count(bytes.len() as u64)?;
        if self.big_endian {
            bytes.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
        }
        let expected = usize::try_from(storage.numel).ok().and_then(|numel| numel.checked_mul(dtype.size()));
        ensure!(
            expected == Some(bytes.len()),
            "its storage: {} bytes are not a tensor [{}] of {dtype}",
            bytes.len(),
            storage.numel
        );
        Ok(Block { numel: storage.numel, bytes })
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        ensure!(!self.is_exhausted(), "the tensors take more than {MAX_TENSOR_BYTES} bytes");
        Ok(())
    }
}

/// The number of elements of `view`, if it lies within its storage.
fn numel_within(view: &TensorView) -> Option<u64> {
    if view.size.len() != view.stride.len() {
        return None;
    }
    let numel = view.size.iter().try_fold(1u64, |numel, &size| numel.checked_mul(u64::try_from(size).ok()?))?;
    let storage = u64::try_from(view.storage.numel).ok()?;
    let mut last = u64::try_from(view.offset).ok()?;
    if numel == 0 {
        return (last <= storage).then_some(0);
    }
    for (&size, &stride) in view.size.iter().zip(&view.stride) {
        let reach = u64::try_from(size - 1).ok()?.checked_mul(u64::try_from(stride).ok()?)?;
        last = last.checked_add(reach)?;
    }
    (last < storage).then_some(numel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_lies_within_its_storage_or_is_refused() {
        let numel = |numel, offset, size: &[i64], stride: &[i64]| {
            let storage = Storage { class: "FloatStorage", key: "0", numel };
            numel_within(&TensorView { storage, offset, size: size.to_vec(), stride: stride.to_vec() })
        };
        assert_eq!(numel(6, 0, &[2, 3], &[3, 1]), Some(6));
        assert_eq!(numel(6, 0, &[3, 2], &[1, 3]), Some(6));
        assert_eq!(numel(6, 1, &[2, 3], &[3, 1]), None);
        assert_eq!(numel(1, 0, &[], &[]), Some(1));
        assert_eq!(numel(0, 0, &[], &[]), None);
        assert_eq!(numel(0, 0, &[0, 5], &[5, 1]), Some(0));
        assert_eq!(numel(1, 0, &[1 << 40], &[0]), Some(1 << 40));
        assert_eq!(numel(6, 0, &[1 << 40, 1 << 40], &[0, 0]), None);
        assert_eq!(numel(6, 0, &[2, 3], &[i64::MAX, 1]), None);
        assert_eq!(numel(6, 5, &[2], &[-1]), None);
        assert_eq!(numel(6, -1, &[2], &[1]), None);
        assert_eq!(numel(6, 0, &[-2], &[1]), None);
        assert_eq!(numel(6, 0, &[2, 3], &[1]), None);
    }

    /// A storage that cannot be read, and how often it was tried.
    struct Damaged<'a>(&'a std::cell::Cell<usize>);

    impl Source for Damaged<'_> {
        fn storage(&mut self, _: &str) -> Result<Vec<u8>> {
            self.0.set(self.0.get() + 1);
            Err(anyhow!("it is damaged"))
        }
    }

    #[test]
    fn a_storage_that_cannot_be_read_is_tried_once() {
        let tries = std::cell::Cell::new(0);
        let mut storages = Storages::new(Damaged(&tries), false);
        let storage = Storage { class: "FloatStorage", key: "0", numel: 1 };
        let view = TensorView { storage, offset: 0, size: vec![1], stride: vec![1] };
        for _ in 0..1000 {
            assert_eq!(storages.tensor(&view).unwrap_err().to_string(), "it is damaged");
        }
        assert_eq!(tries.get(), 1);
    }
}
