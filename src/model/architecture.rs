//! A net as data: its layers in the order in which they run, under the names that PyTorch gives them.

use super::layers::{Conv2d, Layer, Linear, Variable};
use super::names;
use crate::shape::{CLASSES, SIDE};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use tch::nn::{Path, SequentialT};

/// The most layers that a net can have.
const MOST_LAYERS: usize = 1000;

/// The most parameters that a net can have, and the most numbers that its layers can make of one image: 40 MB each.
const MOST_NUMBERS: i64 = 10_000_000;

/// The layers of a net that maps images [N, 1, 28, 28] to log-probabilities [N, 10]. Each layer takes what the one
/// before it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    layers: Vec<NamedLayer>,
}

/// A layer of an [`Architecture`].
#[derive(Clone, Debug, PartialEq)]
pub struct NamedLayer {
    /// Its path in the net, such as `convblock1.0` for a layer of an `nn.Sequential`, or `pool1`: the state_dict's keys
    /// begin with it.
    pub path: String,
    pub layer: Layer,
    /// The shape of its output without the batch: [C, H, W], or [features].
    pub output: Vec<i64>,
}

impl Architecture {
    /// The net of these layers, each with its path, in order.
    ///
    /// # Errors
    ///
    /// One sentence that names the first layer that does not fit the one before it.
    pub fn of(layers: impl IntoIterator<Item = (String, Layer)>) -> Result<Architecture> {
        let mut builder = Builder::default();
        for (path, layer) in layers {
            builder.push(path, layer)?;
        }
        builder.finish()
    }

    /// The layers in the order in which they run.
    pub fn layers(&self) -> &[NamedLayer] {
        &self.layers
    }

    /// The number of its trainable parameters.
    pub(crate) fn parameters(&self) -> i64 {
        self.layers.iter().map(|named| named.layer.parameters()).sum()
    }

    /// The parameters and buffers of all layers with their keys, in the order of PyTorch's `state_dict()`.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, Variable)> {
        let keyed = |named: &NamedLayer, variable: Variable| (format!("{}.{}", named.path, variable.name), variable);
        self.layers.iter().flat_map(move |named| named.layer.variables().into_iter().map(move |it| keyed(named, it)))
    }

    /// Whether the last layer is a `LogSoftmax`. If not, the net ends in `x.view(-1, 10)` and
    /// `F.log_softmax(x, dim=-1)`.
    pub(crate) fn ends_in_log_softmax(&self) -> bool {
        self.layers.last().is_some_and(|last| matches!(last.layer, Layer::LogSoftmax(_)))
    }
}

impl NamedLayer {
    /// The net's member that the layer is part of: `convblock1` of `convblock1.0`.
    pub(crate) fn member(&self) -> &str {
        self.path.split('.').next().unwrap_or(&self.path)
    }

    /// Adds tch's module for the layer to `net`; its parameters and buffers are made at its path below `root`.
    pub(super) fn add_to(&self, net: SequentialT, root: &Path) -> SequentialT {
        self.layer.add_to(net, &self.below(root))
    }

    /// The layer's path in a store.
    pub(super) fn below<'a>(&self, root: &Path<'a>) -> Path<'a> {
        self.path.split('.').fold(root.clone(), |path, name| path / name)
    }
}

/// An [`Architecture`] in the making. Each layer is checked when it is added.
#[derive(Default)]
pub(super) struct Builder {
    layers: Vec<NamedLayer>,
    /// The paths of the layers, and of the containers that they are in.
    paths: BTreeSet<String>,
    parameters: i64,
    activations: i64,
}

impl Builder {
    /// The shape of the next layer's input, without the batch.
    pub(super) fn shape(&self) -> Vec<i64> {
        self.layers.last().map_or(vec![1, SIDE as i64, SIDE as i64], |last| last.output.clone())
    }

