//! `tch-mnist export`: a weights file in another format.

use super::session::{Backend, Weights};
use super::{Outcome, Verbosity};
use crate::error::UsageError;
use crate::observe::{log, say};
use crate::settings::{NetSettings, within};
use crate::weights;
use anyhow::Result;
use std::path::PathBuf;

/// Convert a weights file to another format
#[derive(clap::Parser)]
#[command(name = "export")]
pub(super) struct Args {
    #[command(flatten)]
    weights: Weights,
    /// The file to write; its ending is the format: .pt TorchScript, .pth state_dict, .safetensors, .onnx, .pt2, .npz
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The dropout rate, for weights that do not record it
    #[arg(long, value_name = "X", default_value_t = NetSettings::DROPOUT, value_parser = within("a share", 0.0..1.0))]
    dropout: f64,
}

/// Runs the command.
pub(super) fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let to = &args.to;
    let name = weights::describe(to).map_err(|error| UsageError(format!("--to {error}")))?;
    let (net, file) = args.weights.load(&Backend::PLAIN, args.dropout)?;
    weights::write(to, &net.state_dict(), net.architecture(), file.metadata())?;
    let parameters: usize = net.parameters().map(|(_, tensor)| tensor.numel()).sum();
    let tensors = net.state_dict().0.len();
    say(format!("{}: {name}, {tensors} tensors, {parameters} parameters", to.display()))?;
    Ok(Outcome::Done)
}
