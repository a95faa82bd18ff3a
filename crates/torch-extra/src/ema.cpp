// One step of an exponential moving average of many small tensors: on a GPU in a few kernels for all of them together;
// on a CPU in one loop, because there the overhead of an operation of libtorch exceeds the arithmetic on so few
// numbers.

#include "common.h"
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <vector>

namespace {
// A count is not averaged.
bool is_count(const at::Tensor &tensor) { return tensor.scalar_type() == at::kLong; }

// average += share * (value - average)
void step(const at::Tensor &average, const at::Tensor &value, float share) {
    TORCH_CHECK(average.sizes() == value.sizes() && average.is_contiguous() && value.is_contiguous(),
                "an average and what is averaged have to be alike");
    float *to = average.data_ptr<float>();
    const float *from = value.const_data_ptr<float>();
    for (int64_t k = 0, n = average.numel(); k < n; ++k) to[k] += share * (from[k] - to[k]);
}
} // namespace

extern "C" {

// averages += weight * (tensors - averages), `weight` a float32 scalar in device memory: a replay of a CUDA graph
// reads its present value. Counts are copied.
char *tm_ema_update(const at::Tensor *const *averages, const at::Tensor *const *tensors, int64_t count,
                    const at::Tensor *weight) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        if (weight->is_cpu()) {
            const float share = weight->item<float>();
            for (int64_t i = 0; i < count; ++i) {
                if (is_count(*averages[i])) averages[i]->copy_(*tensors[i]);
                else step(*averages[i], *tensors[i], share);
            }
            return;
        }
        std::vector<at::Tensor> to, from, count_to, count_from;
        for (int64_t i = 0; i < count; ++i) {
            (is_count(*averages[i]) ? count_to : to).push_back(*averages[i]);
            (is_count(*averages[i]) ? count_from : from).push_back(*tensors[i]);
        }
        auto steps = at::_foreach_sub(from, to);
        at::_foreach_mul_(steps, *weight);
        at::_foreach_add_(to, steps);
        if (!count_to.empty()) at::_foreach_copy_(count_to, count_from);
    });
}
}
