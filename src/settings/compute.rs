//! Where and how to compute.

use super::Role;
use crate::error::Expected;
use crate::flags::{any, within};
use crate::libtorch::cuda;
use clap::ValueEnum;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};
use tch::Device;

/// The most threads: more than any processor has cores, and few enough to be started at once.
pub(crate) const MOST_THREADS: i32 = 512;

/// Where to compute, for every command that does.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct Compute {
    /// auto, cpu, cuda or cuda:N; gpu is another name of cuda
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = DeviceChoice::read, add = Role::Incidental)]
    pub device: DeviceChoice,
    /// CPU threads; 0: one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within("a whole number", 0i32..=MOST_THREADS), add = Role::Incidental)]
    pub threads: i32,
    /// Which kernels to use
    #[arg(long, value_enum, value_name = "KERNELS", default_value_t = KernelsChoice::Auto, add = Role::MayChange)]
    pub kernels: KernelsChoice,
}

/// How a GPU computes.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize)]
pub struct CudaSettings {
    /// The precision of the convolutions
    #[arg(long, hide_short_help = true, value_enum, value_name = "FORMAT", default_value_t = Precision::Float32, add = Role::MayChange)]
    pub precision: Precision,
    /// Whether training steps on CUDA are launched as CUDA graphs
    #[arg(long, hide_short_help = true, value_enum, value_name = "WHEN", default_value_t = CudaGraph::Auto, add = Role::MayChange)]
    pub cuda_graph: CudaGraph,
    /// The most training steps in one CUDA graph
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 10, value_parser = within("a whole number", 1i64..=100), add = Role::Incidental)]
    pub steps_per_graph: i64,
}

/// Whose kernels are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelsChoice {
    /// fused on a CPU, torch on CUDA
    Auto,
    /// libtorch's, one operation per layer: the same bits as PyTorch
    Torch,
    /// This program's own for the CPU, one operation per block: several times faster
    Fused,
}

/// The precision of the convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// float32 throughout
    Float32,
    /// CUDA only: float32 rounded to TF32 before it is multiplied, PyTorch's default
    Tf32,
    /// CUDA only: training steps under autocast to bfloat16; the test in float32
    Bf16,
}

/// Whether steps on CUDA are launched as graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CudaGraph {
    /// If it is possible, with a warning if it is not
    Auto,
    /// Always: a run that cannot is an error
    On,
    /// Never: one kernel at a time
    Off,
}

/// `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index.
    Cuda(usize),
    /// The same, by the name `gpu`.
    Gpu(usize),
}

impl DeviceChoice {
    /// Reads one from the command line.
    pub(crate) fn read(text: &str) -> Result<DeviceChoice, Expected> {
        any("auto, cpu, cuda or cuda:N")(&text.to_lowercase())
    }

    /// The device that it stands for on this machine; one that it names may not be there.
    pub(crate) fn device(self) -> Device {
        match self {
            DeviceChoice::Auto if cuda::count() > 0 => Device::Cuda(0),
            DeviceChoice::Auto | DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda(index) | DeviceChoice::Gpu(index) => Device::Cuda(index),
        }
    }

    /// The name of a GPU that was given.
    pub(crate) fn gpu_name(self) -> &'static str {
        if matches!(self, DeviceChoice::Gpu(_)) { "gpu" } else { "cuda" }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = ();

    fn from_str(text: &str) -> Result<DeviceChoice, ()> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            "gpu" => Ok(DeviceChoice::Gpu(0)),
            _ => match text.split_once(':').ok_or(())? {
                ("cuda", index) => index.parse().map(DeviceChoice::Cuda).map_err(|_| ()),
                ("gpu", index) => index.parse().map(DeviceChoice::Gpu).map_err(|_| ()),
                _ => Err(()),
            },
        }
    }
}

impl Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(index) | DeviceChoice::Gpu(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
