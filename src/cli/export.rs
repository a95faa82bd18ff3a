//! `tch-mnist export`: a weights file in another format.

use super::{Outcome, UsageError, Verbosity, say};
use crate::model::{Kernels, Net};
use crate::report::log;
use crate::weights::{self, Format};
use anyhow::Result;
use std::path::PathBuf;
use tch::Device;

/// The flags of `export`.
#[derive(clap::Args)]
pub struct Args {
    /// The weights: a .pt, .pth or .safetensors file, written here or in Python
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// The file to write: .pt a TorchScript module, .pth a state_dict, .safetensors
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The share that the dropout layers of a .pt zero in training; the other formats hold no layers
    #[arg(long, value_name = "P", default_value_t = 0.05, allow_negative_numbers = true)]
    dropout: f64,
}

/// Runs the command.
pub fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let Args { weights: from, to, dropout } = args;
    let Some(format) = Format::of(&to) else {
        return Err(UsageError(format!("--to {} does not end in {}", to.display(), Format::ENDINGS)).into());
    };
    if !(0.0..1.0).contains(&dropout) {
        return Err(
            UsageError(format!("--dropout takes a share from 0 up to, but not including, 1, not {dropout}")).into()
        );
    }
    let net = Net::new(Device::Cpu, dropout, Kernels::Torch);
    weights::load(&from, &net)?;
    weights::write(&to, &net.state_dict(), dropout, &weights::metadata(&from)?)?;
    let parameters: usize = net.parameters().map(|(_, tensor)| tensor.numel()).sum();
    let tensors = net.state_dict().0.len();
    say(format!("{}: {}, {tensors} tensors, {parameters} parameters", to.display(), format.describe()))?;
    Ok(Outcome::Done)
}
