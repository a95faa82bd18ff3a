// torch.nn.utils.clip_grad_norm_ over the gradients of all parameters.

#include "common.h"
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <vector>

extern "C" {

// Adds the total norm of the gradients to `sum`, a float64 scalar on their device. With a `max_norm` above 0, then
// scales the gradients to at most that norm. The operations of torch/nn/utils/clip_grad.py in their order, so that
// every bit is PyTorch's. Nothing is read by the host, so that a CUDA graph may hold it.
char *tm_clip_grad_norm(const at::Tensor *const *parameters, int64_t count, double max_norm, const at::Tensor *sum) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        std::vector<at::Tensor> grads;
        for (int64_t i = 0; i < count; ++i)
            if (parameters[i]->grad().defined()) grads.push_back(parameters[i]->grad());
        if (grads.empty()) return;
        const at::Tensor norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(grads, 2)), 2);
        sum->add_(norm);
        if (max_norm == 0) return;
        // Python's max_norm / (norm + 1e-6)
        const at::Tensor clip_coef = norm.add(1e-6).reciprocal().mul(max_norm);
        at::_foreach_mul_(grads, clip_coef.clamp_max(1.0));
    });
}
}