    /// Adds a layer to the end, if it fits there.
    pub(super) fn push(&mut self, path: String, layer: Layer) -> Result<()> {
        ensure!(self.layers.len() < MOST_LAYERS, "{path}: a net has at most {MOST_LAYERS} layers");
        let place = || format!("{path}, {layer}");
        self.claim(&path).with_context(place)?;
        let output = self.checked(layer).with_context(place)?;
        self.layers.push(NamedLayer { path, layer, output });
        Ok(())
    }

    /// The output of `layer` after the layers so far.
    fn checked(&mut self, layer: Layer) -> Result<Vec<i64>> {
        if let Some(NamedLayer { path, layer: Layer::LogSoftmax(_), .. }) = self.layers.last() {
            bail!("it comes after {path}, a LogSoftmax: that must be the last layer");
        }
        layer.check()?;
        let output = layer.output(&self.shape())?;
        self.parameters = self.parameters.saturating_add(layer.parameters());
        self.activations = self.activations.saturating_add(product(&output));
        ensure!(
            self.parameters <= MOST_NUMBERS,
            "with it the net has more than {} million parameters: make it smaller",
            MOST_NUMBERS / 1_000_000
        );
        ensure!(
            self.activations <= MOST_NUMBERS,
            "with it the outputs of all layers have more than {} million numbers per image: make it smaller",
            MOST_NUMBERS / 1_000_000
        );
        Ok(output)
    }

    /// Refuses a path that cannot be a key of the state_dict, or that would put the layers of a container apart.
    fn claim(&mut self, path: &str) -> Result<()> {
        names::check(path)?;
        ensure!(!self.paths.contains(path), "the net already has a member {path}");
        let last = self.layers.last().map(|last| last.path.clone()).unwrap_or_default();
        for (end, _) in path.match_indices('.') {
            let (container, inside) = (&path[..end], &path[..=end]);
            let is_new = self.paths.insert(container.to_string());
            ensure!(last != *container, "{container} is a layer and cannot contain another");
            ensure!(is_new || last.starts_with(inside), "the net already has a member {container}");
        }
        self.paths.insert(path.to_string());
        Ok(())
    }

    /// The net, if it ends in ten numbers.
    pub(super) fn finish(self) -> Result<Architecture> {
        let Some(NamedLayer { path, layer, output }) = self.layers.last() else { bail!("the net has no layers") };
        ensure!(
            matches!(output[..], [TEN] | [TEN, 1, 1]),
            "{path}, {layer}: the net ends in {} instead of {TEN} features: {}",
            shape_text(output),
            ending(&self.layers)
        );
        Ok(Architecture { layers: self.layers })
    }
}

const TEN: i64 = CLASSES as i64;

/// What makes ten numbers of the output of `layers`.
fn ending(layers: &[NamedLayer]) -> String {
    let (before, place) = match layers {
        [before @ .., NamedLayer { layer: Layer::LogSoftmax(_), .. }] => (before, "before it"),
        _ => (layers, "at the end"),
    };
    let Some(NamedLayer { layer, output, .. }) = before.last() else { return format!("put layers {place}") };
    match (*layer, &output[..]) {
        (Layer::Linear(linear), _) => format!("write {}", Layer::from(Linear { out_features: TEN, ..linear })),
        (Layer::Conv2d(conv), [_, 1, 1]) if TEN % conv.groups == 0 => {
            format!("write {}", Layer::from(Conv2d { out_channels: TEN, ..conv }))
        }
        (_, [TEN, ..]) => format!("put AdaptiveAvgPool2d(1) {place}"),
        (_, [features]) => format!("put Linear({features}, {TEN}) {place}"),
        (_, output) if product(output) == TEN => format!("put Flatten() {place}"),
        (_, output) => format!("put Flatten(), Linear({}, {TEN}) {place}", product(output)),
    }
}

/// `16 x 4 x 4`, or `160 features`.
fn shape_text(shape: &[i64]) -> String {
    match shape {
        [features] => format!("{features} features"),
        _ => shape.iter().map(i64::to_string).collect::<Vec<_>>().join(" x "),
    }
}

/// The number of numbers in a tensor of this shape.
pub(super) fn product(shape: &[i64]) -> i64 {
    shape.iter().fold(1, |product: i64, &size| product.saturating_mul(size))
}
