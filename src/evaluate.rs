//! Loss, accuracy and confusion of a net on a split.

use crate::data::{BLACK, Part, Split};
use crate::memory::in_smaller_batches;
use crate::model::Net;
use crate::shape;
use anyhow::Result;
use tch::{Kind, Reduction, Tensor};

const CLASSES: i64 = shape::CLASSES as i64;

/// What a net does on a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The part of the dataset.
    pub part: Part,
    /// The mean negative log-likelihood over the images, in nats.
    pub loss: f64,
    /// Images whose most probable class is their label.
    pub correct: i64,
    /// All images.
    pub total: i64,
    /// Images by label (row) and predicted class (column).
    pub confusion: Vec<Vec<i64>>,
}

impl Evaluation {
    /// The share of correct images, in percent.
    pub fn accuracy(&self) -> f64 {
        percent(self.correct, self.total)
    }

    /// The original's line: `Test set: Average loss: 0.0189, Accuracy: 9942/10000 (99.42%)`, or `Validation set: ...`.
    pub fn line(&self) -> String {
        let Evaluation { loss, correct, total, .. } = self;
        let part = match self.part {
            Part::Train => "Training",
            Part::Validation => "Validation",
            Part::Test => "Test",
        };
        format!("{part} set: Average loss: {loss:.4}, Accuracy: {correct}/{total} ({:.2}%)", self.accuracy())
    }

    /// The line for a result of [`evaluate_tta`]: `With TTA, the average over 9 translations: ...`.
    pub fn tta_line(&self) -> String {
        let Evaluation { loss, correct, total, .. } = self;
        let accuracy = self.accuracy();
        let figures = format!("Average loss: {loss:.4}, Accuracy: {correct}/{total} ({accuracy:.2}%)");
        format!("With TTA, the average over {TTA_VIEWS} translations: {figures}")
    }

    /// The share of each label's images that are correct, in percent; `None` for a label without images.
    pub fn class_accuracy(&self) -> Vec<Option<f64>> {
        let rows = self.confusion.iter().enumerate();
        rows.map(|(label, row)| {
            let images: i64 = row.iter().sum();
            (images > 0).then(|| percent(row[label], images))
        })
        .collect()
    }
}

/// How many classes a table of `confusion` shows: as many as there are `named`, and any beyond that are predicted all the
/// same.
pub(crate) fn shown_classes(confusion: &[Vec<i64>], named: usize) -> usize {
    let is_met = |class: usize| confusion.iter().any(|row| row[class] > 0);
    (named..confusion.len()).filter(|&class| is_met(class)).map(|class| class + 1).max().unwrap_or(named)
}

/// `100 * part / whole`
pub(crate) fn percent(part: i64, whole: i64) -> f64 {
    100.0 * part as f64 / whole as f64
}

/// The smallest batch for evaluation, if results do not depend on it: work that is done per call, such as packing the
/// weights, is done less often.
const AT_ONCE: usize = 1024;

/// Runs `net` in evaluation mode over the batches of `split` that `batches` index (int64 [B] each).
///
/// The loss is summed as the original's test function sums it: each batch in float32, the batches in double. Nothing
/// waits for the device before the last batch. `between` is called before each batch; if it returns false, the
/// evaluation ends with `None`.
///
/// ```
/// # use tch::{Device, Kind, Tensor};
/// # use tch_mnist::{Architecture, Data, Dataset, Kernels, Net, evaluate};
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
/// let data = Data::load(folder.as_ref(), Dataset::Mnist, Device::Cpu, 1, 100)?;
/// let net = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Fused);
/// let all = [Tensor::arange(100, (Kind::Int64, Device::Cpu))];
/// let evaluation = evaluate(&net, data.measured(), &all, || true)?.unwrap();
/// assert_eq!(evaluation.total, 100);
/// # anyhow::Ok(())
/// ```
pub fn evaluate(
    net: &Net,
    split: &Split,
    batches: &[Tensor],
    between: impl FnMut() -> bool,
) -> Result<Option<Evaluation>> {
    let _own_threads = net.own_threads();
    let at_once = if net.evaluates_images_alone() { AT_ONCE } else { 1 };
    evaluate_by(|images| Ok(net.forward_t(images, false)), split, batches, at_once, between)
}

