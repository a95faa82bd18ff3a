// Many counts at once: on a GPU one kernel for all of them instead of one for each.

#include "common.h"
#include <torch/torch.h>

#include <vector>

namespace {
std::vector<at::Tensor> list(const at::Tensor *const *tensors, int64_t count) {
    std::vector<at::Tensor> all;
    for (int64_t i = 0; i < count; ++i) all.push_back(*tensors[i]);
    return all;
}
} // namespace

extern "C" {

// Adds 1 to each of them.
char *tm_counts_increment(const at::Tensor *const *counts, int64_t count) {
    return guarded([&] {
        torch::NoGradGuard no_grad;
        if (count > 0) at::_foreach_add_(list(counts, count), 1);
    });
}

// Makes each the same as its source.
char *tm_counts_copy(const at::Tensor *const *counts, const at::Tensor *const *sources, int64_t count) {
    return guarded([&] {
        torch::NoGradGuard no_grad;
        if (count > 0) at::_foreach_copy_(list(counts, count), list(sources, count));
    });
}
}
