//! `tch-mnist download`.

use super::Outcome;
use anyhow::Result;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _verbosity: super::Verbosity) -> Result<Outcome> {
    Ok(Outcome::Done)
}
