// A stand-in for CUDA's runtime library, to be preloaded: the host side of a program runs as on a GPU, and each kernel, copy
// and synchronisation is noted in a log. Written from the documentation of CUDA's runtime API.
//
// Device memory is an address range that nobody may touch, and reads as zeros. Kernels compute nothing. What the runtime
// checks on the host is checked: that memory is allocated, large enough, and left; that a stream belongs to the current
// device; how large a launch may be; what a capture forbids. One capture at a time, on one stream, is enough here.
//
// The devices are those of driver.c. FAKE_LOG: the log. FAKE_FAIL: see log.h.
#include "log.h"
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <dlfcn.h>
#include <map>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>
using std::string;

extern "C" {
int cuDeviceGetCount(int *count);
int cuDeviceGetName(char *name, int size, int device);
int cuDeviceTotalMem_v2(size_t *bytes, int device);
}

// ---- The log, and failures on demand.

namespace stand_in {
std::recursive_mutex mutex;

void note(const char *format, ...) {
    static FILE *file = getenv("FAKE_LOG") ? fopen(getenv("FAKE_LOG"), "ae") : nullptr;
    if (!file) return;
    static bool is_set = !setvbuf(file, nullptr, _IOLBF, 1 << 16);
    (void)is_set;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(file, format, arguments);
    va_end(arguments);
    fputc('\n', file);
}

int injected(const string &name) {
    static const string wanted = getenv("FAKE_FAIL") ? getenv("FAKE_FAIL") : "";
    static long calls = 0;
    if (wanted.compare(0, name.size() + 1, name + ":")) return 0;
    char *rest;
    long nth = strtol(wanted.c_str() + name.size() + 1, &rest, 10);
    int code = ++calls < nth ? 0 : atoi(rest + 1);
    if (code < 0) raise(-code);
    return code;
}
} // namespace stand_in
using stand_in::injected;
using stand_in::note;

// A file that is about to be complete: its name, for what comes between two checkpoints.
API int fsync(int file) {
    static auto real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    char name[4096] = "";
    if (readlink(("/proc/self/fd/" + std::to_string(file)).c_str(), name, sizeof name - 1) > 0) {
        LOCK;
        note("file\t0\t%s", strrchr(name, '/') + 1);
    }
    return real(file);
}

static thread_local cudaError_t last_error = cudaSuccess;
static thread_local int current = 0;

static cudaError_t fail(cudaError_t error, const char *function, const string &why) {
    note("error\t%d\t%s\t%d %s", current, function, error, why.c_str());
    return last_error = error;
}

static int devices() {
    int count = 0;
    cuDeviceGetCount(&count);
    return count;
}

#define FAIL(error, why) return fail(error, __func__, why)
#define ENTER                                                                                                          \
    LOCK;                                                                                                              \
    if (!devices()) FAIL(cudaErrorNoDevice, "");                                                                       \
    if (int code = injected(capture.stream ? string("captured ") + __func__ : __func__)) FAIL(cudaError_t(code), "injected")

API cudaError_t cudaGetLastError() {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
API const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    default: return "an error of the stand-in for CUDA";
    }
}
API const char *cudaGetErrorName(cudaError_t) { return "cudaError"; }

// ---- Devices.

API cudaError_t cudaGetDeviceCount(int *count) {
    LOCK;
    *count = devices();
    if (!*count) FAIL(cudaErrorNoDevice, "");
    return cudaSuccess;
}
API cudaError_t cudaGetDevice(int *device) {
    *device = current;
    return devices() ? cudaSuccess : cudaErrorNoDevice;
}
API cudaError_t cudaSetDevice(int device) {
    LOCK;
    if (device < 0 || device >= devices()) FAIL(cudaErrorInvalidDevice, "");
    current = device;
    return cudaSuccess;
}
static size_t memory(int device) {
    size_t bytes;
    cuDeviceTotalMem_v2(&bytes, device);
    return bytes;
}

