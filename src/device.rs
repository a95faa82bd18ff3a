//! Where to compute, by whose kernels, and why.

use crate::cli::UsageError;
use crate::config::{Compute, Config, DeviceChoice, KernelsChoice, Precision};
use crate::libtorch::{cuda, precision};
use crate::model::Kernels;
use anyhow::{Result, ensure};
use clap::ValueEnum;
use tch::{Cuda, Device};

/// Resolves `auto` in `config`, sets libtorch's threads and precision, and writes what was chosen back into it.
///
/// # Errors
///
/// When CUDA was asked for and is not there, `--kernels fused` on CUDA, or a `--precision` that only CUDA has.
pub fn resolve(config: &mut Config) -> Result<Compute> {
    let device = choose(config.device)?;
    if config.threads > 0 {
        tch::set_num_threads(config.threads);
    }
    config.threads = tch::get_num_threads();
    let kernels = match (config.kernels, device.is_cuda()) {
        (KernelsChoice::Torch, _) | (KernelsChoice::Auto, true) => Kernels::Torch,
        (KernelsChoice::Auto | KernelsChoice::Fused, false) => Kernels::Fused,
        (KernelsChoice::Fused, true) => {
            anyhow::bail!("--kernels fused are for a CPU: use --kernels torch, or --device cpu")
        }
    };
    if config.precision != Precision::Float32 && !device.is_cuda() {
        let value = config.precision.to_possible_value().expect("no value is hidden");
        return Err(UsageError(format!(
            "--precision {} needs CUDA: leave it out, or use --device cuda",
            value.get_name()
        ))
        .into());
    }
    precision::deterministic_cudnn()?;
    precision::allow_tf32(config.precision == Precision::Tf32)?;
    config.device = match device {
        Device::Cuda(index) => DeviceChoice::Cuda(index),
        _ => DeviceChoice::Cpu,
    };
    config.kernels = match kernels {
        Kernels::Torch => KernelsChoice::Torch,
        Kernels::Fused => KernelsChoice::Fused,
    };
    Ok(Compute { device, kernels })
}

/// The device that `choice` names.
///
/// # Errors
///
/// When it is a GPU that is not there.
pub fn choose(choice: DeviceChoice) -> Result<Device> {
    let count = || if Cuda::is_available() { Cuda::device_count() } else { 0 };
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(if count() > 0 { Device::Cuda(0) } else { Device::Cpu }),
        DeviceChoice::Cuda(index) => {
            let count = count();
            ensure!(
                count > 0,
                "--device cuda: no CUDA device is there ({}; tch-mnist doctor says more); use --device auto or cpu",
                cuda::why_not()
            );
            ensure!((index as i64) < count, "--device cuda:{index}: the last of {count} GPUs is cuda:{}", count - 1);
            Ok(Device::Cuda(index))
        }
    }
}

/// The device and why, for the first line of a run that asked for `asked`.
pub fn describe(compute: &Compute, asked: DeviceChoice) -> String {
    match compute.device {
        Device::Cuda(index) => {
            let name = cuda::devices().into_iter().find(|device| device.index == index).map(|device| device.name);
            format!("cuda:{index}, {}", name.unwrap_or_default())
        }
        _ => {
            let kernels = format!("{:?}", compute.kernels).to_lowercase();
            let why = match asked {
                DeviceChoice::Auto => format!("CUDA is not usable: {}", cuda::why_not()),
                _ => "as asked".to_string(),
            };
            format!("cpu, {} threads, {kernels} kernels ({why})", tch::get_num_threads())
        }
    }
}
