//! `tch-mnist report`: the page of a run again, or one page that compares several.

use super::{Outcome, UsageError, Verbosity, say};
use crate::config::{DeviceChoice, KernelsChoice};
use crate::data;
use crate::device;
use crate::evaluate::Findings;
use crate::files::folder_of;
use crate::model::Net;
use crate::report::run::RunFiles;
use crate::report::{log, write};
use crate::train::Checkpoint;
use crate::weights;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use tch::Cuda;

/// The flags of `report`.
#[derive(clap::Args)]
pub struct Args {
    /// The folder of a run; of several, one page that compares them is made
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page that compares several runs [default: comparison.html beside the first]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the data lie [default: as the run says]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N [default: as the run says, when it is there]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,
}

/// Runs the command.
pub fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    match (&args.runs[..], &args.out) {
        ([run], None) => {
            let path = report(run, &args)?;
            say(format!("{}: the report; its pictures are in {}", path.display(), run.join("plots").display()))?;
        }
        ([_], Some(_)) => {
            let text = "--out is for a page that compares several runs; a run's own report lies in its folder";
            return Err(UsageError(text.into()).into());
        }
        (runs, out) => {
            let files = runs.iter().map(|run| RunFiles::read(run)).collect::<Result<Vec<_>>>()?;
            let path = out.clone().unwrap_or_else(|| folder_of(&runs[0]).join("comparison.html"));
            write::comparison(&files, &path)?;
            say(format!("{}: {} runs side by side", path.display(), runs.len()))?;
        }
    }
    Ok(Outcome::Done)
}

/// Makes the report of the run in `folder` from its files and the data, as `train` made it.
fn report(folder: &Path, args: &Args) -> Result<PathBuf> {
    let run = RunFiles::read(folder)?;
    let mut config = run.config.clone();
    let gone = matches!(config.device, DeviceChoice::Cuda(index) if (index as i64) >= Cuda::device_count());
    if gone || args.device.is_some() {
        config.device = args.device.unwrap_or(DeviceChoice::Auto);
        config.kernels = KernelsChoice::Auto;
    }
    if let Some(data) = &args.data {
        config.data = data.clone();
    }
    let compute = device::resolve(&mut config)?;
    let net = Net::new(compute.device, config.dropout, compute.kernels);
    // What a run that goes on again left of its earlier end is older than its checkpoint.
    let (model, checkpoint) = (folder.join("model.safetensors"), folder.join("checkpoint.safetensors"));
    match run.is_done() && model.exists() {
        true => weights::load(&model, &net)?,
        false => Checkpoint::read(&checkpoint)?.load(&net)?,
    }
    let data = data::load_for(&config, compute.device)?.hold_out(config.validation, config.seed)?;
    for (file, checksum) in run.environment.iter().flat_map(|environment| &environment.data) {
        ensure!(
            data.checksums.get(file) == Some(checksum),
            "{file} in {} is not the file that the run was trained with: its SHA-256 differs",
            config.data.display()
        );
    }
    write::run(folder, &Findings::of(&net, data.measured())?, &data)
}