/// [`evaluate`] with test-time augmentation: the mean of the net's log-probabilities over each image where it is and moved
/// by one pixel in each of eight directions.
pub(crate) fn evaluate_tta(net: &Net, split: &Split, batches: &[Tensor]) -> Result<Evaluation> {
    let _own_threads = net.own_threads();
    Ok(evaluate_by(|images| forward_tta(net, images), split, batches, 1, || true)?.expect("nothing stops it"))
}

/// [`evaluate`] by any function from images [B, 1, 28, 28] to log-probabilities [B, 10], which gets at least `at_once` images
/// at a time, in whole batches.
fn evaluate_by(
    forward: impl Fn(&Tensor) -> Result<Tensor>,
    split: &Split,
    batches: &[Tensor],
    at_once: usize,
    mut between: impl FnMut() -> bool,
) -> Result<Option<Evaluation>> {
    let _no_grad = tch::no_grad_guard();
    let device = split.labels.device();
    let mut loss = Tensor::f_zeros([0i64; 0], (Kind::Double, device))?;
    let mut confusion = Tensor::f_zeros([CLASSES * CLASSES], (Kind::Int64, device))?;
    let mut total = 0;
    let batch_size = batches.first().map_or(1, |batch| batch.size()[0].max(1) as usize);
    for together in batches.chunks(at_once.div_ceil(batch_size)) {
        if !together.iter().all(|_| between()) {
            return Ok(None);
        }
        let (images, labels) = split.batch(&Tensor::f_cat(together, 0)?)?;
        let log_probabilities = forward(&images)?;
        let sizes: Vec<i64> = together.iter().map(|batch| batch.size()[0]).collect();
        let of_batches = |tensor: &Tensor| tensor.f_split_with_sizes(&sizes, 0);
        for (log_probabilities, labels) in of_batches(&log_probabilities)?.iter().zip(of_batches(&labels)?) {
            let batch_loss = log_probabilities.f_nll_loss::<Tensor>(&labels, None, Reduction::Sum, -100)?;
            loss = loss.f_add(&batch_loss)?;
        }
        let predicted = log_probabilities.f_argmax(1, false)?;
        let cell = labels.f_mul_scalar(CLASSES)?.f_add(&predicted)?;
        let _ = confusion.f_index_add_(0, &cell, &labels.f_ones_like()?)?;
        total += labels.size()[0];
    }
    let cells = Vec::<i64>::try_from(confusion)?;
    let confusion: Vec<Vec<i64>> = cells.chunks(CLASSES as usize).map(<[i64]>::to_vec).collect();
    let correct = (0..CLASSES as usize).map(|class| confusion[class][class]).sum();
    Ok(Some(Evaluation { part: split.part, loss: f64::try_from(loss)? / total as f64, correct, total, confusion }))
}

/// The number of images that test-time augmentation makes of one.
const TTA_VIEWS: i64 = 9;

/// Log-probabilities [N, 10] of images [N, 1, 28, 28] over [`TTA_VIEWS`] translations of each.
fn forward_tta(net: &Net, images: &Tensor) -> Result<Tensor> {
    let (height, width) = (images.size()[2], images.size()[3]);
    let padded = images.f_pad([1, 1, 1, 1], "constant", f64::from(BLACK))?;
    let mut sum = Tensor::f_zeros([images.size()[0], CLASSES], (Kind::Float, images.device()))?;
    for view in 0..TTA_VIEWS {
        let moved = padded.f_narrow(2, view / 3, height)?.f_narrow(3, view % 3, width)?.f_contiguous()?;
        sum = sum.f_add(&net.forward_t(&moved, false))?;
    }
    Ok(sum.f_div_scalar(TTA_VIEWS)?.f_log_softmax(1, Kind::Float)?)
}

/// The log-probabilities [N, 10] of the images of `split` that `batches` index, in their order.
pub(crate) fn log_probabilities(net: &Net, split: &Split, batches: &[Tensor]) -> Result<Tensor> {
    let (_no_grad, _own_threads) = (tch::no_grad_guard(), net.own_threads());
    let outputs = batches.iter().map(|indices| Ok(net.forward_t(&split.batch(indices)?.0, false)));
    Ok(Tensor::f_cat(&outputs.collect::<Result<Vec<_>>>()?, 0)?)
}

