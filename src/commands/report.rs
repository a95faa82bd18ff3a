//! `tch-mnist report`: the page of a run again, or one page that compares several.

use super::session::{self, Backend};
use super::{Outcome, Verbosity};
use crate::error::UsageError;
use crate::evaluate::Findings;
use crate::files::folder_of;
use crate::libtorch::cuda;
use crate::observe::say;
use crate::predict::Familiarity;
use crate::report::{comparison, write_run};
use crate::run_folder::RunFolder;
use crate::settings::{DeviceChoice, KernelsChoice};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use tch::Device;

/// Make the report of a run again, or compare several runs on one page
#[derive(clap::Parser)]
#[command(name = "report")]
pub(super) struct Args {
    /// The folder of a run; several folders make one page that compares them
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page that compares several runs [default: comparison.html beside the first]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The folder with the data [default: the run's]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N [default: the run's, if this machine has it]
    #[arg(long, value_name = "DEVICE", value_parser = DeviceChoice::read)]
    device: Option<DeviceChoice>,
}

/// Runs the command.
pub(super) fn run(args: Args, _: Verbosity) -> Result<Outcome> {
    match (&args.runs[..], &args.out) {
        ([run], None) => {
            let (page, plots) = report(run, &args)?;
            say(format!("{}: the report; its pictures are in {}", page.display(), plots.display()))?;
        }
        ([_], Some(_)) => {
            let text = "--out is for a page that compares several runs; a run's own report lies in its folder";
            bail!(UsageError(text.into()));
        }
        _ if args.data.is_some() || args.device.is_some() => {
            let text = "--data and --device are for the report of one run: a comparison reads the runs' folders alone";
            bail!(UsageError(text.into()));
        }
        (runs, out) => {
            let files = runs.iter().map(|run| RunFolder::read(run)).collect::<Result<Vec<_>>>()?;
            let path = out.clone().unwrap_or_else(|| folder_of(&runs[0]).join("comparison.html"));
            comparison(&files, &path)?;
            say(format!("{}: {} runs side by side", path.display(), runs.len()))?;
        }
    }
    Ok(Outcome::Done)
}

/// Makes the report of the run in `folder` from its files and the data, as `train` made it. Returns the page, and the
/// folder of its pictures.
fn report(folder: &Path, args: &Args) -> Result<(PathBuf, PathBuf)> {
    let run = RunFolder::read(folder)?;
    let mut settings = run.settings.clone();
    let device = settings.compute.device;
    let gone = matches!(device.device(), Device::Cuda(index) if index >= cuda::count());
    if gone || args.device.is_some() {
        settings.compute.device = args.device.unwrap_or(DeviceChoice::Auto);
        settings.compute.kernels = KernelsChoice::Auto;
    }
    if let Some(data) = &args.data {
        settings.data.source.data = data.clone();
    }
    let backend = Backend::of(&settings.compute)?;
    let net = run.net(|architecture| backend.net(architecture))?;
    let data = session::load_data(&settings, backend.device)?;
    if let Some(environment) = &run.environment {
        data.same_files(&environment.data, &settings.data.source.data, "the run was trained")?;
    }
    let familiarity = Familiarity::measure(&net, &data.train)?;
    let page = write_run(folder, &net, &Findings::of(&net, data.measured())?, familiarity.as_ref(), &data)?;
    Ok((page, run.folder.plots()))
}
