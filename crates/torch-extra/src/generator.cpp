// New random generators, and the state of the default ones: tch can seed those, but not read them.

#include "common.h"
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

namespace {
at::Generator default_generator(int cuda_device) {
    if (cuda_device < 0) return at::detail::getDefaultCPUGenerator();
    return at::globalContext().defaultGenerator(
        at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(cuda_device)));
}
} // namespace

extern "C" {

// torch.randperm(n, generator=torch.Generator().manual_seed(seed)), int64 on the CPU.
char *tm_randperm(int64_t n, uint64_t seed, at::Tensor **out) {
    return guarded([&] {
        at::Generator generator = at::detail::createCPUGenerator(seed);
        *out = new at::Tensor(at::randperm(n, generator, at::TensorOptions().dtype(at::kLong)));
    });
}

// torch.get_rng_state() for cuda_device < 0, else torch.cuda.get_rng_state(cuda_device): uint8 on the CPU.
char *tm_rng_state(int cuda_device, at::Tensor **out) {
    return guarded([&] {
        at::Generator generator = default_generator(cuda_device);
        std::lock_guard<std::mutex> lock(generator.mutex());
        *out = new at::Tensor(generator.get_state());
    });
}

char *tm_set_rng_state(int cuda_device, const at::Tensor *state) {
    return guarded([&] {
        at::Generator generator = default_generator(cuda_device);
        std::lock_guard<std::mutex> lock(generator.mutex());
        generator.set_state(*state);
    });
}
}
