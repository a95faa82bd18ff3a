//! `tch-mnist summary`: the layers as a table.

use super::{Outcome, say};
use crate::model::{Kernels, Net};
use crate::summary::table;
use anyhow::Result;
use tch::Device;

/// The command has no flags.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: Args) -> Result<Outcome> {
    say(table(&Net::new(Device::Cpu, 0.05, Kernels::Torch), Device::Cpu))?;
    Ok(Outcome::Done)
}
