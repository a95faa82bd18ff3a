//! What a setting may be, where it is one of a few words.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The schedules of `torch.optim.lr_scheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// StepLR: multiplied by --gamma after every --step-size epochs
    Step,
    /// CosineAnnealingLR: down to 0 over all epochs, once an epoch
    Cosine,
    /// OneCycleLR: up to --lr over the first --pct-start of the steps, then down, once a step
    OneCycle,
    /// The same rate throughout
    Constant,
}

/// Whose kernels are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelsChoice {
    /// fused on a CPU, torch on CUDA
    Auto,
    /// libtorch's, one operation a layer: the same bits as PyTorch
    Torch,
    /// This program's for the CPU, one operation a block: several times faster
    Fused,
}

/// How precisely convolutions multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// float32 throughout
    Float32,
    /// CUDA only: float32 rounded to TF32 before it is multiplied, PyTorch's default
    Tf32,
    /// CUDA only: training steps under autocast to bfloat16; the test in float32
    Bf16,
}

/// Whether a step on CUDA is launched as one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CudaGraph {
    /// Where it is possible
    Auto,
    /// Never: one kernel at a time
    Off,
}

/// Where to compute: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU when there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this index.
    Cuda(usize),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceChoice, String> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => match text.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
                Some(index) => Ok(DeviceChoice::Cuda(index)),
                None => Err(format!("expected auto, cpu, cuda or cuda:N, not {text}")),
            },
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<DeviceChoice, String> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(device: DeviceChoice) -> String {
        match device {
            DeviceChoice::Auto => "auto".into(),
            DeviceChoice::Cpu => "cpu".into(),
            DeviceChoice::Cuda(index) => format!("cuda:{index}"),
        }
    }
}
