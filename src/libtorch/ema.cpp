// One step of an exponential moving average of many small tensors: on a GPU in a few kernels for all of them together;
// on a CPU in one loop, because there the overhead of an operation of libtorch exceeds the arithmetic on so few
// numbers.

#include "common.h"
#include <torch/torch.h>

#include <vector>

extern "C" {

// averages += weight * (tensors - averages), `weight` a float32 scalar in device memory: a replay of a CUDA graph
// reads its present value.
char *tm_ema_update(at::Tensor **averages, at::Tensor **tensors, int64_t count, const at::Tensor *weight) {
    return guarded([&] {
        torch::NoGradGuard no_grad;
        if (weight->is_cpu()) {
            const float share = weight->item<float>();
            for (int64_t i = 0; i < count; ++i) {
                const at::Tensor &to = *averages[i], &from = *tensors[i];
                TORCH_CHECK(to.sizes() == from.sizes() && to.is_contiguous() && from.is_contiguous(),
                            "an average and what is averaged have to be alike");
                float *average = to.data_ptr<float>();
                const float *value = from.const_data_ptr<float>();
                for (int64_t k = 0, n = to.numel(); k < n; ++k) average[k] += share * (value[k] - average[k]);
            }
            return;
        }
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
