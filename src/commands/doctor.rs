//! `tch-mnist doctor`: what is found of libtorch, CUDA and the data, and what to do about what is not.

use super::{Outcome, version};
use crate::data::{Checksum, DEFAULT_FOLDER, Dataset, FileReport, Info, inspect, locate};
use crate::error::pasted;
use crate::libtorch::cuda::{self, Cuda, CudaDevice, Fault};
use crate::libtorch::{about, fused};
use crate::observe::{OutputArgs, OutputFormat, say};
use crate::settings::Settings;
use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Show which libtorch, CUDA devices and data files are found
#[derive(clap::Parser)]
#[command(name = "doctor")]
#[command(after_help = "It changes nothing, and its exit code is 0 whatever it finds: scripts read --format json, \
    where cuda.usable is true or false, and choices lists the allowed values of each setting that has a fixed set of them.")]
pub(super) struct Args {
    /// The folder with the four IDX files, or with one folder per dataset
    #[arg(long, default_value = DEFAULT_FOLDER, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub(super) fn run(args: Args, _: super::Verbosity) -> Result<Outcome> {
    let findings = Findings::gather(&args.data)?;
    match args.output.format {
        OutputFormat::Text => findings.text().iter().try_for_each(say)?,
        OutputFormat::Json => say(findings.json())?,
    }
    Ok(Outcome::Done)
}

/// Everything that is looked at.
struct Findings {
    libtorch: String,
    library: PathBuf,
    cpu_capability: String,
    /// For which the fused kernels are compiled and which the processor has; the first one is used.
    instruction_sets: Vec<&'static str>,
    /// What the system lets this process use: cores, less what a container or `taskset` takes away.
    cores: usize,
    /// What libtorch starts, unless `--threads` says otherwise.
    threads: i32,
    cuda: Cuda,
    /// The folder that `--data` names, and what is in it.
    root: PathBuf,
    data: Vec<(Dataset, PathBuf, Vec<FileReport>)>,
}

impl Findings {
    fn gather(data: &Path) -> Result<Findings> {
        Ok(Findings {
            libtorch: about::version()?,
            library: about::library()?,
            cpu_capability: about::cpu_capability()?,
            instruction_sets: fused::available_instruction_sets(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: tch::get_num_threads(),
            cuda: cuda::look(),
            root: data.to_path_buf(),
            data: datasets(data).into_iter().map(|it| (it, locate(data, it), inspect(data, it))).collect(),
        })
    }

    fn text(&self) -> Vec<String> {
        let mut lines = vec![
            format!("tch-mnist {}", version()),
            String::new(),
            field("libtorch", format_args!("{} in {}", self.libtorch, self.library.display())),
            field("CPU", format_args!("{}; {} cores, {} threads", self.cpu_capability, self.cores, self.threads)),
            field("fused kernels", format_args!("{}", self.instruction_sets.join(", "))),
        ];
        lines.extend(cuda_text(&self.cuda));
        for (dataset, folder, files) in &self.data {
            lines.push(String::new());
            lines.extend(data_text(&self.root, *dataset, folder, files));
        }
        lines
    }

    fn json(&self) -> Value {
        let data = self.data.iter().map(|(dataset, folder, files)| {
            let files = files.iter().map(|file| {
                json!({
                    "name": file.name, "path": file.path, "bytes": file.bytes, "count": file.count,
                    "checksum": file.checksum.to_string(), "ok": file.checksum.is_good(),
                })
            });
            json!({ "dataset": dataset, "folder": folder, "files": files.collect::<Vec<_>>() })
        });
        json!({
            "event": "doctor",
            "version": env!("CARGO_PKG_VERSION"),
            "tch": env!("TCH_MNIST_TCH_VERSION"),
            "libtorch": { "version": self.libtorch, "library": self.library },
            "cpu": {
                "capability": self.cpu_capability, "cores": self.cores, "threads": self.threads,
                "instruction_sets": self.instruction_sets,
            },
            "cuda": cuda_json(&self.cuda),
            "data": data.collect::<Vec<_>>(),
            "choices": Settings::choices(),
        })
    }
}

/// The datasets to look for in `data`: all, or the one whose files it holds itself.
fn datasets(data: &Path) -> Vec<Dataset> {
    if locate(data, Dataset::Mnist) != data {
        return Dataset::value_variants().to_vec();
    }
    let owner = inspect(data, Dataset::Mnist).iter().find_map(|file| match file.checksum {
        Checksum::Of(other) => Some(other),
        _ => None,
    });
    vec![owner.unwrap_or_default()]
}

fn field(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name:<14} {value}")
}

