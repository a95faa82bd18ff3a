#include "choice.h"

#include <atomic>
#include <cstring>
#include <vector>

extern const Kernels kernels_portable, kernels_reference;
#ifdef TM_X86_64
extern const Kernels kernels_x86_64_v3, kernels_avx512;
#endif

namespace {

// What this processor can run, the fastest first. The reference is last, so that only a test which asks for it gets it.
std::vector<const Kernels *> available_kernels() {
    std::vector<const Kernels *> all;
#ifdef TM_X86_64
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2");
    if (v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        all.push_back(&kernels_avx512);
    if (v3) all.push_back(&kernels_x86_64_v3);
#endif
    all.push_back(&kernels_portable);
    all.push_back(&kernels_reference);
    return all;
}

std::atomic<const Kernels *> &choice() {
    static std::atomic<const Kernels *> chosen{available_kernels().front()};
    return chosen;
}

// Those of this instruction set, or the reference; null if the processor does not support them.
const Kernels *find(const char *name) {
    for (const Kernels *kernels : available_kernels())
        if (strcmp(kernels->instruction_set, name) == 0) return kernels;
    return nullptr;
}

} // namespace

const Kernels &chosen_kernels() { return *choice(); }

extern "C" {

// The instruction set of the kernels in use.
const char *tm_fused_instruction_set() { return chosen_kernels().instruction_set; }

// Whether the processor supports this instruction set.
bool tm_fused_has_instruction_set(const char *name) { return find(name) != nullptr; }

// Operations that begin from now on use the kernels of this instruction set, or the reference; false if the processor
// does not support it.
bool tm_fused_use_instruction_set(const char *name) {
    const Kernels *kernels = find(name);
    if (kernels) choice() = kernels;
    return kernels != nullptr;
}
}
