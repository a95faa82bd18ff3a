// Products and decompositions of many small matrices. On a CPU the threads share them: each is quicker on one thread.

#include "common.h"
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <vector>

// MKL's own (mkl_service.h); missing where libtorch has another LAPACK, which keeps to one thread inside parallel_for.
extern "C" int MKL_Set_Num_Threads_Local(int threads) __attribute__((weak));

namespace {

// While it lives, MKL computes on the calling thread alone. What is cut for two threads has other bits.
struct OneThread {
    int before = 0;
    OneThread() {
        at::get_num_threads(); // ATen tells MKL its number when it first runs on a thread: let that be before
        if (MKL_Set_Num_Threads_Local) before = MKL_Set_Num_Threads_Local(1);
    }
    ~OneThread() {
        if (MKL_Set_Num_Threads_Local) MKL_Set_Num_Threads_Local(before);
    }
};

// Stores body(i) for each of `count` matrices, the first of which is `first`, as a tensor made with `new` in `out`.
template <typename Body>
void for_each(const at::Tensor *first, int64_t count, at::Tensor **out, Body body) {
    std::vector<at::Tensor> results(count);
    const auto some = [&](int64_t begin, int64_t end) {
        at::NoGradGuard no_grad;
        const OneThread one_thread;
        for (int64_t i = begin; i < end; ++i) results[i] = body(i);
    };
    if (first->is_cpu()) at::parallel_for(0, count, 1, some);
    else some(0, count);
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
