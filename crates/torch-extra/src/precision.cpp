// How precisely convolutions multiply, and whether they are deterministic. tch can switch autocast on, but not to
// bfloat16.

#include "common.h"
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>

extern "C" {

// torch.backends.cudnn.conv.fp32_precision = "tf32" or "ieee"
char *tm_tf32(bool allowed) {
    return guarded([&] {
        const auto precision = allowed ? at::Float32Precision::TF32 : at::Float32Precision::IEEE;
        at::globalContext().setFloat32Precision(at::Float32Backend::CUDA, at::Float32Op::CONV, precision);
    });
}

// torch.backends.cudnn.deterministic = True
char *tm_deterministic_cudnn() {
    return guarded([&] { at::globalContext().setDeterministicCuDNN(true); });
}

// torch.autocast(device, torch.bfloat16, cache_enabled=False).__enter__() for this thread. The cache keeps casts of
// parameters from one use to the next, which a graph would replay without casting again.
char *tm_autocast_enter(bool cuda) {
    return guarded([&] {
        const auto device = cuda ? at::kCUDA : at::kCPU;
        at::autocast::set_autocast_enabled(device, true);
        at::autocast::set_autocast_dtype(device, at::kBFloat16);
        at::autocast::set_autocast_cache_enabled(false);
        at::autocast::increment_nesting();
    });
}

// Its __exit__(), if autocast was off before.
char *tm_autocast_exit(bool cuda) {
    return guarded([&] {
        if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
        at::autocast::set_autocast_cache_enabled(true);
        at::autocast::set_autocast_enabled(cuda ? at::kCUDA : at::kCPU, false);
    });
}
}