// The numbers of an H100.
API cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device) {
    LOCK;
    if (device < 0 || device >= devices()) FAIL(cudaErrorInvalidDevice, "");
    memset(out, 0, sizeof *out);
    cuDeviceGetName(out->name, sizeof out->name, device);
    out->totalGlobalMem = memory(device);
    out->major = 9, out->warpSize = 32, out->multiProcessorCount = 132;
    out->maxThreadsPerBlock = 1024, out->maxThreadsPerMultiProcessor = 2048;
    out->maxThreadsDim[0] = out->maxThreadsDim[1] = 1024, out->maxThreadsDim[2] = 64;
    out->maxGridSize[0] = 2147483647, out->maxGridSize[1] = out->maxGridSize[2] = 65535;
    out->sharedMemPerBlock = 49152, out->sharedMemPerBlockOptin = 232448, out->sharedMemPerMultiprocessor = 233472;
    out->regsPerBlock = out->regsPerMultiprocessor = 65536, out->l2CacheSize = 52428800;
    out->unifiedAddressing = out->concurrentKernels = out->canMapHostMemory = 1;
    out->textureAlignment = 512, out->pciBusID = device;
    return cudaSuccess;
}
API cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp properties;
    if (cudaError_t error = cudaGetDeviceProperties(&properties, device)) return error;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: return *value = 1024, cudaSuccess;
    case cudaDevAttrMultiProcessorCount: return *value = properties.multiProcessorCount, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock: return *value = 49152, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: return *value = 232448, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return *value = 233472, cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor: return *value = 2048, cudaSuccess;
    case cudaDevAttrMaxBlocksPerMultiprocessor: return *value = 32, cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: return *value = properties.major, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: return *value = properties.minor, cudaSuccess;
    case cudaDevAttrWarpSize: return *value = 32, cudaSuccess;
    default: return *value = 0, cudaSuccess;
    }
}
// ---- Streams and the capture.

struct Stream {
    int device;
};
static struct {
    Stream *stream = nullptr;
    cudaStreamCaptureMode mode;
    bool broken;
    long id = 0, nodes;
} capture;
static thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

static Stream *stream_of(cudaStream_t stream) {
    static std::map<int, Stream> of_device;
    return uintptr_t(stream) > 2 ? (Stream *)stream : &(of_device[current] = Stream{current});
}

static cudaError_t forbidden(const char *function) {
    capture.broken = true;
    return fail(cudaErrorStreamCaptureUnsupported, function, "forbidden during a capture");
}
// Calls that a capture forbids to every thread that did not say it knows better.
#define UNSAFE                                                                                                         \
    if (capture.stream && thread_mode != cudaStreamCaptureModeRelaxed) return forbidden(__func__)

static cudaError_t synchronize(Stream *stream, const char *function) {
    note("sync\t%d\t%s", stream ? stream->device : current, function);
    return capture.stream && (!stream || stream == capture.stream) ? forbidden(function) : cudaSuccess;
}

API cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned, int) {
    ENTER;
    *out = (cudaStream_t) new Stream{current};
    return cudaSuccess;
}
API cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *most) { return *least = 0, *most = -5, cudaSuccess; }
API cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    ENTER;
    return synchronize(stream_of(stream), __func__);
}
API cudaError_t cudaDeviceSynchronize() {
    ENTER;
    return synchronize(nullptr, __func__);
}
// What is enqueued is done at once, so that every event has happened.
API cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) { return *out = (cudaEvent_t) new char, cudaSuccess; }
API cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete (char *)event, cudaSuccess; }
API cudaError_t cudaEventRecordWithFlags(cudaEvent_t, cudaStream_t, unsigned) { return cudaSuccess; }
API cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
API cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
API cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
    std::swap(*mode, thread_mode);
    return cudaSuccess;
}

