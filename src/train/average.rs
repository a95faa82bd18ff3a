//! An exponential moving average of a net over its steps: what `torch.optim.swa_utils.AveragedModel` keeps with
//! `get_ema_multi_avg_fn(decay)` and `use_buffers=True`, but for its first steps ([`Average::update`]) and for
//! `num_batches_tracked`, which is a count and is copied.

use crate::libtorch::ema;
use crate::model::Net;
use anyhow::Result;
use tch::{Kind, Tensor};

/// The average, a net of its own: weights and BatchNorm statistics are averages of the other's.
pub struct Average {
    net: Net,
    decay: f64,
    /// What is averaged, float32: the average's tensors and, in the same order, those of the net that is trained.
    averages: Vec<Tensor>,
    tensors: Vec<Tensor>,
    /// What is copied: the counts of BatchNorm's batches, of the average and of the net.
    counts: Vec<(Tensor, Tensor)>,
    /// How many updates there were, a float32 scalar in device memory, as all that an update reads.
    updates: Tensor,
}

impl Average {
    /// The average of `net` as it is now.
    ///
    /// # Errors
    ///
    /// When libtorch fails, as for want of memory.
    pub fn of(net: &Net, decay: f64) -> Result<Average> {
        let average = net.copy()?;
        let pairs = average.state_dict().0.into_iter().zip(net.state_dict().0);
        let pairs = pairs.map(|((_, average), (_, tensor))| (average, tensor));
        let (floats, counts): (Vec<_>, Vec<_>) = pairs.partition(|(average, _)| average.kind() == Kind::Float);
        let (averages, tensors) = floats.into_iter().unzip();
        let updates = Tensor::f_zeros([0i64; 0], (Kind::Float, net.device()))?;
        Ok(Average { net: average, decay, averages, tensors, counts, updates })
    }

    /// Takes the net as it is after a step into the average.
    ///
    /// The first updates count for more than 1 - decay, or a short run's average would be where it began: the decay is
    /// min(decay, (1 + n) / (10 + n)) after n updates, as in `tf.train.ExponentialMovingAverage(decay, num_updates)`.
    /// Nothing here comes from the host, so that a CUDA graph may hold it.
    ///
    /// # Errors
    ///
    /// When libtorch fails.
    pub fn update(&mut self) -> Result<()> {
        // 1 - (1 + n) / (10 + n) = 9 / (10 + n)
        let weight = self.updates.f_add_scalar(10.0)?.f_reciprocal()?.f_mul_scalar(9.0)?;
        let weight = weight.f_clamp_min(1.0 - self.decay)?;
        ema::update(&mut self.averages, &mut self.tensors, &weight)?;
        for (average, count) in &mut self.counts {
            average.f_copy_(count)?;
        }
        let _ = self.updates.f_add_scalar_(1.0)?;
        Ok(())
    }

    /// The average.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// How many updates there were, a float32 scalar.
    pub fn updates(&self) -> &Tensor {
        &self.updates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kernels;
    use tch::Device;

    #[test]
    fn an_average_is_the_sum_that_its_definition_makes() {
        let net = Net::new(Device::Cpu, 0.0, Kernels::Torch);
        let mut average = Average::of(&net, 0.5).unwrap();
        let (name, weight) = net.state_dict().0.swap_remove(0);
        let (running, tracked) = (net.state_dict().0[3].1.shallow_clone(), net.state_dict().0[5].1.shallow_clone());
        let mut expected = (weight.double_value(&[0, 0, 0, 0]), running.double_value(&[0]));
        for n in 0..12 {
            let _ = weight.shallow_clone().g_add_scalar_(1.0);
            let _ = (running.shallow_clone().g_add_scalar_(2.0), tracked.shallow_clone().g_add_scalar_(1));
            average.update().unwrap();
            let decay = 0.5f64.min((1.0 + f64::from(n)) / (10.0 + f64::from(n)));
            expected.0 = decay * expected.0 + (1.0 - decay) * weight.double_value(&[0, 0, 0, 0]);
            expected.1 = decay * expected.1 + (1.0 - decay) * running.double_value(&[0]);
        }
        let averaged = average.net().state_dict().0;
        assert_eq!(averaged[0].0, name);
        assert!((averaged[0].1.double_value(&[0, 0, 0, 0]) - expected.0).abs() < 1e-5);
        assert!((averaged[3].1.double_value(&[0]) - expected.1).abs() < 1e-5);
        assert_eq!(averaged[5].1.int64_value(&[]), 12);
    }
}
