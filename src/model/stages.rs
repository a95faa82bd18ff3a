//! The stages of a net: what each convolution or linear layer makes of the images, once it went through activation,
//! normalisation and dropout.

use super::architecture::Architecture;
use super::fused::{Operation, Unit, units};
use super::layers::Layer;

impl Architecture {
    /// The number of layers up to the end of each stage. A stage ends before a pool, a `Flatten`, and the next weights.
    /// It never ends within several layers that the fused kernels compute at once, whether or not they are used.
    pub(crate) fn stages(&self) -> Vec<usize> {
        let mut ends: Vec<usize> = Vec::new();
        let mut goes_on = false;
        for unit in units(self.layers()) {
            if self.has_weights(&unit) {
                ends.push(unit.layers.end);
                goes_on = true;
            } else if goes_on && !self.moves_pixels(&unit) {
                *ends.last_mut().expect("a stage goes on") = unit.layers.end;
            } else {
                goes_on = false;
            }
        }
        ends
    }

    fn has_weights(&self, unit: &Unit) -> bool {
        let layers = &self.layers()[unit.layers.clone()];
        layers.iter().any(|named| matches!(named.layer, Layer::Conv2d(_) | Layer::Linear { .. }))
    }

    fn moves_pixels(&self, unit: &Unit) -> bool {
        unit.operation == Operation::Layer
            && matches!(
                self.layers()[unit.layers.start].layer,
                Layer::MaxPool2d { .. } | Layer::AvgPool2d { .. } | Layer::AdaptiveAvgPool2d { .. } | Layer::Flatten
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_of_the_original_are_its_blocks() {
        let net = Architecture::original(0.05);
        let paths: Vec<&str> = net.stages().iter().map(|end| net.layers()[end - 1].path.as_str()).collect();
        let blocks = ["convblock1.3", "convblock2.3", "pool1", "convblock4.3", "convblock5.3", "convblock6.3"];
        assert_eq!(paths, [&blocks[..], &["convblock7.2", "convblock8.0"]].concat());
    }
}
