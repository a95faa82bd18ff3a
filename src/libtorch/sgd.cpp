// One step of torch.optim.SGD over all parameters in one call: tch's own optimizer cannot save its momentum.

#include "common.h"
#include <torch/torch.h>

#include <set>
#include <utility>
#include <vector>

// grads += decay * params, together for the parameters of the same decay: those of a parameter group.
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

extern "C" {

// The arithmetic, in the order of torch/optim/sgd.py (dampening 0), so that every bit is PyTorch's:
//   grad += weight_decay * param; buffer = momentum * buffer + grad (the first time: a copy of grad);
//   grad = buffer, or grad + momentum * buffer for Nesterov; param -= lr * grad
// and optimizer.zero_grad() after it. A parameter without a gradient is left alone. An undefined buffer is the first time.
char *tm_sgd_step(at::Tensor **parameters, at::Tensor **buffers, int64_t count, double lr, double momentum,
                  const double *weight_decays, bool nesterov) {
    return guarded([&] {
        torch::NoGradGuard no_grad;
        for (int64_t i = 0; i < count; ++i) {
            at::Tensor &parameter = *parameters[i];
            at::Tensor &buffer = *buffers[i];
            at::Tensor grad = parameter.grad();
            if (!grad.defined()) continue;
            if (weight_decays[i] != 0) grad = grad.add(parameter, weight_decays[i]);
            if (momentum != 0) {
                if (buffer.defined())
                    buffer.mul_(momentum).add_(grad);
                else
                    buffer = grad.detach().clone();
                grad = nesterov ? grad.add(buffer, momentum) : buffer;
            }
            parameter.add_(grad, -lr);
            parameter.mutable_grad().reset();
        }
    });
}

// The same with the learning rate in device memory, a float32 scalar, and buffers that begin as zeros, which the first
// time makes the same copy of grad: nothing of it comes from the host, so a CUDA graph of it replays with whatever lr
// then holds. A few kernels for all parameters together. Every rounding is the one of above but for a product that the
// fused kernel keeps in double on CUDA, where the last bit of a parameter differs once in hundreds of millions.
char *tm_sgd_static_step(at::Tensor **parameters, at::Tensor **buffers, int64_t count, const at::Tensor *lr,
                         double momentum, const double *weight_decays, bool nesterov) {
    return guarded([&] {
        torch::NoGradGuard no_grad;
        std::vector<at::Tensor> params, grads, bufs;
        std::vector<double> decays;
        for (int64_t i = 0; i < count; ++i) {
            if (!parameters[i]->grad().defined()) continue;
            params.push_back(*parameters[i]);
            grads.push_back(std::exchange(parameters[i]->mutable_grad(), {}));
            decays.push_back(weight_decays[i]);
            if (momentum == 0) continue;
            TORCH_CHECK(buffers[i]->defined(), "a momentum buffer is missing");
            bufs.push_back(*buffers[i]);
        }
        add_weight_decay(grads, params, decays);
        if (momentum != 0) {
            at::_foreach_mul_(bufs, momentum);
            at::_foreach_add_(bufs, grads);
            grads = nesterov ? at::_foreach_add(grads, bufs, momentum) : bufs;
        }
        at::_fused_sgd_(params, grads, {}, 0, 0, *lr, 0, false, false, false);
    });
}
}
