//! Why CUDA is used or not: libtorch's CUDA half, NVIDIA's driver, the devices.

use super::{LIBTORCH_VERSION, about, check};
use anyhow::Result;
use std::ffi::{CStr, c_char, c_int};
use std::fmt::Display;
use tch::Device;

/// `struct tm_Driver` of `cuda.cpp`.
#[repr(C)]
struct RawDriver {
    found: c_int,
    version: c_int,
    result: c_int,
    devices: c_int,
    text: [c_char; 256],
}

/// `struct tm_Device` of `cuda.cpp`.
#[repr(C)]
struct RawDevice {
    name: [c_char; 256],
    total_memory: u64,
    major: c_int,
    minor: c_int,
}

/// `struct tm_Half` of `cuda.cpp`.
#[repr(C)]
struct RawHalf {
    loaded: c_int,
    runtime: i64,
    cudnn: i64,
    text: [c_char; 256],
}

unsafe extern "C" {
    fn tm_cuda_driver(out: *mut RawDriver) -> *mut c_char;
    fn tm_cuda_device(index: c_int, out: *mut RawDevice) -> *mut c_char;
    fn tm_cuda_half(out: *mut RawHalf) -> *mut c_char;
    fn tm_cuda_set_device(index: c_int) -> *mut c_char;
}

/// A version in CUDA's form: 1000 * major + 10 * minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CudaVersion(pub i64);

impl CudaVersion {
    fn major(self) -> i64 {
        self.0 / 1000
    }
}

impl Display for CudaVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major(), self.0 % 1000 / 10)
    }
}

/// A GPU that the driver lists.
#[derive(Clone, Debug)]
pub struct CudaDevice {
    /// The number after `cuda:`.
    pub index: usize,
    /// Such as `NVIDIA H200`.
    pub name: String,
    /// Bytes.
    pub total_memory: u64,
    /// Such as (9, 0).
    pub compute_capability: (i32, i32),
}

/// The state of CUDA, from libtorch down to the devices.
#[derive(Clone, Debug)]
pub struct Cuda {
    /// The CUDA that libtorch_cuda was built for; `None` if libtorch_cuda is not loaded, as without a driver.
    pub runtime: Option<CudaVersion>,
    /// The cuDNN that is loaded, such as `9.19.0`.
    pub cudnn: Option<String>,
    /// The newest CUDA that the driver supports; `None` without a driver.
    pub driver: Option<CudaVersion>,
    /// In the order of `cuda:0`, `cuda:1`, ..., without those that CUDA_VISIBLE_DEVICES hides.
    pub devices: Vec<CudaDevice>,
    /// Why libtorch cannot use a device, if it cannot.
    pub fault: Option<Fault>,
}

/// Why CUDA cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// libtorch has no CUDA half.
    CpuBuild,
    /// libtorch_cuda is beside libtorch, and there is a driver, but it cannot be loaded.
    NotLoaded { reason: String },
    /// libcuda.so.1 cannot be opened; `gpu` says whether the machine has an NVIDIA GPU.
    NoDriver { reason: String, gpu: bool },
    /// The driver supports only an older major release of CUDA than libtorch needs.
    OldDriver { driver: CudaVersion, runtime: CudaVersion },
    /// The driver works but lists no device; `hidden_by` is CUDA_VISIBLE_DEVICES, if it is set.
    NoDevice { hidden_by: Option<String> },
    /// The driver does not start.
    Driver { code: i32, text: String },
    /// Anything else.
    Other(String),
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::CpuBuild => f.write_str("no libtorch_cuda next to libtorch (CPU build)"),
            Fault::NotLoaded { .. } => f.write_str("libtorch_cuda lies next to libtorch, but cannot be loaded"),
            Fault::NoDriver { gpu: true, .. } => {
                f.write_str("an NVIDIA GPU, but no driver: libcuda.so.1 cannot be opened")
            }
            Fault::NoDriver { gpu: false, .. } => f.write_str("no NVIDIA GPU, no driver (libcuda.so.1)"),
            Fault::OldDriver { driver, runtime } => {
                write!(f, "the driver supports CUDA {driver} and libtorch needs {runtime}")
            }
            Fault::NoDevice { hidden_by: Some(value) } => {
                write!(f, "driver found, no device: CUDA_VISIBLE_DEVICES is '{value}'")
            }
            Fault::NoDevice { hidden_by: None } => f.write_str("driver found, no device"),
            Fault::Driver { code, text } => write!(f, "the driver does not start: {text} (cuInit: {code})"),
            Fault::Other(text) => f.write_str(text),
        }
    }
}

