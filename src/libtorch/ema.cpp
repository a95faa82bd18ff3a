// One step of an exponential moving average of many tensors, in a few kernels for all of them together.

#include "common.h"
#include <torch/torch.h>

#include <vector>

extern "C" {

// averages += weight * (tensors - averages), `weight` a float32 scalar in device memory: a CUDA graph of it replays with
// whatever weight then holds.
char *tm_ema_update(at::Tensor **averages, at::Tensor **tensors, int64_t count, const at::Tensor *weight) {
    return guarded([&] {
        torch::NoGradGuard no_grad;
        std::vector<at::Tensor> to, from;
        for (int64_t i = 0; i < count; ++i) {
            to.push_back(*averages[i]);
            from.push_back(*tensors[i]);
        }
        auto steps = at::_foreach_sub(from, to);
        at::_foreach_mul_(steps, *weight);
        at::_foreach_add_(to, steps);
    });
}
}