/// An image that a net gets wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mistake {
    /// Its place in the split, from 0.
    pub index: i64,
    pub label: i64,
    /// The class that the net predicts.
    pub predicted: i64,
    /// The probability that the net gives to the predicted class, 0 to 1.
    pub confidence: f64,
}

/// What a net gets right and wrong, image by image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Findings {
    /// Images by label (row) and predicted class (column).
    pub confusion: Vec<Vec<i64>>,
    /// The images it gets wrong, the most confident mistakes first.
    pub mistakes: Vec<Mistake>,
}

impl Findings {
    /// Runs `net` in evaluation mode over `split` in its order.
    pub(crate) fn of(net: &Net, split: &Split) -> Result<Findings> {
        let (outputs, _) =
            in_smaller_batches("finding mistakes", 250, |size| log_probabilities(net, split, &split.batches(size)?))?;
        let (highest, predicted) = outputs.f_max_dim(1, false)?;
        let confidences = Vec::<f32>::try_from(highest.f_exp()?)?;
        let (labels, predicted) = (Vec::<i64>::try_from(&split.labels)?, Vec::<i64>::try_from(predicted)?);
        let mut confusion = vec![vec![0; CLASSES as usize]; CLASSES as usize];
        let mut mistakes = Vec::new();
        for (index, ((&label, &predicted), &confidence)) in labels.iter().zip(&predicted).zip(&confidences).enumerate()
        {
            confusion[label as usize][predicted as usize] += 1;
            if label != predicted {
                mistakes.push(Mistake { index: index as i64, label, predicted, confidence: f64::from(confidence) });
            }
        }
        mistakes.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        Ok(Findings { confusion, mistakes })
    }

    /// What the net reads in the image at `index`; `None`: its label.
    pub(crate) fn prediction(&self, index: i64) -> Option<i64> {
        self.mistakes.iter().find(|mistake| mistake.index == index).map(|mistake| mistake.predicted)
    }
}

/// How well a net knows one class, each a share from 0 to 1; `None` where there are no images to say so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClassScore {
    /// The images of the class.
    pub images: i64,
    /// Of the images that are read as the class, those that are of it.
    pub precision: Option<f64>,
    /// Of the images of the class, those that are read as it.
    pub recall: Option<f64>,
    /// The harmonic mean of the two.
    pub f1: Option<f64>,
}

impl ClassScore {
    /// Of each class of a confusion matrix.
    pub(crate) fn of(confusion: &[Vec<i64>]) -> Vec<ClassScore> {
        let score = |class: usize| {
            let right = confusion[class][class];
            let images: i64 = confusion[class].iter().sum();
            let predicted: i64 = confusion.iter().map(|row| row[class]).sum();
            let share = |part: i64, whole: i64| (whole > 0).then(|| part as f64 / whole as f64);
            let [precision, recall] = [share(right, predicted), share(right, images)];
            ClassScore { images, precision, recall, f1: share(2 * right, images + predicted) }
        };
        (0..confusion.len()).map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_recall_and_f1_follow_their_definitions() {
        let confusion = vec![vec![8, 2, 0, 0], vec![1, 3, 0, 0], vec![0, 0, 0, 0], vec![4, 0, 0, 0]];
        let scores = ClassScore::of(&confusion);
        let first = scores[0];
        assert_eq!((first.images, first.precision, first.recall), (10, Some(8.0 / 13.0), Some(0.8)));
        let (precision, recall) = (8.0 / 13.0, 0.8);
        assert!((first.f1.unwrap() - 2.0 * precision * recall / (precision + recall)).abs() < 1e-15);
        // A class without images, and one that is never predicted.
        let nothing = ClassScore { images: 0, precision: None, recall: None, f1: None };
        assert_eq!(scores[2], nothing);
        assert_eq!(scores[3], ClassScore { images: 4, precision: None, recall: Some(0.0), f1: Some(0.0) });
    }

    #[test]
    fn classes_without_a_name_are_shown_if_they_are_predicted() {
        let confusion = |predicted: usize| {
            let mut confusion = vec![vec![0; 10]; 10];
            (confusion[0][0], confusion[1][predicted]) = (5, 1);
            confusion
        };
        assert_eq!([1, 2, 3, 7].map(|predicted| shown_classes(&confusion(predicted), 3)), [3, 3, 4, 8]);
        assert_eq!(shown_classes(&confusion(0), 10), 10);
    }
}
