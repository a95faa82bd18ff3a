//! A net as data: its layers in the order in which they run, under the names that PyTorch gives them.

use super::layers::Layer;
use crate::shape::{CLASSES, SIDE};
use anyhow::{Context, Result, ensure};

/// The layers of a net that maps images [N, 1, 28, 28] to log-probabilities [N, 10], each of which takes what the one
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
        let mut shape = vec![1, SIDE as i64, SIDE as i64];
        let mut named = Vec::new();
        for (path, layer) in layers {
            shape = layer.output(&shape).with_context(|| format!("{path}, {}", layer.class()))?;
            named.push(NamedLayer { path, layer, output: shape.clone() });
        }
        let outputs: i64 = shape.iter().product();
        ensure!(outputs == CLASSES as i64, "the net has {outputs} outputs, not {CLASSES}");
        Ok(Architecture { layers: named })
    }

    /// The layers in the order in which they run.
    pub fn layers(&self) -> &[NamedLayer] {
        &self.layers
    }

    /// Whether the last layer is a `LogSoftmax`. If not, the net ends in `x.view(-1, 10)` and `F.log_softmax(x, dim=-1)`.
    pub(crate) fn ends_in_log_softmax(&self) -> bool {
        self.layers.last().is_some_and(|last| last.layer == Layer::LogSoftmax)
    }
}

impl NamedLayer {
    /// The net's member that the layer is part of: `convblock1` of `convblock1.0`.
    pub(crate) fn member(&self) -> &str {
        self.path.split('.').next().unwrap_or(&self.path)
    }
}
