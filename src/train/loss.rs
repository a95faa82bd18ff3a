//! The loss of a batch.

use super::distillation;
use super::feed::Batch;
use crate::settings::Settings;
use anyhow::Result;
use tch::{Reduction, Tensor};

/// The loss of `log_probabilities` [B, 10] for `batch`, a scalar: from the labels, and with `--teacher` from what the
/// teachers say.
pub(super) fn loss(log_probabilities: &Tensor, batch: &Batch, settings: &Settings) -> Result<Tensor> {
    let from_labels = nll(log_probabilities, &batch.labels, settings.training.label_smoothing)?;
    let Some(soft_targets) = &batch.soft_targets else { return Ok(from_labels) };
    let weight = settings.distillation.distillation_weight;
    let from_teachers = distillation::loss(log_probabilities, soft_targets, settings)?;
    Ok(from_labels.f_mul_scalar(1.0 - weight)?.f_add(&from_teachers.f_mul_scalar(weight)?)?)
}

/// `F.nll_loss`; with label smoothing, what `F.cross_entropy(label_smoothing=..)` computes of the same.
fn nll(log_probabilities: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let loss = log_probabilities.f_nll_loss::<Tensor>(labels, None, Reduction::Mean, -100)?;
    if label_smoothing == 0.0 {
        return Ok(loss);
    }
    let uniform = log_probabilities.f_mean(None)?.f_mul_scalar(label_smoothing)?;
    Ok(loss.f_mul_scalar(1.0 - label_smoothing)?.f_sub(&uniform)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn random(classes: i64) -> Tensor {
        Tensor::randn([8, classes], (Kind::Float, Device::Cpu))
    }

    fn labels() -> Tensor {
        Tensor::from_slice(&[3i64, 1, 4, 1, 5, 9, 2, 6])
    }

    #[test]
    fn label_smoothing_is_that_of_cross_entropy() {
        let logits = random(10);
        for label_smoothing in [0.0, 0.1] {
            let loss = nll(&logits.log_softmax(1, Kind::Float), &labels(), label_smoothing).unwrap();
            let expected = logits.cross_entropy_loss::<Tensor>(&labels(), None, Reduction::Mean, -100, label_smoothing);
            assert!((loss - expected).double_value(&[]).abs() < 1e-6);
        }
    }

    #[test]
    fn the_divergence_from_the_teachers_has_its_weight_and_is_zero_if_the_net_agrees_with_them() {
        let flags = ["--teacher=a.pth", "--temperature=3", "--distillation-weight=0.75"];
        let settings = Settings::from_flags(flags).unwrap();
        let [ours, theirs] = [random(10), random(10)];
        let [p, q] = [&theirs, &ours].map(|logits| (logits / 3.0).softmax(1, Kind::Double));
        let batch = Batch { images: random(1), labels: labels(), soft_targets: Some(p.to_kind(Kind::Float)) };
        let got = |logits: &Tensor| loss(&logits.log_softmax(1, Kind::Float), &batch, &settings).unwrap();
        let nll = |logits: &Tensor| nll(&logits.log_softmax(1, Kind::Float), &labels(), 0.0).unwrap();
        let divergence = (&p * (&p / q).log()).sum(Kind::Double) / 8.0;
        let expected = nll(&ours) * 0.25 + divergence * (9.0 * 0.75);
        assert!((got(&ours) - expected).double_value(&[]).abs() < 1e-5);
        assert!((got(&theirs) - nll(&theirs) * 0.25).double_value(&[]).abs() < 1e-5);
    }
}
