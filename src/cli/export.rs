//! `tch-mnist export`: one weights file into another format.

use super::{Outcome, UsageError, Verbosity, say};
use crate::model::{Kernels, Net};
use crate::report::log;
use crate::weights::{self, safetensors::Metadata};
use anyhow::Result;
use std::path::PathBuf;
use tch::Device;

/// The flags of `export`.
#[derive(clap::Args)]
pub struct Args {
    /// The weights: a .pt, .pth or .safetensors file, written here or in Python
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// The file to write: .pt (TorchScript), .pth (state_dict) or .safetensors
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The share of activations that the dropout layers of a TorchScript module zero in training
    #[arg(long, value_name = "X", default_value_t = 0.05, allow_negative_numbers = true)]
    dropout: f64,
}

/// Runs the command.
pub fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    if !(0.0..1.0).contains(&args.dropout) {
        return Err(UsageError(format!("--dropout takes a share from 0 to below 1, not {}", args.dropout)).into());
    }
    let net = Net::new(Device::Cpu, args.dropout, Kernels::Torch);
    weights::load(&args.weights, &net)?;
    let metadata = Metadata::from([("format".to_string(), "pt".to_string())]);
    weights::write(&args.to, &net.state_dict(), args.dropout, &metadata)?;
    say(format_args!("{} -> {}", args.weights.display(), args.to.display()))?;
    Ok(Outcome::Done)
}
