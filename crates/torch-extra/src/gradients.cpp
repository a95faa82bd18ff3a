// The gradients of parameters, which tch can only zero.

#include "common.h"
#include <ATen/ATen.h>

extern "C" {

// optimizer.zero_grad(set_to_none=True): the memory of the gradients is freed.
char *tm_clear_gradients(const at::Tensor *const *parameters, int64_t count) {
    return guarded([&] {
        for (int64_t i = 0; i < count; ++i) parameters[i]->mutable_grad().reset();
    });
}
}
