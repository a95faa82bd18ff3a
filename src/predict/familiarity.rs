//! Whether an image looks like those that the net was trained on.
//!
//! The highest probability does not tell: a letter A is a 4 with 99.9 %. The score here is the squared Mahalanobis
//! distance of the net's features to the nearest class, with one covariance for all classes
//! (Lee et al. 2018, <https://arxiv.org/abs/1807.03888>). The features are the mean and the standard deviation of each
//! channel after two stages of the net, and the channel means that the last layer gets. `docs/digits.md` has what was
//! measured.

use crate::data::Split;
use crate::memory::in_smaller_batches;
use crate::model::{Architecture, Net};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The stages whose channels count by mean and deviation, and the one whose channels count by mean alone, from the end
/// of the net; its last stage are the logits. In the original they are convblock4, 6 and 7. Earlier stages would mark
/// other people's handwriting too.
const STAGES: [usize; 2] = [5, 3];
const LAST: usize = 2;

/// A net whose stages have more features than this is judged by fewer stages, or not at all.
const MOST_FEATURES: i64 = 256;

/// Training images that are looked at, at most, evenly over the file: it may be sorted by class.
const IMAGES: i64 = 30_000;

/// Every third of them is held out from the means and the covariance, and the threshold is set on it.
const HELD_OUT: i64 = 3;

/// The share of the held-out images that the threshold marks.
const FALSE_ALARMS: f64 = 0.01;

/// Fewer images than this say too little about the covariance of 70 features.
const FEWEST: i64 = 500;

/// Added to the variances, as a share of their mean: a channel that never varies has none.
const RIDGE: f64 = 1e-6;

/// Images that go through the net together.
const BATCH: i64 = 250;

/// What images of the classes look like to the net.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Familiarity {
    /// The centre of each class in whitened features, double [C, F].
    centres: Matrix,
    /// What makes the features' covariance the identity, double [F, F].
    whitening: Matrix,
    /// Images with a higher score look like none of the classes.
    threshold: f64,
}

/// Numbers in rows, as they are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Matrix {
    columns: usize,
    /// float32, little-endian, in base64.
    numbers: String,
}

impl Familiarity {
    /// Measures it on the images of `train`; `None` if they are too few or the net has too many features.
    pub(crate) fn measure(net: &Net, train: &Split) -> Result<Option<Familiarity>> {
        let count = train.len().min(IMAGES);
        if count < FEWEST || places(net.architecture()).is_empty() {
            return Ok(None);
        }
        let spread = (0..count).map(|k| (k, k * train.len() / count));
        let (held_out, measured): (Vec<_>, Vec<_>) = spread.partition(|(k, _)| k % HELD_OUT == 0);
        let indices = |chosen: &[(i64, i64)]| Tensor::from_slice(&chosen.iter().map(|it| it.1).collect::<Vec<_>>());
        let (held_out, measured) = (indices(&held_out), indices(&measured));
        let labels = train.labels.f_to_device(Device::Cpu)?.f_index_select(0, &measured)?;
        let familiarity = Familiarity::fit(&features_of(net, train, &measured)?, &labels)?;
        let held_out = familiarity.scores_of(&features_of(net, train, &held_out)?)?;
        let threshold = f64::try_from(held_out.f_quantile_scalar(1.0 - FALSE_ALARMS, 0, false, "linear")?)?;
        ensure!(threshold.is_finite(), "the net's features are not finite");
        Ok(Some(Familiarity { threshold, ..familiarity }))
    }