struct Graph {
    long id;
};
API cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    ENTER;
    if (uintptr_t(stream) <= 2) FAIL(cudaErrorStreamCaptureUnsupported, "the default stream");
    if (capture.stream) FAIL(cudaErrorIllegalState, "another capture goes on");
    capture.stream = stream_of(stream), capture.mode = mode, capture.broken = false, capture.nodes = 0;
    note("begin\t%d\t%ld", current, ++capture.id);
    return cudaSuccess;
}
API cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    LOCK;
    *out = nullptr;
    if (!capture.stream || stream_of(stream) != capture.stream) FAIL(cudaErrorIllegalState, "not captured");
    capture.stream = nullptr;
    bool failed = injected(__func__) || capture.broken;
    note("end\t%d\t%ld\t%s", current, capture.id, failed ? "failed" : "done");
    if (failed) FAIL(cudaErrorStreamCaptureInvalidated, "");
    *out = (cudaGraph_t) new Graph{capture.id};
    return cudaSuccess;
}
static cudaStreamCaptureStatus status_of(cudaStream_t stream) {
    if (!capture.stream || stream_of(stream) != capture.stream) return cudaStreamCaptureStatusNone;
    return capture.broken ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}
API cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    LOCK;
    *status = status_of(stream);
    return cudaSuccess;
}
API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus *status, unsigned long long *id,
                                         cudaGraph_t *graph, const cudaGraphNode_t **, const cudaGraphEdgeData **,
                                         size_t *count) {
    LOCK;
    *status = status_of(stream);
    if (id) *id = capture.id;
    if (graph) *graph = nullptr;
    if (count) *count = 0;
    return cudaSuccess;
}
API cudaError_t cudaGraphGetNodes(cudaGraph_t, cudaGraphNode_t *, size_t *count) {
    *count = capture.nodes;
    return cudaSuccess;
}
API cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    ENTER;
    *out = (cudaGraphExec_t) new Graph(*(Graph *)graph);
    return cudaSuccess;
}
API cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    ENTER;
    if (stream_of(stream)->device != current) FAIL(cudaErrorInvalidResourceHandle, "a stream of another device");
    note("replay\t%d\t%ld", current, ((Graph *)graph)->id);
    return cudaSuccess;
}
API cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete (Graph *)graph, cudaSuccess; }
API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete (Graph *)graph, cudaSuccess; }

cudaError_t stand_in::launch(const char *kind, const string &what, const string &numbers, cudaStream_t stream) {
    Stream *on = stream_of(stream);
    if (on->device != current) return fail(cudaErrorInvalidResourceHandle, kind, "a stream of another device");
    if (on != capture.stream) {
        if (int code = injected(kind)) return fail(cudaError_t(code), kind, "injected");
        note("%s\t%d\t%s\t%s", kind, current, what.c_str(), numbers.c_str());
        return cudaSuccess;
    }
    if (int code = injected(string("captured ") + kind)) {
        capture.broken = true;
        return fail(cudaError_t(code), kind, "injected");
    }
    if (capture.broken) return fail(cudaErrorStreamCaptureInvalidated, kind, "");
    ++capture.nodes;
    note("captured %s\t%d\t%s\t%s", kind, current, what.c_str(), numbers.c_str());
    return cudaSuccess;
}

// ---- Memory.

// Each device has its own range, and gives every address once.
static const size_t RANGE = size_t(1) << 40;
struct Memory {
    char *base = nullptr;
    size_t next = 0, used = size_t(300) << 20; // a context takes some
    std::map<size_t, size_t> blocks;           // from their place to their size
};
static std::map<int, Memory> memories;

static int device_of(const void *pointer) {
    for (auto &[device, memory] : memories)
        if (pointer >= memory.base && pointer < memory.base + RANGE) return device;
    return -1;
}
static bool fits(const void *pointer, size_t bytes) {
    int device = device_of(pointer);
    if (device < 0) return false;
    size_t place = (char *)pointer - memories[device].base;
    auto block = memories[device].blocks.upper_bound(place);
    return block != memories[device].blocks.begin() && (--block, place + bytes <= block->first + block->second);
}

