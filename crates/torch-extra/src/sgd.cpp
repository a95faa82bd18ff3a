// One step of torch.optim.SGD over all parameters in one call: tch's own optimizer cannot save its momentum.

#include "common.h"
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <set>
#include <utility>
#include <vector>

// As declared in parameters.rs and sgd.rs.
struct tm_SgdParameter {
    at::Tensor *tensor;
    double weight_decay;
    at::Tensor *momentum_buffer; // begins as zeros; undefined without momentum
    at::Tensor *step;            // a float32 scalar, begins as 0; undefined without dampening
};

struct tm_SgdOptions {
    double momentum, dampening;
    bool nesterov;
};

// grads += decay * params, for all parameters of the same decay (a parameter group) together.
static void add_weight_decay(std::vector<at::Tensor> &grads, const std::vector<at::Tensor> &params,
                             const std::vector<double> &decays) {
    for (double decay : std::set<double>(decays.begin(), decays.end())) {
        if (decay == 0) continue;
        std::vector<at::Tensor> group_grads, group_params;
        for (size_t i = 0; i < grads.size(); ++i) {
            if (decays[i] != decay) continue;
            group_grads.push_back(grads[i]);
            group_params.push_back(params[i]);
        }
        auto sums = at::_foreach_add(group_grads, group_params, decay);
        for (size_t i = 0, sum = 0; i < grads.size(); ++i)
            if (decays[i] == decay) grads[i] = sums[sum++];
    }
}

// The gradients as they are at a parameter's first step, times 1 - dampening at the later ones. Counts the step.
static std::vector<at::Tensor> dampen(const std::vector<at::Tensor> &grads, const std::vector<at::Tensor> &steps,
                                      double dampening) {
    auto shares = at::_foreach_clamp_max(steps, 1);
    at::_foreach_mul_(shares, -dampening);
    at::_foreach_add_(shares, 1);
    at::_foreach_add_(steps, 1);
    return at::_foreach_mul(grads, shares);
}

extern "C" {

// The arithmetic, in the order of torch/optim/sgd.py, so that every bit is PyTorch's:
//   grad += weight_decay * param; buffer = momentum * buffer + (1 - dampening) * grad;
//   grad = buffer, or grad + momentum * buffer for Nesterov; param -= lr * grad
// then optimizer.zero_grad(). PyTorch's first buffer is a copy of grad, which is what zeros become here if the first gradient is
// not dampened. A parameter without a gradient is left alone. This is the reference for tm_sgd_static_step.
char *tm_sgd_step(const tm_SgdParameter *parameters, int64_t count, double lr, const tm_SgdOptions *options) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        const auto [momentum, dampening, nesterov] = *options;
        for (int64_t i = 0; i < count; ++i) {
            const auto &[tensor, weight_decay, buffer, step] = parameters[i];
            at::Tensor grad = tensor->grad();
            if (!grad.defined()) continue;
            if (weight_decay != 0) grad = grad.add(*tensor, weight_decay);
            if (momentum != 0) {
                const bool dampened = step->defined() && step->item<float>() > 0;
                buffer->mul_(momentum).add_(grad, dampened ? 1 - dampening : 1);
                grad = nesterov ? grad.add(*buffer, momentum) : *buffer;
                if (step->defined()) step->add_(1);
            }
            tensor->add_(grad, -lr);
            tensor->mutable_grad().reset();
        }
    });
}

// The same with the learning rate in device memory, a float32 scalar: nothing comes from the host, so a replay of a
// CUDA graph reads its present value. A few kernels for all parameters together. It rounds as the step above, except
// that the fused kernel keeps one product in double on CUDA: the last bit of a parameter differs once in hundreds of
// millions. With dampening, a product is rounded before it is added.
char *tm_sgd_static_step(const tm_SgdParameter *parameters, int64_t count, const at::Tensor *lr,
                         const tm_SgdOptions *options) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        const auto [momentum, dampening, nesterov] = *options;
        std::vector<at::Tensor> params, grads, buffers, steps;
        std::vector<double> decays;
        for (int64_t i = 0; i < count; ++i) {
            const auto &[tensor, weight_decay, buffer, step] = parameters[i];
            if (!tensor->grad().defined()) continue;
            params.push_back(*tensor);
            grads.push_back(std::exchange(tensor->mutable_grad(), {}));
            decays.push_back(weight_decay);
            if (momentum != 0) buffers.push_back(*buffer);
            if (step->defined()) steps.push_back(*step);
        }
        add_weight_decay(grads, params, decays);
        if (momentum != 0) {
            at::_foreach_mul_(buffers, momentum);
            at::_foreach_add_(buffers, steps.empty() ? grads : dampen(grads, steps, dampening));
            grads = nesterov ? at::_foreach_add(grads, buffers, momentum) : buffers;
        }
        at::_fused_sgd_(params, grads, {}, 0, 0, *lr, 0, false, false, false);
    });
}
}
