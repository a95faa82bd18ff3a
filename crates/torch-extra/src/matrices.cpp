// Products and decompositions of many small matrices. On a CPU the threads share them: each is quicker on one thread.

#include "common.h"
#include "pieces.h"
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <vector>

namespace {

// Stores body(i) for each of `count` matrices, the first of which is `first`, as a tensor made with `new` in `out`.
template <typename Body>
void for_each(const at::Tensor *first, int64_t count, at::Tensor **out, Body body) {
    std::vector<at::Tensor> results(count);
    const auto one = [&](int64_t i) {
        at::NoGradGuard no_grad;
        const pieces::OneThread one_thread; // what is cut for two threads has other bits
        results[i] = body(i);
    };
    if (first->is_cpu()) {
        pieces::each(count, one);
    } else {
        for (int64_t i = 0; i < count; ++i) one(i);
    }
    for (int64_t i = 0; i < count; ++i) out[i] = new at::Tensor(std::move(results[i]));
}

} // namespace

extern "C" {

// lefts[i] @ rights[i]
char *tm_mm(const at::Tensor *const *lefts, const at::Tensor *const *rights, int64_t count, at::Tensor **out) {
    return guarded([&] { for_each(*lefts, count, out, [&](int64_t i) { return lefts[i]->mm(*rights[i]); }); });
}

// torch.linalg.eigh(matrix).eigenvectors
char *tm_eigenvectors(const at::Tensor *const *matrices, int64_t count, at::Tensor **out) {
    return guarded([&] {
        for_each(*matrices, count, out, [&](int64_t i) { return std::get<1>(at::linalg_eigh(*matrices[i])); });
    });
}

// torch.linalg.qr(matrix).Q
char *tm_orthogonalise(const at::Tensor *const *matrices, int64_t count, at::Tensor **out) {
    return guarded([&] {
        for_each(*matrices, count, out, [&](int64_t i) { return std::get<0>(at::linalg_qr(*matrices[i])); });
    });
}
}