API cudaError_t cudaMalloc(void **out, size_t bytes) {
    *out = nullptr;
    ENTER;
    UNSAFE;
    Memory &own = memories[current];
    if (!own.base) own.base = (char *)mmap(nullptr, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (own.used + bytes > memory(current)) FAIL(cudaErrorMemoryAllocation, std::to_string(bytes) + " bytes");
    note("malloc\t%d\t%zu", current, bytes);
    own.blocks[own.next] = bytes, own.used += bytes;
    *out = own.base + own.next;
    own.next += (bytes + 511) / 512 * 512 + 512;
    return cudaSuccess;
}
API cudaError_t cudaFree(void *pointer) {
    ENTER;
    if (!pointer) return cudaSuccess;
    UNSAFE;
    int device = device_of(pointer);
    if (device < 0) FAIL(cudaErrorInvalidValue, "not allocated");
    Memory &own = memories[device];
    auto block = own.blocks.find((char *)pointer - own.base);
    if (block == own.blocks.end()) FAIL(cudaErrorInvalidValue, "not allocated");
    own.used -= block->second;
    own.blocks.erase(block);
    return cudaSuccess;
}
API cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned) {
    ENTER;
    UNSAFE;
    *out = malloc(bytes);
    return cudaSuccess;
}
API cudaError_t cudaFreeHost(void *pointer) { return free(pointer), cudaSuccess; }
API cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    ENTER;
    *total = memory(current);
    *available = *total - memories[current].used;
    return cudaSuccess;
}
static cudaError_t copy(void *to, const void *from, size_t bytes, cudaStream_t stream, const char *function) {
    bool is_to_device = device_of(to) >= 0, is_from_device = device_of(from) >= 0;
    if (!bytes) return cudaSuccess;
    if ((is_to_device && !fits(to, bytes)) || (is_from_device && !fits(from, bytes)))
        return fail(cudaErrorInvalidValue, function, "outside of an allocation");
    const char *way = !is_from_device ? "to device" : is_to_device ? "within device" : "to host";
    if (is_from_device && !is_to_device) memset(to, 0, bytes);
    return stand_in::launch("copy", way, std::to_string(bytes), stream);
}
API cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
    ENTER;
    return copy(to, from, bytes, stream, __func__);
}
API cudaError_t cudaMemsetAsync(void *to, int, size_t bytes, cudaStream_t stream) {
    ENTER;
    if (bytes && !fits(to, bytes)) FAIL(cudaErrorInvalidValue, "outside of an allocation");
    return stand_in::launch("memset", "memset", std::to_string(bytes), stream);
}

// ---- Kernels.

static std::unordered_map<const void *, const char *> &mangled() {
    static auto *names = new std::unordered_map<const void *, const char *>;
    return *names;
}
API void **__cudaRegisterFatBinary(void *) {
    static void *handle;
    return &handle;
}
API void __cudaRegisterFatBinaryEnd(void **) {}
API void __cudaUnregisterFatBinary(void **) {}
API void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
API void __cudaRegisterFunction(void **, const char *host, char *, const char *name, int, uint3 *, uint3 *, dim3 *, dim3 *,
                                int *) {
    mangled()[host] = name;
}
API cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host) { return *kernel = (cudaKernel_t)host, cudaSuccess; }

struct Configuration {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
};
static thread_local std::vector<Configuration> configurations;
API unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
    configurations.push_back({grid, block, shared, stream});
    return 0;
}
API cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    auto [its_grid, its_block, its_shared, its_stream] = configurations.back();
    configurations.pop_back();
    *grid = its_grid, *block = its_block, *shared = its_shared, *(cudaStream_t *)stream = its_stream;
    return cudaSuccess;
}

static const string &readable(const void *kernel) {
    static std::unordered_map<const void *, string> names;
    string &name = names[kernel];
    if (name.empty()) {
        char *text = abi::__cxa_demangle(mangled()[kernel], nullptr, nullptr, nullptr);
        name = text ? text : mangled()[kernel];
        free(text);
    }
    return name;
}

