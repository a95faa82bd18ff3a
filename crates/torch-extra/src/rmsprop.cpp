// One step of torch.optim.RMSprop over all parameters in one call.

#include "common.h"
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <map>
#include <utility>
#include <vector>

// As declared in parameters.rs and rmsprop.rs.
struct tm_RmspropParameter {
    at::Tensor *tensor;
    double weight_decay;
    at::Tensor *step; // a float32 scalar that nothing is computed from; it and the others begin as zeros
    at::Tensor *square_avg;
    at::Tensor *momentum_buffer; // undefined without momentum
    at::Tensor *grad_avg;        // undefined if not centered
};

struct tm_RmspropOptions {
    double alpha, eps, momentum;
};

// A parameter group: the parameters of one weight decay.
struct RmspropGroup {
    std::vector<at::Tensor> params, grads, steps, square_avgs, momentum_buffers, grad_avgs;
};

// _multi_tensor_rmsprop of torch/optim/rmsprop.py, capturable, with a tensor for the learning rate.
static void static_step(RmspropGroup &group, double weight_decay, const at::Tensor &lr, const tm_RmspropOptions &options) {
    auto &[params, grads, steps, square_avgs, momentum_buffers, grad_avgs] = group;
    const auto [alpha, eps, momentum] = options;
    at::_foreach_add_(steps, 1);
    if (weight_decay != 0) grads = at::_foreach_add(grads, params, weight_decay);
    at::_foreach_mul_(square_avgs, alpha);
    at::_foreach_addcmul_(square_avgs, grads, grads, 1 - alpha);
    std::vector<at::Tensor> avg;
    if (grad_avgs.empty()) {
        avg = at::_foreach_sqrt(square_avgs);
    } else {
        at::_foreach_lerp_(grad_avgs, grads, 1 - alpha);
        avg = at::_foreach_addcmul(square_avgs, grad_avgs, grad_avgs, -1);
        at::_foreach_sqrt_(avg);
    }
    at::_foreach_add_(avg, eps);
    if (momentum > 0) {
        at::_foreach_mul_(momentum_buffers, momentum);
        at::_foreach_addcdiv_(momentum_buffers, grads, avg);
        at::_foreach_add_(params, at::_foreach_mul(momentum_buffers, lr.neg()));
    } else {
        at::_foreach_div_(avg, lr.neg());
        at::_foreach_addcdiv_(params, grads, avg);
    }
}

extern "C" {

// _single_tensor_rmsprop of torch/optim/rmsprop.py on a CPU, in its order of rounding, so that every bit is PyTorch's;
// then optimizer.zero_grad(). A parameter without a gradient is left alone.
char *tm_rmsprop_step(const tm_RmspropParameter *parameters, int64_t count, double lr, const tm_RmspropOptions *options) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        const auto [alpha, eps, momentum] = *options;
        for (int64_t i = 0; i < count; ++i) {
            const auto &[param, weight_decay, step, square_avg, momentum_buffer, grad_avg] = parameters[i];
            at::Tensor grad = param->grad();
            if (!grad.defined()) continue;
            TORCH_CHECK(step->is_cpu() && step->dim() == 0, "steps are counted on the CPU");
            ++*step->data_ptr<float>();
            if (weight_decay != 0) grad = grad.add(*param, weight_decay);
            square_avg->mul_(alpha).addcmul_(grad, grad, 1 - alpha);
            at::Tensor avg;
            if (grad_avg->defined()) {
                grad_avg->lerp_(grad, 1 - alpha);
                avg = square_avg->addcmul(*grad_avg, *grad_avg, -1).sqrt_();
            } else {
                avg = square_avg->sqrt();
            }
            avg.add_(eps);
            if (momentum > 0) {
                momentum_buffer->mul_(momentum).addcdiv_(grad, avg);
                param->add_(*momentum_buffer, -lr);
            } else {
                param->addcdiv_(grad, avg, -lr);
            }
            param->mutable_grad().reset();
        }
    });
}

// The same with the learning rate in device memory, a float32 scalar, by a few kernels for each parameter group:
// nothing comes from the host, so a replay of a CUDA graph reads the present rate. The last bits differ from those
// above.
char *tm_rmsprop_static_step(const tm_RmspropParameter *parameters, int64_t count, const at::Tensor *lr,
                             const tm_RmspropOptions *options) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        std::map<double, RmspropGroup> groups;
        for (int64_t i = 0; i < count; ++i) {
            const auto &[param, weight_decay, step, square_avg, momentum_buffer, grad_avg] = parameters[i];
            if (!param->grad().defined()) continue;
            RmspropGroup &group = groups[weight_decay];
            group.params.push_back(*param);
            group.grads.push_back(std::exchange(param->mutable_grad(), {}));
            group.steps.push_back(*step);
            group.square_avgs.push_back(*square_avg);
            if (momentum_buffer->defined()) group.momentum_buffers.push_back(*momentum_buffer);
            if (grad_avg->defined()) group.grad_avgs.push_back(*grad_avg);
        }
        for (auto &[weight_decay, group] : groups) static_step(group, weight_decay, *lr, *options);
    });
}
}
