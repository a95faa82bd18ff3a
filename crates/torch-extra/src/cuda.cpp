// What a GPU needs: libtorch's CUDA half, NVIDIA's driver, a device.
//
// The driver is asked directly, because libtorch does not say why CUDA is missing. Its library is opened by
// name, so the program builds and runs without CUDA's headers and without a driver.

#include "common.h"
#include "cuda.h"
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <stdexcept>

namespace {
// CUresult and CUdevice of cuda.h are an enum and an int.
void *driver() {
    static void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    return library;
}

template <typename Function>
Function *symbol(const char *name) {
    void *found = driver() ? dlsym(driver(), name) : nullptr;
    if (!found) throw std::runtime_error(std::string("libcuda.so.1 has no ") + name);
    return reinterpret_cast<Function *>(found);
}

// libtorch's CUDA half, or why it cannot be loaded. Loading it takes half as long as all else before main, so a program
// without a driver goes without.
struct Half {
    void *library = nullptr;
    std::string why;

    Half() {
        if (!driver()) return;
        library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_GLOBAL);
        const char *error = library ? nullptr : dlerror();
        if (error) why = error;
    }
};

const Half &half() {
    static const Half half;
    return half;
}

// Before main: the half registers its kernels and devices while it is loaded, and libtorch asks for them only once.
__attribute__((constructor)) void load_half() { half(); }

void succeed(int result, const char *name) {
    if (result) throw std::runtime_error(std::string(name) + " failed with " + std::to_string(result));
}
} // namespace

void *find_in_cuda_half(const char *name) {
    void *found = half().library ? dlsym(half().library, name) : nullptr;
    if (!found) throw std::runtime_error(std::string("libtorch_cuda is not loaded, or has no ") + name);
    return found;
}

extern "C" {

// As declared in cuda.rs.
struct tm_Driver {
    int found;    // whether libcuda.so.1 could be opened
    int version;  // the newest CUDA that the driver supports: 13000 is 13.0
    int result;   // of cuInit; 0: success, 100: no device
    int devices;  // how many, after CUDA_VISIBLE_DEVICES
    char text[256]; // why it was not opened, or what `result` means
};

struct tm_Device {
    char name[256];
    uint64_t total_memory; // bytes
    int major, minor;      // compute capability
};

char *tm_cuda_driver(tm_Driver *out) {
    return guarded([&] {
        *out = {};
        if (!driver()) {
            const char *why = dlerror();
            strncpy(out->text, why ? why : "", sizeof out->text - 1);
            return;
        }
        out->found = 1;
        succeed(symbol<int(int *)>("cuDriverGetVersion")(&out->version), "cuDriverGetVersion");
        out->result = symbol<int(unsigned)>("cuInit")(0);
        if (out->result) {
            const char *text = nullptr;
            symbol<int(int, const char **)>("cuGetErrorString")(out->result, &text);
            strncpy(out->text, text ? text : "unknown error", sizeof out->text - 1);
            return;
        }
        succeed(symbol<int(int *)>("cuDeviceGetCount")(&out->devices), "cuDeviceGetCount");
    });
}

// Call it after tm_cuda_driver reported more than `index` devices.
char *tm_cuda_device(int index, tm_Device *out) {
    return guarded([&] {
        *out = {};
        int device;
        size_t memory;
        succeed(symbol<int(int *, int)>("cuDeviceGet")(&device, index), "cuDeviceGet");
        succeed(symbol<int(char *, int, int)>("cuDeviceGetName")(out->name, sizeof out->name, device), "cuDeviceGetName");
        succeed(symbol<int(size_t *, int)>("cuDeviceTotalMem_v2")(&memory, device), "cuDeviceTotalMem");
        out->total_memory = memory;
        auto attribute = symbol<int(int *, int, int)>("cuDeviceGetAttribute");
        succeed(attribute(&out->major, 75, device), "cuDeviceGetAttribute"); // COMPUTE_CAPABILITY_MAJOR
        succeed(attribute(&out->minor, 76, device), "cuDeviceGetAttribute"); // COMPUTE_CAPABILITY_MINOR
    });
}

// As declared in cuda.rs.
struct tm_Half {
    int loaded;
    int64_t runtime; // the CUDA that it was built for: 13000 is 13.0
    int64_t cudnn;   // the cuDNN that is loaded, or 0: 91900 is 9.19.0
    char text[256];  // why it cannot be loaded
};

char *tm_cuda_half(tm_Half *out) {
    return guarded([&] {
        *out = {};
        strncpy(out->text, half().why.c_str(), sizeof out->text - 1);
        // Hooks register themselves when libtorch_cuda is loaded; without it these are the empty ones.
        const at::CUDAHooksInterface &hooks = at::detail::getCUDAHooks();
        out->loaded = hooks.hasCUDART();
        if (out->loaded) out->runtime = hooks.versionCUDART();
        if (out->loaded && hooks.hasCuDNN()) out->cudnn = hooks.versionRuntimeCuDNN();
    });
}

// torch.cuda.set_device(index) for this thread.
char *tm_cuda_set_device(int index) {
    return guarded([&] {
        c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(c10::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index)));
    });
}
}
