//! What a run was made with: the content of `environment.json`.

use crate::libtorch::{about, cuda};
use crate::model::Kernels;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Device;

/// Versions, device and data of the process that trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// The version of this program.
    pub(crate) program: String,
    /// The version of tch.
    pub(crate) tch: String,
    /// The version of the libtorch that was loaded.
    pub(crate) libtorch: String,
    /// `cpu`, or the GPU and its name.
    pub(crate) device: String,
    /// `torch` or `fused`.
    pub(crate) kernels: String,
    /// Whether training steps were replayed as a CUDA graph; false in the files of older versions.
    #[serde(default)]
    pub(crate) captured: bool,
    /// libtorch's CPU threads.
    pub(crate) threads: i32,
    /// The vector instructions that libtorch used on the CPU.
    pub(crate) cpu_capability: String,
    /// The operating system and the kind of processor.
    pub(crate) platform: String,
    /// When the process began to train, in local time.
    pub(crate) started: String,
    /// The SHA-256 of each data file, unpacked.
    pub(crate) data: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process, which computes on `device` from files with these `checksums`.
    pub(crate) fn of(
        device: Device,
        kernels: Kernels,
        captured: bool,
        checksums: &BTreeMap<String, String>,
    ) -> Result<Environment> {
        Ok(Environment {
            program: env!("CARGO_PKG_VERSION").into(),
            tch: env!("TCH_MNIST_TCH_VERSION").into(),
            libtorch: about::version()?,
            device: cuda::name(device),
            kernels: kernels.to_string(),
            captured,
            threads: tch::get_num_threads(),
            cpu_capability: about::cpu_capability()?,
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            started: jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S %z").to_string(),
            data: checksums.clone(),
        })
    }
}
