//! Products and decompositions of many small matrices, which a CPU's threads share: each of them is quicker on one thread,
//! and its bits do not depend on the number of threads. They record no gradients.

use super::{check, pointers};
use anyhow::{Result, ensure};
use std::borrow::Borrow;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_mm(
        lefts: *const *const C_tensor,
        rights: *const *const C_tensor,
        count: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn tm_eigenvectors(matrices: *const *const C_tensor, count: i64, out: *mut *mut C_tensor) -> *mut c_char;
    fn tm_orthogonalise(matrices: *const *const C_tensor, count: i64, out: *mut *mut C_tensor) -> *mut c_char;
}

/// `left @ right` for each pair.
pub fn mm(lefts: &[impl Borrow<Tensor>], rights: &[impl Borrow<Tensor>]) -> Result<Vec<Tensor>> {
    ensure!(lefts.len() == rights.len(), "{} and {} matrices are no pairs", lefts.len(), rights.len());
    let rights = pointers(rights.iter().map(Borrow::borrow));
    // SAFETY: the contract of `each`; `rights` is as long, and borrowed for the call.
    each(lefts, |matrices, count, out| unsafe { tm_mm(matrices, rights.as_ptr(), count, out) })
}

/// `torch.linalg.eigh(matrix).eigenvectors` for each symmetric matrix.
pub fn eigenvectors(matrices: &[impl Borrow<Tensor>]) -> Result<Vec<Tensor>> {
    // SAFETY: the contract of `each`.
    each(matrices, |matrices, count, out| unsafe { tm_eigenvectors(matrices, count, out) })
}

/// `torch.linalg.qr(matrix).Q` for each matrix.
pub fn orthogonalise(matrices: &[impl Borrow<Tensor>]) -> Result<Vec<Tensor>> {
    // SAFETY: the contract of `each`.
    each(matrices, |matrices, count, out| unsafe { tm_orthogonalise(matrices, count, out) })
}

/// Calls a C function that takes `count` matrices and, if it returns null, stores as many tensors made with `new`.
fn each(
    matrices: &[impl Borrow<Tensor>],
    call: impl FnOnce(*const *const C_tensor, i64, *mut *mut C_tensor) -> *mut c_char,
) -> Result<Vec<Tensor>> {
    if matrices.is_empty() {
        return Ok(Vec::new());
    }
    let pointers = pointers(matrices.iter().map(Borrow::borrow));
    let mut out = vec![std::ptr::null_mut(); pointers.len()];
    // SAFETY: the functions above return what `guarded` does, and store tensors made with `new`, which `from_ptr` takes
    // over.
    unsafe {
        check(call(pointers.as_ptr(), pointers.len() as i64, out.as_mut_ptr()))?;
        Ok(out.into_iter().map(|tensor| Tensor::from_ptr(tensor)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn matrices_are_multiplied_and_decomposed_one_by_one() {
        let options = (Kind::Double, Device::Cpu);
        let matrices = [2, 3].map(|n| Tensor::arange(n * n, options).view([n, n]).sin());
        let transposed = matrices.each_ref().map(|matrix| matrix.tr());
        let symmetric = mm(&transposed, &matrices).unwrap();
        for ((product, left), right) in symmetric.iter().zip(&transposed).zip(&matrices) {
            assert!(product.allclose(&left.matmul(right), 1e-12, 1e-12, false));
        }
        let bases = eigenvectors(&symmetric).unwrap().into_iter().chain(orthogonalise(&matrices).unwrap());
        for basis in bases {
            let unit = Tensor::eye(basis.size()[0], options);
            assert!(basis.tr().matmul(&basis).allclose(&unit, 1e-9, 1e-9, false));
        }
        assert!(mm(&matrices[..1], &matrices[1..]).is_err() && mm(&matrices, &matrices[1..]).is_err());
        assert!(eigenvectors(&Vec::<Tensor>::new()).unwrap().is_empty());
    }
}
