//! `tch-mnist export`: a weights file in another format.

use super::session::{Backend, OnlyFile, Weights};
use super::{Outcome, Verbosity};
use crate::error::UsageError;
use crate::observe::say;
use crate::settings::{NetSettings, within};
use crate::weights::{self, WeightsFile};
use anyhow::Result;
use std::path::PathBuf;

/// Convert a weights file to another format
#[derive(clap::Parser)]
#[command(name = "export", override_usage = "tch-mnist export [OPTIONS] --to <FILE> <WEIGHTS>")]
pub(super) struct Args {
    #[command(flatten)]
    file: OnlyFile,
    #[command(flatten)]
    weights: Weights,
    #[arg(long, value_name = "FILE", help = format!("The file to write; its ending is the format: {}", weights::endings()))]
    to: PathBuf,
    /// The dropout rate, for weights that do not record it
    #[arg(long, value_name = "X", default_value_t = NetSettings::DROPOUT, value_parser = within("a share", 0.0..1.0))]
    dropout: f64,
}

/// Runs the command.
pub(super) fn run(mut args: Args, _: Verbosity) -> Result<Outcome> {
    args.weights.take(args.file);
    let to = &args.to;
    let format = weights::named(to).map_err(|error| UsageError(format!("--to {error}")))?;
    let (net, file) = args.weights.load(&Backend::PLAIN, args.dropout)?;
    weights::write(to, &net.state_dict(), net.architecture(), &weights::metadata_of(&file))?;
    let (tensors, parameters) = WeightsFile::open(to)?.counts();
    say(format!("{}: {}, {tensors} tensors, {parameters} parameters", to.display(), format.title))?;
    Ok(Outcome::Done)
}
