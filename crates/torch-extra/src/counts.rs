//! Many counts at once, such as `num_batches_tracked` of all BatchNorms: on a GPU one kernel instead of one for each.

use super::foreach;
use anyhow::Result;
use tch::Tensor;

/// Adds 1 to each of the int64 scalars.
pub fn increment(counts: &[Tensor]) -> Result<()> {
    foreach::add_(counts, 1i64)
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
