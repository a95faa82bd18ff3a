//! `tch-mnist export`: a weights file in another format.

use super::session::WeightsFile;
use super::{Outcome, Verbosity};
use crate::error::UsageError;
use crate::model::{Kernels, Net};
use crate::observe::{log, say};
use crate::settings::NetSettings;
use crate::weights;
use anyhow::Result;
use std::path::PathBuf;
use tch::Device;

/// The flags of `export`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    weights: WeightsFile,
    /// The file to write; its ending is the format: .pt TorchScript, .pth state_dict, .safetensors, .onnx, .pt2, .npz
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    net: NetSettings,
}

/// Runs the command.
pub(super) fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let (to, dropout) = (&args.to, args.net.dropout);
    let name = weights::describe(to).map_err(|error| UsageError(format!("--to {error}")))?;
    let net = Net::new(Device::Cpu, dropout, Kernels::Torch);
    args.weights.load(&net)?;
    weights::write(to, &net.state_dict(), dropout, &weights::metadata(&args.weights.weights)?)?;
    let parameters: usize = net.parameters().map(|(_, tensor)| tensor.numel()).sum();
    let tensors = net.state_dict().0.len();
    say(format!("{}: {name}, {tensors} tensors, {parameters} parameters", to.display()))?;
    Ok(Outcome::Done)
}
