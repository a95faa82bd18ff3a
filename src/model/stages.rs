//! The stages of a net: what each convolution or linear layer makes of the images, once it went through activation,
//! normalisation and dropout.

use super::architecture::Architecture;
use super::layers::Stage;
use super::units::{Unit, units};

impl Architecture {
    /// The number of layers up to the end of each stage. A stage ends before a pool, a `Flatten`, and the next weights.
    /// It never ends within several layers that the fused kernels compute at once, whether or not they are used.
    pub(crate) fn stages(&self) -> Vec<usize> {
        let mut ends: Vec<usize> = Vec::new();
        let mut is_open = false;
        for unit in units(self.layers()) {
            match self.stage(&unit) {
                Stage::Begins => {
                    ends.push(unit.layers.end);
                    is_open = true;
                }
                Stage::Continues if is_open => *ends.last_mut().expect("a stage has begun") = unit.layers.end,
                Stage::Continues => {}
                Stage::Ends => is_open = false,
            }
        }
        ends
    }

    /// The place of a unit: that of its weights if it has a layer with weights.
    fn stage(&self, unit: &Unit) -> Stage {
        let places: Vec<Stage> = self.layers()[unit.layers.clone()].iter().map(|named| named.layer.stage()).collect();
        if places.contains(&Stage::Begins) { Stage::Begins } else { places[0] }
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
