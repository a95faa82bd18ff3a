//! Memory that runs out, as libtorch and NVIDIA's libraries say it.

/// What their messages contain, in lower case.
const SAYINGS: [&str; 7] = [
    // libtorch's allocators: `CUDA out of memory. Tried to allocate ..`, `DefaultCPUAllocator: can't allocate memory`.
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    // CUBLAS_STATUS_ALLOC_FAILED, CUSOLVER_STATUS_ALLOC_FAILED, and those of cuDNN 9:
    // CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED and .._DEVICE_ALLOCATION_FAILED.
    "alloc_failed",
    "allocation_failed",
    // A convolution tries one engine after the other, and forgets that each of them lacked memory.
    "unable to find an engine",
    // cuBLAS and cuDNN when they start and cannot allocate their workspace. The device works: the data are on it.
    "status_not_initialized",
];

/// Whether a message of libtorch says that memory ran out, on a GPU or on a CPU.
pub fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    SAYINGS.iter().any(|saying| message.contains(saying))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn an_error_of_memory_is_told_from_others() {
        let error = |size: i64| Tensor::f_zeros([size], (Kind::Float, Device::Cpu)).unwrap_err().to_string();
        assert!(is_out_of_memory(&error(1 << 50)), "{}", error(1 << 50));
        assert!(!is_out_of_memory(&error(-1)), "{}", error(-1));
        for message in [
            "CUDA out of memory. Tried to allocate 20.00 MiB.",
            "CUDA error: out of memory",
            "GET was unable to find an engine to execute this computation",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
            "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
            "std::bad_alloc",
        ] {
            assert!(is_out_of_memory(message), "{message}");
        }
        assert!(!is_out_of_memory("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"));
    }
}