// The parameters in a signature such as `void kernel<4, F>(int, F, std::array<char*, 2ul>)`.
static std::vector<string> parameters(const string &signature) {
    size_t open = signature.size();
    for (int depth = 0; open-- > 0;) {
        depth += strchr(")>]}", signature[open]) ? 1 : strchr("(<[{", signature[open]) ? -1 : 0;
        if (!depth) break;
    }
    std::vector<string> found(1);
    int depth = 0;
    for (char c : signature.substr(open + 1, signature.size() - open - 2)) {
        depth += strchr("(<[{", c) ? 1 : strchr(")>]}", c) ? -1 : 0;
        if (c == ',' && !depth) found.emplace_back();
        else if (c != ' ' || !found.back().empty()) found.back() += c;
    }
    return found;
}

template <typename T> static string text_of(const void *number) { return std::to_string(*(const T *)number) + " "; }
template <> string text_of<double>(const void *number) {
    char text[40];
    return snprintf(text, sizeof text, "%.17g ", *(const double *)number), text;
}
template <> string text_of<float>(const void *number) {
    double wide = *(const float *)number;
    return text_of<double>(&wide);
}
struct Type {
    const char *name;
    size_t size;
    string (*text)(const void *);
};
static const Type TYPES[] = {{"float", 4, text_of<float>}, {"double", 8, text_of<double>}, {"bool", 1, text_of<bool>},
                             {"int", 4, text_of<int>},     {"long", 8, text_of<long>},     {"unsigned int", 4, text_of<unsigned>}};
// Functors of libtorch that hold numbers of the type of their first template argument, and where: in units of its size.
static const struct {
    const char *name;
    std::vector<int> places;
} FUNCTORS[] = {{"AUnaryFunctor<", {1}},  {"BUnaryFunctor<", {1}},           {"CUDAFunctor_add<", {0}},
                {"FillFunctor<", {0}},    {"CUDAFunctorOnSelf_add<", {0, 1}}, {"CUDAFunctorOnOther_add<", {0, 1}}};

// The numbers among the arguments of a kernel, as far as its signature shows them.
static string numbers_in(const string &signature, void **arguments) {
    string numbers;
    for (const string &parameter : parameters(signature)) {
        void *argument = *arguments++;
        string type = parameter;
        std::vector<int> places{0};
        for (auto &functor : FUNCTORS) {
            string start = string("at::native::") + functor.name;
            if (parameter.compare(0, start.size(), start)) continue;
            type = parameter.substr(start.size(), parameter.find_first_of(",>", start.size()) - start.size());
            places = functor.places;
        }
        for (auto &known : TYPES)
            if (type == known.name)
                for (int place : places) numbers += known.text((char *)argument + place * known.size);
    }
    return numbers;
}

static cudaError_t launch_kernel(const void *kernel, dim3 grid, dim3 block, void **arguments, cudaStream_t stream) {
    LOCK;
    if (!mangled().count(kernel)) return fail(cudaErrorInvalidDeviceFunction, "a launch", "no such kernel");
    const string &name = readable(kernel);
    bool is_too_large = grid.y > 65535 || grid.z > 65535 || block.z > 64 || size_t(block.x) * block.y * block.z > 1024;
    if (is_too_large || !(size_t(grid.x) * grid.y * grid.z) || !(block.x * block.y * block.z))
        return fail(cudaErrorInvalidConfiguration, "a launch", name);
    bool is_captured = stream_of(stream) == capture.stream;
    return stand_in::launch("kernel", name, is_captured ? numbers_in(name, arguments) : "", stream);
}
API cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t, cudaStream_t stream) {
    return launch_kernel(kernel, grid, block, arguments, stream);
}
API cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, const void *) {
    memset(out, 0, sizeof *out);
    out->maxThreadsPerBlock = 1024, out->numRegs = 32, out->binaryVersion = out->ptxVersion = 90;
    return cudaSuccess;
}
API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *, int, size_t, unsigned) {
    return *blocks = 1, cudaSuccess;
}
