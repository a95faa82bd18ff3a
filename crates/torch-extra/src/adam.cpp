// One step of torch.optim.Adam or AdamW over all parameters in one call.

#include "common.h"
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <map>
#include <utility>
#include <vector>

// As declared in parameters.rs and adam.rs.
struct tm_AdamParameter {
    at::Tensor *tensor;
    double weight_decay;
    at::Tensor *step; // a float32 scalar; it and the others begin as zeros
    at::Tensor *exp_avg, *exp_avg_sq;
    at::Tensor *max_exp_avg_sq; // undefined without amsgrad
};

struct tm_AdamOptions {
    double beta1, beta2, eps;
    bool decoupled_weight_decay; // AdamW
};

// A parameter group: the parameters of one weight decay.
struct AdamGroup {
    std::vector<at::Tensor> params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps;
};

extern "C" {

// _single_tensor_adam of torch/optim/adam.py on a CPU, in its order of rounding, so that every bit is PyTorch's; what
// it computes in Python's floats is double here. Then optimizer.zero_grad(). A parameter without a gradient is left
// alone.
char *tm_adam_step(const tm_AdamParameter *parameters, int64_t count, double lr, const tm_AdamOptions *options) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        const auto [beta1, beta2, eps, decoupled_weight_decay] = *options;
        for (int64_t i = 0; i < count; ++i) {
            const auto &[param, weight_decay, step, exp_avg, exp_avg_sq, max_exp_avg_sq] = parameters[i];
            at::Tensor grad = param->grad();
            if (!grad.defined()) continue;
            TORCH_CHECK(step->is_cpu() && step->dim() == 0, "steps are counted on the CPU");
            const double steps = ++*step->data_ptr<float>();
            if (weight_decay != 0) {
                if (decoupled_weight_decay) param->mul_(1 - lr * weight_decay);
                else grad = grad.add(*param, weight_decay);
            }
            exp_avg->lerp_(grad, 1 - beta1);
            exp_avg_sq->mul_(beta2).addcmul_(grad, grad, 1 - beta2);
            const double bias_correction1 = 1 - std::pow(beta1, steps);
            // Python's x ** 0.5 is C's pow, whose last bit is not always sqrt's.
            const double bias_correction2_sqrt = std::pow(1 - std::pow(beta2, steps), 0.5);
            const bool amsgrad = max_exp_avg_sq->defined();
            if (amsgrad) at::maximum_out(*max_exp_avg_sq, *max_exp_avg_sq, *exp_avg_sq);
            const at::Tensor &squares = amsgrad ? *max_exp_avg_sq : *exp_avg_sq;
            param->addcdiv_(*exp_avg, squares.sqrt().div(bias_correction2_sqrt).add_(eps), -(lr / bias_correction1));
            param->mutable_grad().reset();
        }
    });
}

// The same with the learning rate in device memory, a float32 scalar, by one kernel for each parameter group: nothing
// comes from the host, so a replay of a CUDA graph reads the present rate and counts its steps. The last bits differ
// from those above.
char *tm_adam_static_step(const tm_AdamParameter *parameters, int64_t count, const at::Tensor *lr,
                          const tm_AdamOptions *options) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        const auto [beta1, beta2, eps, decoupled_weight_decay] = *options;
        std::map<double, AdamGroup> groups;
        for (int64_t i = 0; i < count; ++i) {
            const auto &[param, weight_decay, step, exp_avg, exp_avg_sq, max_exp_avg_sq] = parameters[i];
            if (!param->grad().defined()) continue;
            AdamGroup &group = groups[weight_decay];
            group.params.push_back(*param);
            group.grads.push_back(std::exchange(param->mutable_grad(), {}));
            group.exp_avgs.push_back(*exp_avg);
            group.exp_avg_sqs.push_back(*exp_avg_sq);
            if (max_exp_avg_sq->defined()) group.max_exp_avg_sqs.push_back(*max_exp_avg_sq);
            group.steps.push_back(*step);
        }
        for (auto &[weight_decay, group] : groups) {
            auto &[params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps] = group;
            const bool amsgrad = !max_exp_avg_sqs.empty(), maximize = false;
            at::_foreach_add_(steps, 1);
            if (decoupled_weight_decay)
                at::_fused_adamw_(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, *lr, beta1, beta2, weight_decay,
                                  eps, amsgrad, maximize);
            else
                at::_fused_adam_(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, *lr, beta1, beta2, weight_decay,
                                 eps, amsgrad, maximize);
        }
    });
}
}