    /// From features [N, F] and labels [N].
    fn fit(features: &Tensor, labels: &Tensor) -> Result<Familiarity> {
        let (mut centres, mut residuals) = (Vec::new(), Vec::new());
        for class in 0..i64::try_from(labels.f_max()?)? + 1 {
            let own = features.f_index_select(0, &labels.f_eq(class)?.f_nonzero()?.f_view([-1])?)?;
            if own.size()[0] > 0 {
                let centre = own.f_mean_dim(0i64, true, Kind::Double)?;
                residuals.push(own.f_sub(&centre)?);
                centres.push(centre);
            }
        }
        let residuals = Tensor::f_cat(&residuals, 0)?;
        let (count, size) = residuals.size2()?;
        let covariance = residuals.f_transpose(0, 1)?.f_matmul(&residuals)?.f_div_scalar(count as f64)?;
        let ridge = RIDGE * f64::try_from(covariance.f_trace()?)? / size as f64;
        let identity = Tensor::f_eye(size, (Kind::Double, Device::Cpu))?;
        let lower = covariance.f_add(&identity.f_mul_scalar(ridge)?)?.f_linalg_cholesky(false)?;
        let whitening = Tensor::f_linalg_solve_triangular(&lower, &identity, false, true, false)?;
        let centres = Tensor::f_cat(&centres, 0)?.f_matmul(&whitening.f_transpose(0, 1)?)?;
        Ok(Familiarity { centres: Matrix::of(&centres)?, whitening: Matrix::of(&whitening)?, threshold: f64::INFINITY })
    }

    /// The scores [N] of the images of `split`: how far each is from the nearest class.
    pub(crate) fn scores(&self, net: &Net, split: &Split) -> Result<Vec<f64>> {
        let all = Tensor::f_arange(split.len(), (Kind::Int64, Device::Cpu))?;
        Ok(Vec::try_from(self.scores_of(&features_of(net, split, &all)?)?)?)
    }

    /// The distance, the root of a score, beyond which an image looks like none of the classes.
    pub(crate) fn threshold(&self) -> f64 {
        self.threshold.sqrt()
    }

    /// Whether each of the images with these outputs of the units of `net` looks like none of the classes.
    pub(super) fn unsure(&self, net: &Architecture, outputs: &[(usize, Tensor)]) -> Result<Vec<bool>> {
        let scores = Vec::<f64>::try_from(self.scores_of(&features(net, outputs)?)?)?;
        Ok(scores.into_iter().map(|score| score > self.threshold).collect())
    }

    /// The scores [N] of features [N, F].
    fn scores_of(&self, features: &Tensor) -> Result<Tensor> {
        let (centres, whitening) = (self.centres.tensor()?, self.whitening.tensor()?);
        ensure!(
            features.size()[1] == self.whitening.columns as i64,
            "what the weights file says about familiar images is for another net"
        );
        let white = features.f_matmul(&whitening.f_transpose(0, 1)?)?;
        let distances =
            white.f_unsqueeze(1)?.f_sub(&centres)?.f_square()?.f_sum_dim_intlist(2i64, false, Kind::Double)?;
        Ok(distances.f_min_dim(1, false)?.0)
    }

    /// As text, for the metadata of a weights file.
    pub(crate) fn to_text(&self) -> Result<String> {
        let Familiarity { centres, whitening, threshold } = self.clone();
        Ok(serde_json::to_string(&Stored { centres, whitening, threshold })?)
    }

    /// From [`Familiarity::to_text`].
    pub(crate) fn from_text(text: &str) -> Result<Familiarity> {
        let Stored { centres, whitening, threshold } = serde_json::from_str(text)?;
        let features = whitening.columns;
        ensure!(features > 0 && centres.columns == features, "its matrices do not fit together");
        ensure!(whitening.tensor()?.size() == [features as i64; 2], "its whitening matrix is not square");
        let _ = centres.tensor()?;
        Ok(Familiarity { centres, whitening, threshold })
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    threshold: f64,
    centres: Matrix,
    whitening: Matrix,
}

impl Matrix {
    fn of(tensor: &Tensor) -> Result<Matrix> {
        let numbers = Vec::<f32>::try_from(tensor.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?)?;
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Ok(Matrix { columns: tensor.size()[1] as usize, numbers: BASE64_STANDARD.encode(bytes) })
    }