impl Fault {
    /// What a person can do about it, in one sentence.
    pub fn remedy(&self) -> String {
        match self {
            Fault::CpuBuild => format!(
                "to use a GPU, unset LIBTORCH and run TCH_MNIST_TORCH=cuda scripts/setup, or set LIBTORCH to a \
                 libtorch {LIBTORCH_VERSION} with CUDA, then build again"
            ),
            Fault::NotLoaded { reason } => format!("install what is missing ({reason})"),
            Fault::NoDriver { gpu: true, reason } => format!(
                "install NVIDIA's driver, or in a container start it with the GPU (docker run --gpus all) ({reason})"
            ),
            Fault::NoDriver { gpu: false, .. } => {
                "nothing, unless this machine should have one; in a container, start \
                 it with the GPU (docker run --gpus all)"
                    .into()
            }
            Fault::OldDriver { runtime, .. } => format!(
                "update NVIDIA's driver to one that nvidia-smi shows with CUDA {} or later, or set LIBTORCH to a \
                 libtorch {LIBTORCH_VERSION} for an older CUDA and build again",
                runtime.major()
            ),
            Fault::NoDevice { hidden_by: Some(_) } => {
                "unset CUDA_VISIBLE_DEVICES, or name a GPU that nvidia-smi -L lists".into()
            }
            Fault::NoDevice { hidden_by: None } => {
                "see whether nvidia-smi -L lists a GPU; in a container, start it with one (docker run --gpus all)"
                    .into()
            }
            Fault::Driver { .. } => {
                "see whether nvidia-smi works; after an update of the driver, restart the machine; \
                 in a container, /dev/nvidia-uvm must be there"
                    .into()
            }
            Fault::Other(_) => "see whether nvidia-smi works".into(),
        }
    }
}

/// Looks at everything between this program and a GPU. Where there is a driver, it is initialised; no device is.
pub fn look() -> Cuda {
    let mut cuda = Cuda { runtime: None, cudnn: None, driver: None, devices: Vec::new(), fault: None };
    cuda.fault = look_into(&mut cuda).unwrap_or_else(|error| Some(Fault::Other(format!("{error:#}"))));
    cuda
}

