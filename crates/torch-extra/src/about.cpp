// Which libtorch this is. The library itself is asked: headers only say what the program was built against.

#include "common.h"
#include <ATen/Version.h>
#include <cstdlib>
#include <dlfcn.h>
#include <stdexcept>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

extern "C" {

// Frees a text that a function of this library returned.
void tm_free_text(char *text) {
    if (text != NO_MEMORY) free(text);
}

// One byte each, from the top: major, minor, patch. The function is in libtorch_cpu, so this is the version of the
// loaded library.
char *tm_version(uint64_t *version) {
    return guarded([&] { *version = aoti_torch_abi_version(); });
}

// The path of the loaded libtorch_cpu; tm_free_text frees it.
char *tm_library(char **path) {
    return guarded([&] {
        Dl_info info;
        void *function = dlsym(RTLD_DEFAULT, "aoti_torch_abi_version");
        if (!function || !dladdr(function, &info) || !info.dli_fname) {
            throw std::runtime_error("the loader does not say where libtorch_cpu is");
        }
        *path = copied(info.dli_fname);
    });
}

// The vector instructions that libtorch's kernels use here: DEFAULT, AVX2, AVX512, ...; tm_free_text frees it.
char *tm_cpu_capability(char **name) {
    return guarded([&] { *name = copied(at::get_cpu_capability().c_str()); });
}
}
