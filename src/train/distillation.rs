//! Knowledge distillation: a net learns from what others, its teachers, say of each training image (Hinton, Vinyals and
//! Dean, "Distilling the Knowledge in a Neural Network", 2015).
//!
//! Teachers are asked once, before the first step. To ask them at each step about the image as it is augmented then
//! makes a step four times as long, and the net was not better for it: see `docs/recipe.md`.

use super::augmentations;
use crate::data::Split;
use crate::memory::in_smaller_batches;
use crate::model::Net;
use crate::settings::Settings;
use crate::shape::CLASSES;
use anyhow::Result;
use tch::{Kind, Reduction, Tensor};

/// Of how many random views of an image the teachers' answers are averaged, if images are augmented.
const VIEWS: i64 = 4;

/// How many images teachers are asked about at once.
const AT_ONCE: i64 = 500;

/// The soft targets of all images of `split`: the probability of each class at `--temperature`, float32 [N, 10], the
/// mean over `teachers` and over views of the image. Views are drawn from the device's default generator.
pub(super) fn soft_targets(teachers: &[Net], split: &Split, settings: &Settings) -> Result<Tensor> {
    let (count, images) = (teachers.len(), split.len());
    tracing::info!("asking {count} teacher{} about {images} images", if count == 1 { "" } else { "s" });
    let (sum, _) = in_smaller_batches("asking teachers", AT_ONCE, |at_once| ask(teachers, split, settings, at_once))?;
    Ok(sum)
}

/// [`soft_targets`], asking about `at_once` images at a time.
fn ask(teachers: &[Net], split: &Split, settings: &Settings, at_once: i64) -> Result<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let transforms = augmentations::transforms(&settings.augmentation, split.device())?;
    let views = if transforms.is_empty() { 1 } else { VIEWS };
    let sum = Tensor::f_zeros([split.len(), CLASSES as i64], (Kind::Float, split.device()))?;
    for _ in 0..views {
        for (indices, mut its_sum) in split.batches(at_once)?.iter().zip(sum.f_split(at_once, 0)?) {
            let images = augmentations::apply(&transforms, split.batch(indices)?.0)?;
            for teacher in teachers {
                let log_probabilities = teacher.forward_t(&images, false);
                let _ = its_sum.f_add_(&at_temperature(&log_probabilities, settings)?.f_exp()?)?;
            }
        }
    }
    Ok(sum.f_div_scalar(views * teachers.len() as i64)?)
}

/// The mean over a batch of the Kullback-Leibler divergence of the net's probabilities from `soft_targets`, both at
/// `--temperature` T, times T^2: its gradients are then about as large at any T, as the paper explains.
pub(super) fn loss(log_probabilities: &Tensor, soft_targets: &Tensor, settings: &Settings) -> Result<Tensor> {
    let divergence = at_temperature(log_probabilities, settings)?.f_kl_div(soft_targets, Reduction::Sum, false)?;
    let images = soft_targets.size()[0] as f64;
    Ok(divergence.f_mul_scalar(settings.distillation.temperature.powi(2) / images)?)
}

/// `log_softmax(logits / T)`. Log-probabilities differ from logits by a number per image, which does not matter here.
fn at_temperature(log_probabilities: &Tensor, settings: &Settings) -> Result<Tensor> {
    Ok(log_probabilities.f_div_scalar(settings.distillation.temperature)?.f_log_softmax(1, Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Data, Dataset};
    use crate::model::{Architecture, Kernels};
    use tch::Device;

    #[test]
    fn soft_targets_are_the_mean_of_what_teachers_say_of_random_views() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let split = Data::load(&folder, Dataset::Mnist, Device::Cpu, 600, 1).unwrap().train;
        let net = || Net::new(Device::Cpu, &Architecture::original(0.0), Kernels::Torch);
        let teachers = [net(), net()];
        let ask = |teachers: &[Net], flags: &[&str]| {
            soft_targets(teachers, &split, &Settings::from_flags(flags).unwrap()).unwrap()
        };
        // At a low temperature, because untrained nets say much the same of every image. Without augmentation all
        // views are the same.
        let [one, other] = [0, 1].map(|k| ask(&teachers[k..=k], &["--temperature=0.1", "--teacher=a"]));
        let both = ask(&teachers, &["--temperature=0.1", "--teacher=a"]);
        assert!((&both - (&one + &other) / 2).abs().max().double_value(&[]) < 1e-6);
        let images = split.batch(&Tensor::arange(600, (Kind::Int64, Device::Cpu))).unwrap().0;
        let expected = (teachers[0].forward_t(&images, false) / 0.1).softmax(1, Kind::Float);
        assert!((&one - expected).abs().max().double_value(&[]) < 1e-5);
        // Views that differ give other answers, which are probabilities all the same.
        let augmented = ask(&teachers, &["--temperature=0.1", "--teacher=a", "--rotate=90"]);
        assert!((augmented.sum_dim_intlist(1, false, Kind::Float) - 1.0).abs().max().double_value(&[]) < 1e-5);
        assert!((augmented - both).abs().max().double_value(&[]) > 1e-4);
    }
}
