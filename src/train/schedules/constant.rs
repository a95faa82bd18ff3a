//! The same rate throughout, as without a scheduler.

use super::{Progress, Scheduler};
use crate::flags::Named;
use serde::Serialize;

/// The same rate throughout
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct Constant {}

impl Named for Constant {
    const NAME: &'static str = "constant";
    const TORCH: Option<&'static str> = Some("ConstantLR");
    const EXAMPLES: &'static [&'static str] = &[""];
}

impl Scheduler for Constant {
    fn lr(&self, lr: f64, _progress: Progress) -> f64 {
        lr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_stays() {
        assert!((0..5).all(|epoch| Constant {}.lr(0.5, Progress::at_epoch(epoch, 5)) == 0.5));
    }
}
