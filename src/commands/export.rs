//! `tch-mnist export`: a weights file in another format.

use super::{Outcome, Verbosity};
use crate::error::UsageError;
use crate::model::{Kernels, Net};
use crate::observe::{log, say};
use crate::settings::NetSettings;
use crate::weights::{self, Format};
use anyhow::{Result, bail};
use std::path::PathBuf;
use tch::Device;

/// The flags of `export`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The weights: a .pt, .pth or .safetensors file, written here or in Python
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// The file to write: .pt a TorchScript module, .pth a state_dict, .safetensors
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    net: NetSettings,
}

/// Runs the command.
pub(super) fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let Args { weights: from, to, net: NetSettings { dropout } } = args;
    let Some(format) = Format::of(&to) else {
        bail!(UsageError(format!("--to {} does not end in {}", to.display(), Format::ENDINGS)));
    };
    let net = Net::new(Device::Cpu, dropout, Kernels::Torch);
    weights::load(&from, &net)?;
    weights::write(&to, &net.state_dict(), dropout, &weights::metadata(&from)?)?;
    let parameters: usize = net.parameters().map(|(_, tensor)| tensor.numel()).sum();
    let tensors = net.state_dict().0.len();
    say(format!("{}: {}, {tensors} tensors, {parameters} parameters", to.display(), format.describe()))?;
    Ok(Outcome::Done)
}
