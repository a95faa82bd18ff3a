//! An exponential moving average of a net over its steps.
//!
//! `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)` and `use_buffers=True` keeps the same, with
//! two differences: the first steps ([`Average::update`]), and `num_batches_tracked`, which is a count and is copied.

use crate::libtorch::foreach;
use crate::model::Net;
use anyhow::Result;
use tch::{Kind, Tensor};

/// The average, a net of its own.
pub(crate) struct Average {
    net: Net,
    decay: f64,
    /// The float32 tensors of the average's state_dict, and in the same order those of the net's.
    averages: [Vec<Tensor>; 2],
    /// The same for counts.
    counts: [Vec<Tensor>; 2],
    /// The number of updates, a float32 scalar in device memory.
    updates: Tensor,
}

impl Average {
    /// The average of `net` as it is now.
    pub(crate) fn of(net: &Net, decay: f64) -> Result<Average> {
        let average = net.copy()?;
        let of_kind = |is_count: bool| {
            [&average, net].map(|net| {
                let tensors = net.state_dict().0.into_iter().map(|(_, tensor)| tensor);
                tensors.filter(|tensor| (tensor.kind() == Kind::Int64) == is_count).collect()
            })
        };
        let [averages, counts] = [false, true].map(of_kind);
        let updates = Tensor::f_zeros([0i64; 0], (Kind::Float, net.device()))?;
        Ok(Average { net: average, decay, averages, counts, updates })
    }

    /// Updates the average with the net as it is after a step.
    ///
    /// After n updates the decay is min(decay, (1 + n) / (10 + n)), as in
    /// `tf.train.ExponentialMovingAverage(decay, num_updates)`: otherwise the average of a short run would still be
    /// near the weights that it began with. Nothing here comes from the host, so that a CUDA graph may hold it.
    pub(crate) fn update(&mut self) -> Result<()> {
        // 1 - (1 + n) / (10 + n) = 9 / (10 + n)
        let weight = self.updates.f_add_scalar(10.0)?.f_reciprocal()?.f_mul_scalar(9.0)?;
        let weight = weight.f_clamp_min(1.0 - self.decay)?;
        let [averages, values] = &self.averages;
        let changes = foreach::sub(values, averages)?;
        foreach::mul_(&changes, &weight)?;
        foreach::add_(averages, &changes)?;
        let [counts, values] = &self.counts;
        foreach::copy_(counts, values)?;
        let _ = self.updates.f_add_scalar_(1.0)?;
        Ok(())
    }

    /// The averaged net.
    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// The number of updates, a float32 scalar that shares the average's memory.
    pub(crate) fn updates(&self) -> Tensor {
        self.updates.shallow_clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Kernels};
    use tch::Device;

    #[test]
    fn an_average_is_the_sum_that_its_definition_makes() {
        let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
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

    #[test]
    fn an_average_begins_as_the_net() {
        let net = Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
        for ((name, one), (_, other)) in
            net.state_dict().0.into_iter().zip(Average::of(&net, 0.5).unwrap().net().state_dict().0)
        {
            assert!(one.equal(&other), "{name}");
        }
    }
}
