// The parts of cuBLAS, cuDNN and cuSOLVER that a training step calls. A call that computes is a launch like that of a kernel;
// the others succeed. FAKE_FAIL gives a function of these libraries the status that it returns.
#include "log.h"
#include <cstdlib>
#include <cstring>
#include <cudnn.h>
#include <map>
using std::string;

static std::map<const void *, cudaStream_t> streams;

static int compute(const void *handle, const char *function) {
    LOCK;
    if (int status = stand_in::injected(function)) return status;
    return stand_in::launch("library", function, "", streams[handle]) ? CUDNN_STATUS_EXECUTION_FAILED : 0;
}

// The parameters after those that matter are left out: the caller of a C function removes its arguments. An own name in
// C++ keeps the declarations of a header from getting in the way.
#define NAMED(type, name, ...) API type own_##name(__VA_ARGS__) __asm__(#name); API type own_##name(__VA_ARGS__)
#define COMPUTES(name) NAMED(int, name, void *handle) { return compute(handle, #name); }
#define SUCCEEDS(name) NAMED(int, name) { return 0; }
#define CREATES(name) NAMED(int, name, void **out) { return *out = calloc(1, 64), stand_in::injected(#name); }
#define TAKES_STREAM(name)                                                                                             \
    NAMED(int, name, void *handle, cudaStream_t stream) {                                                              \
        LOCK;                                                                                                          \
        streams[handle] = stream;                                                                                      \
        return 0;                                                                                                      \
    }

// ---- cuBLAS

CREATES(cublasCreate_v2)
TAKES_STREAM(cublasSetStream_v2)
SUCCEEDS(cublasSetWorkspace_v2)
SUCCEEDS(cublasSetMathMode)
COMPUTES(cublasSgemm_v2)

// ---- cuSOLVER: eigenvectors and QR decompositions of SOAP

CREATES(cusolverDnCreate)
TAKES_STREAM(cusolverDnSetStream)
CREATES(cusolverDnCreateSyevjInfo)
SUCCEEDS(cusolverDnDestroySyevjInfo)
COMPUTES(cusolverDnSsyevj)
COMPUTES(cusolverDnXsyevd)
COMPUTES(cusolverDnXgeqrf)
COMPUTES(cusolverDnSorgqr)
// The workspaces that they ask for, in bytes on the device and on the host, or in numbers.
NAMED(int, cusolverDnSsyevj_bufferSize, void *, int, int, int, void *, int, void *, int *numbers) { return *numbers = 64, 0; }
NAMED(int, cusolverDnSorgqr_bufferSize, void *, int, int, int, void *, int, void *, int *numbers) { return *numbers = 64, 0; }
NAMED(int, cusolverDnXsyevd_bufferSize, void *, void *, int, int, int64_t, int, void *, int64_t, int, void *, int,
      size_t *device, size_t *host) {
    return *device = 64, *host = 0;
}
NAMED(int, cusolverDnXgeqrf_bufferSize, void *, void *, int64_t, int64_t, int, void *, int64_t, int, void *, int,
      size_t *device, size_t *host) {
    return *device = 64, *host = 0;
}

// ---- cuDNN

CREATES(cudnnCreate)
TAKES_STREAM(cudnnSetStream)
API size_t cudnnGetVersion() { return CUDNN_VERSION; }
API size_t cudnnGetCudartVersion() { return 13000; }
API const char *cudnnGetErrorString(cudnnStatus_t status) {
    switch (int(status)) {
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED: return "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED";
    default: return status ? "CUDNN_STATUS_EXECUTION_FAILED" : "CUDNN_STATUS_SUCCESS";
    }
}
API void cudnnGetLastErrorString(char *text, size_t size) { if (size) *text = 0; }

CREATES(cudnnCreateTensorDescriptor)
SUCCEEDS(cudnnDestroyTensorDescriptor)
SUCCEEDS(cudnnSetTensorNdDescriptor)
COMPUTES(cudnnBatchNormalizationForwardTrainingEx)
COMPUTES(cudnnBatchNormalizationBackwardEx)
COMPUTES(cudnnBatchNormalizationForwardInference)
API cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, cudnnTensorDescriptor_t, cudnnTensorDescriptor_t,
    cudnnTensorDescriptor_t, cudnnTensorDescriptor_t, cudnnActivationDescriptor_t, size_t *bytes) {
    return *bytes = 4096, CUDNN_STATUS_SUCCESS;
}
API cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, cudnnTensorDescriptor_t, cudnnTensorDescriptor_t,
    cudnnTensorDescriptor_t, cudnnTensorDescriptor_t, cudnnTensorDescriptor_t, cudnnTensorDescriptor_t,
    cudnnActivationDescriptor_t, size_t *bytes) {
    return *bytes = 4096, CUDNN_STATUS_SUCCESS;
}
API cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(
    cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, cudnnActivationDescriptor_t, cudnnTensorDescriptor_t,
    size_t *bytes) {
    return *bytes = 4096, CUDNN_STATUS_SUCCESS;
}

// A convolution is a graph of one operation: there is one engine for it, without numerical notes and knobs, and its plan needs
// a workspace of 64 MiB, as some of the fast ones do.
API cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t, cudnnBackendDescriptor_t *out) {
    return *out = calloc(1, 64), CUDNN_STATUS_SUCCESS;
}
API cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
    return free(descriptor), CUDNN_STATUS_SUCCESS;
}
SUCCEEDS(cudnnBackendFinalize)
SUCCEEDS(cudnnBackendSetAttribute)
API cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t name,
                                           cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *out) {
    bool is_none = name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE || name == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE ||
                   name == CUDNN_ATTR_ENGINECFG_KNOB_CHOICES || name == CUDNN_ATTR_ENGINE_KNOB_INFO;
    if (count) *count = is_none ? 0 : 1;
    if (out && room && !is_none && type == CUDNN_TYPE_INT64)
        *(int64_t *)out = name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE ? 64 << 20 : 0;
    return CUDNN_STATUS_SUCCESS;
}
COMPUTES(cudnnBackendExecute)
