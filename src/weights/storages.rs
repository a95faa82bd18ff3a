//! The tensors of a pickle: views of storages, blocks of memory that lie beside the pickle in the file.

use super::pickle::{Storage, TensorView};
use super::{MAX_BYTES, tensor};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use tch::{Kind, Tensor};

/// The most memory that a file's storages and the tensors made of them may take together: views that repeat one storage
/// can claim any size.
const MAX_TENSOR_BYTES: u64 = 2 * MAX_BYTES;

/// Where the bytes of a storage are.
pub(super) trait Source {
    /// The bytes of the storage with this key.
    fn storage(&mut self, key: &str) -> Result<Vec<u8>>;
}

/// The storages of a file, read when a tensor first needs them.
pub(super) struct Storages<'a, S> {
    source: S,
    big_endian: bool,
    /// By class and key: the storage as a tensor [numel].
    read: HashMap<(&'a str, &'a str), Tensor>,
    /// The bytes of all storages and tensors so far.
    bytes: u64,
}

impl<'a, S: Source> Storages<'a, S> {
    pub(super) fn new(source: S, big_endian: bool) -> Storages<'a, S> {
        Storages { source, big_endian, read: HashMap::new(), bytes: 0 }
    }

    /// Whether the limit of memory is reached: then the file is refused, not only one tensor.
    pub(super) fn is_exhausted(&self) -> bool {
        self.bytes > MAX_TENSOR_BYTES
    }

    /// The tensor that `view` describes, with memory of its own.
    pub(super) fn tensor(&mut self, view: &TensorView<'a>) -> Result<Tensor> {
        let kind = view.storage.kind()?;
        let storage = self.storage(view.storage, kind)?;
        // Checked before anything is allocated: a view may claim more elements than its storage has, or repeat them.
        let numel = numel_within(view).context("it reaches beyond its storage")?;
        self.count(numel.saturating_mul(kind.elt_size_in_bytes() as u64))?;
        Ok(storage.f_as_strided(&view.size, &view.stride, view.offset)?.f_contiguous()?.f_detach_copy()?)
    }

    fn storage(&mut self, storage: Storage<'a>, kind: Kind) -> Result<Tensor> {
        let key = (storage.class, storage.key);
        if let Some(read) = self.read.get(&key) {
            ensure!(read.size() == [storage.numel], "its storage is described in two ways");
            return Ok(read.shallow_clone());
        }
        let mut bytes = self.source.storage(storage.key)?;
        self.count(bytes.len() as u64)?;
        if self.big_endian {
            bytes.chunks_exact_mut(kind.elt_size_in_bytes()).for_each(<[u8]>::reverse);
        }
        let read = tensor(&bytes, &[storage.numel], kind).context("its storage")?;
        self.read.insert(key, read.shallow_clone());
        Ok(read)
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        ensure!(self.bytes <= MAX_TENSOR_BYTES, "the tensors take more than {MAX_TENSOR_BYTES} bytes");
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
}
