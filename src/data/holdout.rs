//! Images held out of the training set, so that settings can be chosen without a look at the test set.

use crate::libtorch::generator;
use crate::shape::CLASSES;
use anyhow::Result;

/// The indices to train on and the `count` indices to hold out, both ascending.
///
/// Each label gives its share (stratified), and `seed` chooses its images, with a generator of its own: the default
/// generator draws the same numbers as in a run that holds nothing out.
pub(super) fn split(labels: &[i64], count: i64, seed: i64) -> Result<(Vec<i64>, Vec<i64>)> {
    let mut wanted = quotas(labels, count);
    let mut is_held = vec![false; labels.len()];
    for index in Vec::<i64>::try_from(generator::randperm(labels.len() as i64, seed as u64)?)? {
        let wanted = &mut wanted[labels[index as usize] as usize];
        is_held[index as usize] = *wanted > 0;
        *wanted = (*wanted - 1).max(0);
    }
    let (held, train) = (0..labels.len() as i64).partition(|&index| is_held[index as usize]);
    Ok((train, held))
}

/// How many of the `count` images each label gives: its share rounded down, and one more for those with the largest
/// remainders (the lower label first), until there are `count`.
fn quotas(labels: &[i64], count: i64) -> Vec<i64> {
    let total = labels.len() as i64;
    let mut images = [0; CLASSES];
    for &label in labels {
        images[label as usize] += 1;
    }
    let mut quotas: Vec<i64> = images.iter().map(|images| images * count / total).collect();
    let mut by_remainder: Vec<usize> = (0..images.len()).collect();
    by_remainder.sort_by_key(|&label| -(images[label] * count % total));
    let missing = count - quotas.iter().sum::<i64>();
    for &label in &by_remainder[..missing as usize] {
        quotas[label] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(labels: &[i64], indices: &[i64]) -> Vec<i64> {
        (0..CLASSES as i64)
            .map(|label| indices.iter().filter(|&&i| labels[i as usize] == label).count() as i64)
            .collect()
    }

    #[test]
    fn each_label_gives_its_share_and_the_largest_remainders_give_one_more() {
        // 50, 30 and 20 images of 100; 7 held out: 3.5, 2.1 and 1.4.
        let labels: Vec<i64> = (0..100)
            .map(|i| {
                if i % 2 == 0 {
                    3
                } else if i % 10 < 6 {
                    0
                } else {
                    9
                }
            })
            .collect();
        assert_eq!(quotas(&labels, 7), [2, 0, 0, 4, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn the_seed_chooses_and_the_default_generator_is_left_alone() {
        let labels: Vec<i64> = (0..500).map(|i| i * i % 10).collect();
        let before = generator::state(tch::Device::Cpu).unwrap();
        let (train, held) = split(&labels, 100, 1).unwrap();
        assert_eq!(split(&labels, 100, 1).unwrap(), (train, held.clone()));
        assert_ne!(split(&labels, 100, 2).unwrap().1, held);
        assert!(before.equal(&generator::state(tch::Device::Cpu).unwrap()));
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole_and_stratified(
            labels in prop::collection::vec(0..CLASSES as i64, 2..400), share in 0.0..1.0f64, seed in 0i64..1000,
        ) {
            let total = labels.len() as i64;
            let count = (1 + (share * (total - 1) as f64) as i64).min(total - 1);
            let (train, held) = split(&labels, count, seed).unwrap();
            prop_assert_eq!(held.len() as i64, count);
            let mut all = [train, held.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(&all, &(0..total).collect::<Vec<_>>());
            for (given, images) in counts(&labels, &held).into_iter().zip(counts(&labels, &all)) {
                let exact = images as f64 * count as f64 / total as f64;
                prop_assert!((given as f64 - exact).abs() < 1.0, "{} of {} for {}", given, images, exact);
            }
        }
    }
}
