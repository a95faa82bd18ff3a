//! `MultiStepLR(milestones, gamma)`.

use super::{Gamma, Progress, Scheduler};
use crate::flags::{Named, any, list};
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};
use std::str::FromStr;

/// MultiStepLR: multiplied by --gamma at each of --milestones
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct MultiStep {
    /// epochs before which the learning rate is cut; the default equals --step-size 6
    #[arg(long, hide_short_help = true, value_name = "N,N", default_value = "6,12", value_parser = any::<Milestones>("whole numbers from 1 up that increase, such as 6,12"))]
    milestones: Milestones,
    #[command(flatten)]
    #[serde(flatten)]
    gamma: Gamma,
}

impl Named for MultiStep {
    const NAME: &'static str = "multi-step";
    const TORCH: Option<&'static str> = Some("MultiStepLR");
    const EXAMPLES: &'static [&'static str] = &["--milestones=1,3,4 --gamma=0.3"];
}

impl Scheduler for MultiStep {
    fn lr(&self, lr: f64, progress: Progress) -> f64 {
        let reached = self.milestones.0.iter().filter(|&&milestone| milestone <= progress.epoch);
        reached.fold(lr, |lr, _| lr * self.gamma.gamma)
    }
}

/// Epochs in increasing order.
#[derive(Clone, Debug, PartialEq)]
struct Milestones(Vec<i64>);

impl FromStr for Milestones {
    type Err = ();

    fn from_str(text: &str) -> Result<Milestones, ()> {
        let epochs: Vec<i64> = list(text).map(str::parse).collect::<Result<_, _>>().map_err(|_| ())?;
        let increase = epochs[0] >= 1 && epochs.windows(2).all(|pair| pair[0] < pair[1]);
        if increase { Ok(Milestones(epochs)) } else { Err(()) }
    }
}

impl Display for Milestones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs: Vec<String> = self.0.iter().map(i64::to_string).collect();
        f.write_str(&epochs.join(","))
    }
}

impl Serialize for Milestones {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_cut_at_each_milestone() {
        let multi_step = MultiStep { milestones: Milestones(vec![1, 3]), gamma: Gamma { gamma: 0.1 } };
        let at = |epoch| multi_step.lr(0.5, Progress::at_epoch(epoch, 5));
        assert_eq!([0, 1, 2, 3, 4].map(at), [0.5, 0.05, 0.05, 0.05 * 0.1, 0.05 * 0.1]);
    }

    #[test]
    fn milestones_are_whole_numbers_that_increase() {
        for text in ["6", "6,12", "[6, 12]", " 1, 2"] {
            let milestones: Milestones = text.parse().unwrap();
            assert_eq!(milestones.to_string().parse(), Ok(milestones));
        }
        for text in ["", "6,", "[6", "0,6", "6,6", "12,6", "6;12", "6.5", "[]"] {
            assert_eq!(text.parse::<Milestones>(), Err(()), "{text}");
        }
    }
}