/// Fills `cuda` as far as there is something, and returns what stopped it.
fn look_into(cuda: &mut Cuda) -> Result<Option<Fault>> {
    // SAFETY: all zeros is a valid value of these numbers and bytes.
    let mut half: RawHalf = unsafe { std::mem::zeroed() };
    // SAFETY: `tm_cuda_half` fills the struct, which is laid out as its own.
    unsafe { check(tm_cuda_half(&mut half))? };
    let (runtime, cudnn) = (CudaVersion(half.runtime), half.cudnn);
    if half.loaded != 0 {
        cuda.runtime = Some(runtime);
        cuda.cudnn = (cudnn != 0).then(|| format!("{}.{}.{}", cudnn / 10_000, cudnn / 100 % 100, cudnn % 100));
    }

    // SAFETY: all zeros is a valid value of these numbers and bytes.
    let mut driver: RawDriver = unsafe { std::mem::zeroed() };
    // SAFETY: `tm_cuda_driver` fills the struct, which is laid out as its own.
    unsafe { check(tm_cuda_driver(&mut driver))? };
    if driver.found != 0 {
        cuda.driver = Some(CudaVersion(driver.version.into()));
    }
    for index in 0..driver.devices {
        cuda.devices.push(device(index)?);
    }

    let hidden_by = || std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let beside = about::library()?.with_file_name("libtorch_cuda.so").exists();
    Ok(if half.loaded == 0 && !beside {
        Some(Fault::CpuBuild)
    } else if driver.found == 0 {
        Some(Fault::NoDriver { reason: text(&driver.text), gpu: has_nvidia_gpu() })
    } else if half.loaded == 0 {
        Some(Fault::NotLoaded { reason: text(&half.text) })
    } else if i64::from(driver.version) / 1000 < runtime.major() {
        // Within a major release every driver supports every runtime.
        Some(Fault::OldDriver { driver: CudaVersion(driver.version.into()), runtime })
    } else if driver.result == CUDA_ERROR_NO_DEVICE || (driver.result == 0 && driver.devices == 0) {
        Some(Fault::NoDevice { hidden_by: hidden_by() })
    } else if driver.result != 0 {
        Some(Fault::Driver { code: driver.result, text: text(&driver.text) })
    } else if !tch::Cuda::is_available() {
        Some(Fault::Other("the driver offers a device, but libtorch cannot use it".into()))
    } else {
        None
    })
}

/// `CUresult` of cuda.h.
const CUDA_ERROR_NO_DEVICE: c_int = 100;

/// How many GPUs libtorch can use.
pub fn count() -> usize {
    if tch::Cuda::is_available() { tch::Cuda::device_count() as usize } else { 0 }
}

/// The devices that the driver lists; empty without a driver.
pub fn devices() -> Vec<CudaDevice> {
    look().devices
}

/// `cpu` or `cuda:0`, as `--device` takes it.
pub fn flag_value(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".into(),
    }
}

/// `cpu`, or the GPU and its name, such as `cuda:0, NVIDIA H200`.
pub fn name(device: Device) -> String {
    let Device::Cuda(index) = device else { return flag_value(device) };
    let known = devices().into_iter().find(|device| device.index == index);
    format!("{}, {}", flag_value(device), known.map(|device| device.name).unwrap_or_default())
}

/// Makes the GPU `index` the one that this thread uses unless another is named, as `torch.cuda.set_device`. Otherwise
/// that is `cuda:0`, where libtorch would then take memory too.
pub fn use_device(index: usize) -> Result<()> {
    // SAFETY: sets a number of this thread, or returns why it cannot.
    unsafe { check(tm_cuda_set_device(index as c_int)) }
}

/// Why CUDA cannot be used, in one clause without a full stop; `usable` if it can.
pub fn why_not() -> String {
    look().fault.map_or_else(|| "usable".into(), |fault| fault.to_string())
}

fn device(index: c_int) -> Result<CudaDevice> {
    // SAFETY: all zeros is a valid value of these numbers and bytes.
    let mut raw: RawDevice = unsafe { std::mem::zeroed() };
    // SAFETY: `tm_cuda_device` fills the struct, which is laid out as its own.
    unsafe { check(tm_cuda_device(index, &mut raw))? };
    Ok(CudaDevice {
        index: index as usize,
        name: text(&raw.name),
        total_memory: raw.total_memory,
        compute_capability: (raw.major, raw.minor),
    })
}

/// The text in a buffer of the C side, which leaves at least the last byte zero.
fn text(buffer: &[c_char]) -> String {
    // SAFETY: the buffers are zeroed first and never filled to their last byte.
    unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_string_lossy().into_owned()
}

/// Whether a display controller on the PCI bus is NVIDIA's, driver or not.
fn has_nvidia_gpu() -> bool {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let devices = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    devices.map(|device| device.path()).any(|device| {
        // PCI: vendor 10de is NVIDIA, class 03 is a display controller.
        read(device.join("vendor")).trim() == "0x10de" && read(device.join("class")).starts_with("0x03")
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_gpu_that_is_not_there_cannot_be_used() {
        assert!(super::use_device(99).is_err());
    }
}