    /// double [rows, columns] on the CPU.
    fn tensor(&self) -> Result<Tensor> {
        let bytes = BASE64_STANDARD.decode(&self.numbers).context("its numbers are not base64")?;
        let numbers: Vec<f64> = bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
        ensure!(!numbers.is_empty() && numbers.len().is_multiple_of(self.columns), "its numbers are cut short");
        Ok(Tensor::from_slice(&numbers).f_view([-1, self.columns as i64])?)
    }
}

/// The features of the images of `split` at `indices` (int64 [N]), double [N, F] on the CPU.
fn features_of(net: &Net, split: &Split, indices: &Tensor) -> Result<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let indices = indices.f_to_device(split.labels.device())?;
    let of_batch = |indices: &Tensor| features(net.architecture(), &net.forward_units(&split.batch(indices)?.0));
    let (batches, _) = in_smaller_batches("looking at images", BATCH, |size| {
        indices.f_split(size, 0)?.iter().map(of_batch).collect::<Result<Vec<_>>>()
    })?;
    Ok(Tensor::f_cat(&batches, 0)?)
}

/// Where the features of a net are read: the number of layers before each place, and whether deviations count.
fn places(net: &Architecture) -> Vec<(usize, bool)> {
    let stages = net.stages();
    let end = |from_end: usize| stages.len().checked_sub(from_end).map(|index| stages[index]);
    let is_image = |end: usize| net.layers()[end - 1].output.len() == 3;
    let with_deviations = STAGES.into_iter().filter_map(end).map(|end| (end, is_image(end)));
    let mut places: Vec<_> = with_deviations.chain(end(LAST).map(|end| (end, false))).collect();
    let size = |(end, deviations): &(usize, bool)| net.layers()[end - 1].output[0] * if *deviations { 2 } else { 1 };
    while places.iter().map(size).sum::<i64>() > MOST_FEATURES {
        places.remove(0);
    }
    places
}

/// The features [N, F] of images with these outputs of the units of `net`, double on the CPU.
fn features(net: &Architecture, outputs: &[(usize, Tensor)]) -> Result<Tensor> {
    let mut parts = Vec::new();
    for (end, deviations) in places(net) {
        let (_, output) = outputs.iter().find(|(done, _)| *done == end).context("a stage ends with a unit")?;
        if output.dim() == 2 {
            parts.push(output.shallow_clone());
            continue;
        }
        parts.push(output.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?);
        if deviations {
            parts.push(output.f_std_dim([2i64, 3].as_slice(), true, false)?);
        }
    }
    ensure!(!parts.is_empty(), "what the weights file says about familiar images is for another net");
    Ok(Tensor::f_cat(&parts, 1)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_the_distance_to_the_nearest_class_in_units_of_the_covariance() {
        tch::manual_seed(1);
        let labels = Tensor::from_slice(&[0i64, 1]).repeat([500]);
        let centres = Tensor::from_slice(&[0f64, 0., 100., 10.]).view([2, 2]);
        let scale = Tensor::from_slice(&[2f64, 0.5]);
        let noise = Tensor::randn([1000, 2], (Kind::Double, Device::Cpu)) * scale;
        let fitted = Familiarity::fit(&(centres.index_select(0, &labels) + noise), &labels).unwrap();
        let score = |x: f64, y: f64| {
            let scores = fitted.scores_of(&Tensor::from_slice(&[x, y]).view([1, 2])).unwrap();
            Vec::<f64>::try_from(scores).unwrap()[0]
        };
        // Two deviations along the first axis, four along the second, from either class.
        for (x, y) in [(0.0, 0.0), (100.0, 10.0)] {
            assert!((score(x + 4.0, y) - 4.0).abs() < 0.6, "{}", score(x + 4.0, y));
            assert!((score(x, y + 2.0) - 16.0).abs() < 2.4, "{}", score(x, y + 2.0));
        }
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let labels = Tensor::from_slice(&[0i64, 1]).repeat([50]);
        let features = Tensor::randn([100, 3], (Kind::Double, Device::Cpu));
        let fitted = Familiarity { threshold: 7.5, ..Familiarity::fit(&features, &labels).unwrap() };
        assert_eq!(Familiarity::from_text(&fitted.to_text().unwrap()).unwrap(), fitted);
        let cut = fitted.to_text().unwrap().replace("\"columns\":3", "\"columns\":4");
        assert!(Familiarity::from_text(&cut).is_err());
        assert!(Familiarity::from_text("{}").is_err());
    }
}
