//! Where a command without settings of a run computes: flags that it shares with others.

use super::UsageError;
use crate::config::{Compute, Config, DeviceChoice, KernelsChoice};
use crate::device;
use anyhow::Result;

/// The flags.
#[derive(clap::Args)]
pub struct ComputeArgs {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
    /// CPU threads; 0: one a core
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    threads: i32,
    /// Whose kernels compute
    #[arg(long, value_enum, value_name = "WHOSE", default_value = "auto")]
    kernels: KernelsChoice,
}

impl ComputeArgs {
    /// What they come to, as [`device::resolve`] has it.
    ///
    /// # Errors
    ///
    /// A [`UsageError`] for fewer than 0 threads, and those of [`device::resolve`].
    pub fn resolve(&self) -> Result<Compute> {
        let ComputeArgs { device, threads, kernels } = *self;
        if threads < 0 {
            return Err(UsageError(format!("--threads takes a whole number from 0 up, not {threads}")).into());
        }
        device::resolve(&mut Config { device, threads, kernels, ..Config::default() })
    }
}
