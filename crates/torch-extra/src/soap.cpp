// SOAP over all parameters in one call: Adam in the eigenbases of Shampoo's preconditioner (Vyas et al., 2024,
// https://arxiv.org/abs/2409.11321). scripts/soap.py is the same in Python, operation by operation.

#include "common.h"
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <utility>

// As declared in parameters.rs and soap.rs.
struct tm_SoapParameter {
    at::Tensor *tensor;
    double weight_decay;
    at::Tensor *exp_avg, *exp_avg_sq; // begin as zeros; exp_avg_sq is in the eigenbases
    // Averages of G G^T and of G^T G, where the gradient G has a row per output channel, and orthogonal matrices near
    // their eigenvectors. They begin as zeros and identities. Undefined for a side that is not turned; where neither is,
    // this is plain Adam.
    at::Tensor *left, *right, *left_basis, *right_basis;
};

struct tm_SoapOptions {
    double beta1, beta2, eps;
};

// Brings `basis` nearer to the eigenvectors of `average`, those of large eigenvalues first. Returns which of its columns
// each new one came from.
static at::Tensor turn(const at::Tensor &average, at::Tensor &basis) {
    const at::Tensor product = average.mm(basis); // a step of the power iteration
    const at::Tensor order = basis.mul(product).sum(0).argsort(0, true);
    basis.copy_(std::get<0>(at::linalg_qr(product.index_select(1, order))));
    return order;
}

static at::Tensor into_bases(const at::Tensor &left, at::Tensor matrix, const at::Tensor &right) {
    if (left.defined()) matrix = left.t().mm(matrix);
    return right.defined() ? matrix.mm(right) : matrix;
}

static at::Tensor out_of_bases(const at::Tensor &left, at::Tensor matrix, const at::Tensor &right) {
    if (left.defined()) matrix = left.mm(matrix);
    return right.defined() ? matrix.mm(right.t()) : matrix;
}

// MKL's own (mkl_service.h); missing where libtorch has another LAPACK, which keeps to one thread inside parallel_for.
extern "C" int MKL_Set_Num_Threads_Local(int threads) __attribute__((weak));

// While it lives, MKL computes on the calling thread alone. A decomposition that is cut for two threads has other bits.
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

// Calls `body` for each parameter; on a CPU the threads share them. A product of such small matrices is quicker on one
// thread.
template <typename Body>
static void for_each(const tm_SoapParameter *parameters, int64_t count, Body body) {
    const auto some = [&](int64_t begin, int64_t end) {
        at::NoGradGuard no_grad;
        const OneThread one_thread;
        for (int64_t i = begin; i < end; ++i) body(parameters[i]);
    };
    if (count > 0 && parameters[0].tensor->is_cpu()) at::parallel_for(0, count, 1, some);
    else some(0, count);
}

extern "C" {

// A step, then optimizer.zero_grad(). `step`, a float32 scalar, counts it; `lr` is another: nothing comes from the host,
// so a CUDA graph may hold this. A parameter without a gradient is left alone.
char *tm_soap_step(const tm_SoapParameter *parameters, int64_t count, at::Tensor *step, const at::Tensor *lr,
                   const tm_SoapOptions *options) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        const double beta1 = options->beta1, beta2 = options->beta2, eps = options->eps;
        step->add_(1);
        const at::Tensor rate = lr->div(at::rsub(at::pow(beta1, *step), 1));
        const at::Tensor bias_correction2_sqrt = at::rsub(at::pow(beta2, *step), 1).sqrt();
        for_each(parameters, count, [&](const tm_SoapParameter &parameter) {
            const auto &[param, weight_decay, exp_avg, exp_avg_sq, left, right, left_basis, right_basis] = parameter;
            if (!param->grad().defined()) return;
            const at::Tensor grad = std::exchange(param->mutable_grad(), {});
            const auto matrix = [](const at::Tensor &tensor) { return tensor.dim() > 1 ? tensor.flatten(1) : tensor; };
            const at::Tensor gradient = matrix(grad);
            exp_avg->lerp_(grad, 1 - beta1);
            at::Tensor squares = matrix(*exp_avg_sq);
            const at::Tensor rotated = into_bases(*left_basis, gradient, *right_basis);
            squares.mul_(beta2).addcmul_(rotated, rotated, 1 - beta2);
            const at::Tensor momentum = into_bases(*left_basis, matrix(*exp_avg), *right_basis);
            const at::Tensor update = momentum.div(squares.sqrt().div_(bias_correction2_sqrt).add_(eps));
            if (weight_decay != 0) param->mul_(at::rsub(lr->mul(weight_decay), 1));
            param->sub_(out_of_bases(*left_basis, update, *right_basis).mul(rate).view_as(*param));
            if (left->defined()) left->lerp_(gradient.mm(gradient.t()), 1 - beta2);
            if (right->defined()) right->lerp_(gradient.t().mm(gradient), 1 - beta2);
        });
    });
}

// The bases follow the averages: the first time they become the eigenvectors, later one step of the power iteration
// brings them near. Decompositions wait for the device, so that no CUDA graph may hold this.
char *tm_soap_refresh(const tm_SoapParameter *parameters, int64_t count, bool first) {
    return guarded([&] {
        for_each(parameters, count, [&](const tm_SoapParameter &parameter) {
            const auto &[param, weight_decay, exp_avg, exp_avg_sq, left, right, left_basis, right_basis] = parameter;
            const std::pair<at::Tensor *, at::Tensor *> sides[] = {{left, left_basis}, {right, right_basis}};
            for (int64_t dim = 0; dim < 2; ++dim) {
                const auto &[average, basis] = sides[dim];
                if (!average->defined()) continue;
                if (first) {
                    basis->copy_(std::get<1>(at::linalg_eigh(*average)).flip(1));
                    continue;
                }
                at::Tensor squares = exp_avg_sq->flatten(1);
                squares.copy_(squares.index_select(dim, turn(*average, *basis)));
            }
        });
    });
}
}
