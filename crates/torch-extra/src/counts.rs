//! Many counts at once, such as `num_batches_tracked` of all BatchNorms: on a GPU one kernel instead of one for each.

use super::{check, pointers};
use anyhow::Result;
use std::ffi::c_char;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn tm_counts_increment(counts: *const *const C_tensor, count: i64) -> *mut c_char;
}

/// Adds 1 to each of the int64 scalars.
pub fn increment(counts: &[Tensor]) -> Result<()> {
    let counts = pointers(counts);
    // SAFETY: the array holds `count` pointers to tensors that are borrowed for the call. They change, which tch counts
    // as interior mutability, as it does for an operation in place on a shallow clone.
    unsafe { check(tm_counts_increment(counts.as_ptr(), counts.len() as i64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_counts_rise_by_one() {
        let counts = [3i64, 1 << 40].map(Tensor::from);
        increment(&counts).unwrap();
        assert_eq!(counts.map(|count| count.int64_value(&[])), [4, (1 << 40) + 1]);
        increment(&[]).unwrap();
    }
}
