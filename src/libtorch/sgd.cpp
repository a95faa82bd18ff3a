// One step of torch.optim.SGD over all parameters in one call: tch's own optimizer cannot save its momentum.

#include "common.h"
#include <torch/torch.h>

extern "C" {

// The arithmetic, in the order of torch/optim/sgd.py (dampening 0), so that every bit is PyTorch's:
//   grad += weight_decay * param; buffer = momentum * buffer + grad (the first time: a copy of grad);
//   grad = buffer, or grad + momentum * buffer for Nesterov; param -= lr * grad
// and optimizer.zero_grad() after it. A parameter without a gradient is left alone. An undefined buffer is the first time.
char *tm_sgd_step(at::Tensor **parameters, at::Tensor **buffers, int64_t count, double lr, double momentum,
                  double weight_decay, bool nesterov) {
    return guarded([&] {
        torch::NoGradGuard no_grad;
        for (int64_t i = 0; i < count; ++i) {
            at::Tensor &parameter = *parameters[i];
            at::Tensor &buffer = *buffers[i];
            at::Tensor grad = parameter.grad();
            if (!grad.defined()) continue;
            if (weight_decay != 0) grad = grad.add(parameter, weight_decay);
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
}
