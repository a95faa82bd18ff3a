//! What a run was made with: `environment.json` in its folder.

use crate::config::Compute;
use crate::files::write_atomically;
use crate::libtorch::{about, cuda};
use crate::model::Kernels;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Device;

/// Versions, device and data of the process that trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The version of this program.
    pub program: String,
    /// The version of tch.
    pub tch: String,
    /// The version of the libtorch that was loaded.
    pub libtorch: String,
    /// `cpu`, or the GPU and its name.
    pub device: String,
    /// `torch` or `fused`.
    pub kernels: String,
    /// libtorch's CPU threads.
    pub threads: i32,
    /// The vector instructions that libtorch used on the CPU.
    pub cpu_capability: String,
    /// The operating system and the kind of processor.
    pub platform: String,
    /// When the process began to train, in local time.
    pub started: String,
    /// The SHA-256 of each data file, unpacked.
    pub data: BTreeMap<String, String>,
}

impl Environment {
    const NAME: &str = "environment.json";

    /// The environment of this process, which computes on `compute` from files with these `checksums`.
    ///
    /// # Errors
    ///
    /// When libtorch does not tell its version.
    pub fn of(compute: &Compute, checksums: &BTreeMap<String, String>) -> Result<Environment> {
        let device = match compute.device {
            Device::Cuda(index) => {
                let known = cuda::devices().into_iter().find(|device| device.index == index);
                format!("cuda:{index}, {}", known.map(|device| device.name).unwrap_or_default())
            }
            _ => "cpu".into(),
        };
        Ok(Environment {
            program: env!("CARGO_PKG_VERSION").into(),
            tch: env!("TCH_MNIST_TCH_VERSION").into(),
            libtorch: about::version()?,
            device,
            kernels: if compute.kernels == Kernels::Fused { "fused".into() } else { "torch".into() },
            threads: tch::get_num_threads(),
            cpu_capability: about::cpu_capability()?,
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            started: jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S %z").to_string(),
            data: checksums.clone(),
        })
    }

    /// Writes the file into `folder`.
    ///
    /// # Errors
    ///
    /// When the folder is gone or read-only, or the disk is full.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        write_atomically(&folder.join(Self::NAME), |path| Ok(std::fs::write(path, text + "\n")?))
    }

    /// Reads the file from `folder`; none when there is none.
    ///
    /// # Errors
    ///
    /// When it is there and damaged.
    pub fn read(folder: &Path) -> Result<Option<Environment>> {
        let path = folder.join(Self::NAME);
        if !path.exists() {
            return Ok(None);
        }
        let read = || -> Result<_> { Ok(serde_json::from_str(&std::fs::read_to_string(&path)?)?) };
        read().with_context(|| format!("{} is damaged", path.display())).map(Some)
    }
}