fn cuda_text(cuda: &Cuda) -> Vec<String> {
    let half = match (&cuda.runtime, &cuda.cudnn) {
        (None, _) if cuda.driver.is_none() => "not loaded: there is no driver".into(),
        (None, _) => "not loaded".into(),
        (Some(runtime), None) => format!("loaded: CUDA {runtime}, no cuDNN"),
        (Some(runtime), Some(cudnn)) => format!("loaded: CUDA {runtime}, cuDNN {cudnn}"),
    };
    let driver = cuda.driver.map_or("none (libcuda.so.1 cannot be opened)".into(), |it| format!("supports CUDA {it}"));
    let mut lines = vec![field("libtorch_cuda", half), field("NVIDIA driver", driver)];
    lines.extend(cuda.devices.iter().map(|device| field(&format!("cuda:{}", device.index), describe(device))));
    match &cuda.fault {
        None => lines.push(field("CUDA", "usable")),
        Some(fault) => {
            lines.push(field("CUDA", format_args!("not usable: {fault}")));
            lines.push(field("", format_args!("to do: {}", fault.remedy())));
        }
    }
    lines
}

/// `NVIDIA H200, 139.8 GiB, compute capability 9.0`
fn describe(device: &CudaDevice) -> String {
    let CudaDevice { name, total_memory, compute_capability: (major, minor), .. } = device;
    let gib = *total_memory as f64 / f64::from(1 << 30);
    format!("{name}, {gib:.1} GiB, compute capability {major}.{minor}")
}

fn cuda_json(cuda: &Cuda) -> Value {
    let devices = cuda.devices.iter().map(|device| {
        let (major, minor) = device.compute_capability;
        json!({
            "index": device.index, "name": device.name, "total_memory": device.total_memory,
            "compute_capability": format!("{major}.{minor}"),
        })
    });
    json!({
        "usable": cuda.fault.is_none(),
        "reason": cuda.fault.as_ref().map(Fault::to_string),
        "remedy": cuda.fault.as_ref().map(Fault::remedy),
        "runtime": cuda.runtime.map(|it| it.to_string()),
        "cudnn": cuda.cudnn,
        "driver": cuda.driver.map(|it| it.to_string()),
        "devices": devices.collect::<Vec<_>>(),
    })
}

fn data_text(root: &Path, dataset: Dataset, folder: &Path, files: &[FileReport]) -> Vec<String> {
    let imported = Info::read(folder).ok().flatten().map(|info| info.name);
    let name = imported.unwrap_or_else(|| dataset.to_string());
    if files.iter().all(|file| file.path.is_none()) {
        let elsewhere =
            if root == Path::new(DEFAULT_FOLDER) { String::new() } else { format!(" --data {}", pasted(root)) };
        let to_do = format!("tch-mnist download --dataset {dataset}{elsewhere}");
        return vec![field(&name, format_args!("not in {} ({to_do})", folder.display()))];
    }
    let mut lines = vec![field(&name, format_args!("in {}", folder.display()))];
    lines.extend(files.iter().map(|file| {
        let what = if file.name.contains("images") { "images" } else { "labels" };
        format!("  {:<25} {:>6} {what}, {}", file.name, file.count, file.checksum)
    }));
    lines
}
