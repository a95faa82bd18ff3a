// Convolution + ReLU + BatchNorm + dropout as one operation, forward and backward.

#include "../common.h"
#include "operations.h"
#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/custom_function.h>

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace fused {
namespace {

constexpr double MOMENTUM = 0.1, EPSILON = 1e-5; // nn.BatchNorm2d's defaults

// BatchNorm's tensors are read and written through pointers to their floats.
void check_channels(int64_t channels, std::initializer_list<const Tensor *> tensors) {
    for (const Tensor *tensor : tensors)
        TORCH_CHECK(tensor->dim() == 1 && tensor->size(0) == channels && tensor->scalar_type() == at::kFloat &&
                        tensor->is_cpu() && tensor->is_contiguous(),
                    "the fused BatchNorm needs tensors of ", channels, " numbers in float32 on the CPU");
}

uint64_t dropout_key() {
    at::Generator generator = at::detail::getDefaultCPUGenerator();
    std::lock_guard<std::mutex> lock(generator.mutex());
    return generator.get<at::CPUGeneratorImpl>()->random64();
}

uint32_t dropout_threshold(double p) {
    TORCH_CHECK(p >= 0 && p < 1, "dropout must be a probability from 0 to below 1, not ", p);
    return uint32_t(std::min(std::round(p * 4294967296.0), 4294967295.0));
}

struct TrainBlock : torch::autograd::Function<TrainBlock> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, const Tensor &gamma,
                          const Tensor &beta, const Tensor &running_mean, const Tensor &running_var,
                          const Tensor &batches, int64_t padding, double p, bool plain) {
        const Convolution conv(chosen_kernels(), x, weight, padding, plain);
        const Geometry &g = conv.g;
        const Profiled profiled("fused_block", conv);
        const double count = double(conv.images * conv.pixels), keep = 1 / (1 - p);
        TORCH_CHECK(conv.images > 0, "BatchNorm cannot train on an empty batch");
        check_channels(g.out_c, {&gamma, &beta, &running_mean, &running_var});
        TORCH_CHECK(batches.dim() == 0 && batches.scalar_type() == at::kLong && batches.is_cpu(),
                    "num_batches_tracked must be an int64 scalar on the CPU");
        const Dropout dropout = {p > 0 ? dropout_key() : 0, dropout_threshold(p)};
        const Tensor w = conv.packed(), y = at::empty({conv.images + 1, g.out_h, g.out_w, g.out_pad}, at::kFloat);
        Sums<double> sums(conv.images, 2 * g.out_pad);
        const float *weights = w.data_ptr<float>();
        float *out = y.data_ptr<float>();
        conv.over_images(0, [&](int64_t slice, int64_t image, const float *x, float *) {
            const int64_t offset = image * conv.out_floats;
            conv.kernels.block(g, x, weights, {dropout, offset, sums.of(slice), sums.of(slice) + g.out_pad}, out + offset);
        });

        const std::vector<double> total = sums.total();
        const Tensor inverse_deviation = at::empty({g.out_c}, at::kDouble);
        float *affine = affine_of(y);
        std::fill(affine, affine + 3 * g.out_pad, 0.0f);
        for (int c = 0; c < g.out_c; ++c) {
            const double mean = total[c] / count, variance = std::max(total[g.out_pad + c] / count - mean * mean, 0.0);
            const double inverse = 1 / std::sqrt(variance + EPSILON);
            inverse_deviation.data_ptr<double>()[c] = inverse;
            affine[c] = float(mean);
            affine[g.out_pad + c] = float(gamma.data_ptr<float>()[c] * inverse * keep);
            affine[2 * g.out_pad + c] = float(beta.data_ptr<float>()[c] * keep);
            float &old_mean = running_mean.data_ptr<float>()[c], &old_var = running_var.data_ptr<float>()[c];
            old_mean = float(MOMENTUM * mean + (1 - MOMENTUM) * old_mean);
            old_var = float(MOMENTUM * variance * count / (count - 1) + (1 - MOMENTUM) * old_var);
        }
        *batches.data_ptr<int64_t>() += 1;

        context->save_for_backward({x, weight, gamma, inverse_deviation, y, w});
        context->saved_data["padding"] = padding;
        context->saved_data["plain"] = plain;
        context->saved_data["keep"] = keep;
        context->saved_data["kernels"] = saved(conv.kernels);
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list gradients) {
        const variable_list saved = context->get_saved_variables();
        const Tensor dy = gradients[0].contiguous(), y = saved[4], gamma = saved[2];
        const Convolution conv(restored(context->saved_data["kernels"]), saved[0], saved[1],
                               context->saved_data["padding"].toInt(), context->saved_data["plain"].toBool());
        const Geometry &g = conv.g;
        const Profiled profiled("fused_block_backward", conv);
        const double count = double(conv.images * conv.pixels), keep = context->saved_data["keep"].toDouble();

        // From the gradients of the three rows: those of gamma and beta, and b * y + c, which every y gets through the
        // mean and the variance.
        const Tensor dgamma = at::empty_like(gamma), dbeta = at::empty_like(gamma);
        std::vector<float> b(g.out_pad), c(g.out_pad);
        const float *affine = affine_of(y), *daffine = affine_of(dy);
        for (int i = 0; i < g.out_c; ++i) {
            const double inverse = saved[3].data_ptr<double>()[i], dscale = daffine[g.out_pad + i] * keep * inverse;
            dgamma.data_ptr<float>()[i] = float(dscale);
            dbeta.data_ptr<float>()[i] = float(daffine[2 * g.out_pad + i] * keep);
            b[i] = float(-gamma.data_ptr<float>()[i] * inverse * inverse * dscale / count);
            c[i] = float(daffine[i] / count - double(b[i]) * affine[i]);
        }
        const float *gradient = dy.data_ptr<float>(), *result = y.data_ptr<float>();
        const auto [dweight, dx] = conv.backward(saved[5], 0, [&](int64_t image, const float *x, const float *wt,
                                                                  float *dw, float *dx, float *) {
            const int64_t offset = image * conv.out_floats;
            conv.kernels.block_gradients(g, x, {gradient + offset, result + offset, b.data(), c.data()}, wt, dw, dx);
        });
        return {dx, dweight, dgamma, dbeta, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

// BatchNorm and dropout of a block's output, where the next layer is not fused: [N + 1, H, W, pad] to [N, H, W, pad].
struct Normalise : torch::autograd::Function<Normalise> {
    static Tensor forward(AutogradContext *context, const Tensor &x) {
        TORCH_CHECK(x.dim() == 4 && x.size(0) > 1 && x.scalar_type() == at::kFloat && x.is_cpu() && x.is_contiguous() &&
                        x.size(3) % GROUP == 0,
                    "the output of a fused block in training was expected");
        const int pad = int(x.size(3));
        const int64_t images = x.size(0) - 1, pixels = x.size(1) * x.size(2), floats = x.stride(0);
        const Tensor y = at::empty({images, x.size(1), x.size(2), pad}, at::kFloat);
        const Kernels &kernels = chosen_kernels();
        over_slices(images, 0, [&](int64_t, int64_t from, int64_t to, float *) {
            for (int64_t image = from; image < to; ++image)
                kernels.normalise(x.data_ptr<float>() + image * floats, pixels, pad, affine_of(x),
                                  y.data_ptr<float>() + image * floats);
        });
        context->save_for_backward({x});
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list gradients) {
        const Tensor x = context->get_saved_variables()[0], dy = gradients[0].contiguous(), dx = at::empty_like(x);
        const int pad = int(x.size(3));
        const int64_t images = x.size(0) - 1, pixels = x.size(1) * x.size(2), floats = x.stride(0);
        Sums<double> sums(images, 2 * pad);
        const Kernels &kernels = chosen_kernels();
        over_slices(images, 0, [&](int64_t slice, int64_t from, int64_t to, float *) {
            double *sum = sums.of(slice), *product = sum + pad;
            for (int64_t image = from; image < to; ++image) {
                float *out = dx.data_ptr<float>() + image * floats;
                std::copy_n(dy.data_ptr<float>() + image * floats, floats, out);
                kernels.normalise_gradient(out, x.data_ptr<float>() + image * floats, pixels, pad, affine_of(x), sum,
                                           product);
            }
        });
        const std::vector<double> total = sums.total();
        write_affine_gradient(dx, affine_of(x), pad, pad, total.data(), total.data() + pad);
        return {dx};
    }
};

} // namespace

EvaluatedBlock::EvaluatedBlock(const Convolution &conv, const Tensor &gamma, const Tensor &beta,
                               const Tensor &running_mean, const Tensor &running_var)
    : w(conv.packed()), scale(conv.g.out_pad), shift(conv.g.out_pad) {
    check_channels(conv.g.out_c, {&gamma, &beta, &running_mean, &running_var});
    for (int c = 0; c < conv.g.out_c; ++c) {
        const double factor =
            gamma.data_ptr<float>()[c] / std::sqrt(double(running_var.data_ptr<float>()[c]) + EPSILON);
        scale[c] = float(factor);
        shift[c] = float(beta.data_ptr<float>()[c] - running_mean.data_ptr<float>()[c] * factor);
    }
}

Tensor evaluate_block(const Convolution &conv, const EvaluatedBlock &block) {
    const Geometry &g = conv.g;
    const Tensor y = at::empty({conv.images, g.out_h, g.out_w, g.out_pad}, at::kFloat);
    const float *weights = block.w.data_ptr<float>();
    float *out = y.data_ptr<float>();
    conv.over_images(0, [&](int64_t, int64_t image, const float *x, float *) {
        conv.kernels.evaluated_block(g, x, weights, block.scale.data(), block.shift.data(), out + image * conv.out_floats);
    });
    return y;
}

} // namespace fused

extern "C" {

using namespace fused;

// Convolution + ReLU + BatchNorm + dropout; `Convolution` describes x. In training, the result is [N + 1, H, W, pad],
// and the running statistics and the number of batches are updated; in evaluation, x and the result are `plain`.
char *tm_fused_block(const Tensor *x, const Tensor *weight, const Tensor *gamma, const Tensor *beta,
                     const Tensor *running_mean, const Tensor *running_var, const Tensor *batches, int64_t padding,
                     double dropout, bool plain, bool train, Tensor **out) {
    return guarded([&] {
        if (train) {
            *out = new Tensor(TrainBlock::apply(*x, *weight, *gamma, *beta, *running_mean, *running_var, *batches,
                                                padding, dropout, plain));
        } else {
            const Convolution conv(chosen_kernels(), *x, *weight, padding, true);
            *out = new Tensor(evaluate_block(conv, {conv, *gamma, *beta, *running_mean, *running_var}));
        }
    });
}

// BatchNorm and dropout of the result of tm_fused_block in training. The result is plain.
char *tm_fused_normalise(const Tensor *x, Tensor **out) {
    return guarded([&] { *out = new Tensor(Normalise::apply(*x)); });
}

// The key that the next fused dropout would draw from the default generator.
char *tm_dropout_key(uint64_t *out) {
    return guarded([&] { *out = dropout_key(); });
}

// Which of n elements dropout of probability p drops with this key: bool [n]. n must be a multiple of 16.
char *tm_dropout_mask(uint64_t key, double p, int64_t n, Tensor **out) {
    return guarded([&] {
        TORCH_CHECK(n % GROUP == 0, "the length of a dropout mask must be a multiple of ", GROUP, ", not ", n);
        const Tensor ones = at::ones({n}, at::kFloat);
        double sums[2 * GROUP] = {};
        chosen_kernels().activate(ones.data_ptr<float>(), n / GROUP, GROUP,
                                  {{key, dropout_threshold(p)}, 0, sums, sums + GROUP});
        *out = new Tensor(at::signbit(ones));
    });
}
}
