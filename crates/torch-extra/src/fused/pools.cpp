// 1x1 convolution + 2x2 max-pool, and average-pool + 1x1 convolution, each as one operation, forward and backward.

#include "../common.h"
#include "operations.h"
#include <torch/csrc/autograd/custom_function.h>

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace fused {

std::pair<Tensor, Tensor> convolve_and_pool(const Convolution &conv, const Tensor &w) {
    const Geometry &g = conv.g;
    TORCH_CHECK(g.kernel == 1 && g.out_h % 2 == 0 && g.out_w % 2 == 0,
                "the fused max-pool must follow a 1x1 convolution of even height and width");
    const Tensor y = at::empty({conv.images, g.out_h / 2, g.out_w / 2, g.out_pad}, at::kFloat);
    const Tensor which = at::empty(y.sizes(), at::kByte);
    // Two rows at a time: all that happens to them happens in the first-level cache.
    Geometry rows = g;
    rows.in_h = rows.out_h = 2;
    const int64_t in = 2 * g.in_w * g.in_pad, out = 2 * g.out_w * g.out_pad, pairs = g.out_h / 2;
    const float *weights = w.data_ptr<float>();
    float *maxima = y.data_ptr<float>();
    uint8_t *places = which.data_ptr<uint8_t>();
    over_slices(conv.images, in + out, [&](int64_t, int64_t from, int64_t to, float *scratch) {
        for (int64_t pair = from * pairs; pair < to * pairs; ++pair) {
            const float *x = conv.data + pair / pairs * conv.in_floats + pair % pairs * in;
            if (conv.affine) {
                conv.kernels.normalise(x, in / g.in_pad, g.in_pad, conv.affine, scratch);
                x = scratch;
            }
            conv.kernels.pointwise(rows, x, weights, scratch + in);
            conv.kernels.max_pool(scratch + in, 2, g.out_w, g.out_pad, maxima + pair * out / 4, places + pair * out / 4);
        }
    });
    return {y, which};
}

// An element of the average of an image, [in_pad], normalised if its pixels are not.
static double normalised(const Convolution &conv, const float *average, int i) {
    const float *affine = conv.affine + i;
    const int pad = conv.g.in_pad;
    return conv.affine ? (double(average[i]) - affine[0]) * affine[pad] + affine[2 * pad] : average[i];
}

std::pair<Tensor, Tensor> average_and_convolve(const Convolution &conv) {
    TORCH_CHECK(conv.g.kernel == 1 && !conv.first, "the fused average-pool must be followed by a 1x1 convolution");
    const int in = conv.g.in_c, pad = conv.g.in_pad, out = conv.g.out_c;
    const Tensor averages = at::zeros({conv.images, pad}, at::kFloat), y = at::empty({conv.images, out}, at::kFloat);
    over_slices(conv.images, 0, [&](int64_t, int64_t from, int64_t to, float *) {
        for (int64_t image = from; image < to; ++image) {
            const float *pixel = conv.x.data_ptr<float>() + image * conv.in_floats, *w = conv.weight.data_ptr<float>();
            float *average = averages.data_ptr<float>() + image * pad, *result = y.data_ptr<float>() + image * out;
            for (int64_t p = 0; p < conv.pixels; ++p, pixel += pad)
                for (int i = 0; i < in; ++i) average[i] += pixel[i] / conv.pixels;
            for (int o = 0; o < out; ++o, w += in) {
                double sum = 0;
                for (int i = 0; i < in; ++i) sum += w[i] * normalised(conv, average, i);
                result[o] = float(sum);
            }
        }
    });
    return {y, averages};
}

namespace {

struct ConvolutionMaxPool : torch::autograd::Function<ConvolutionMaxPool> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, bool plain) {
        const Convolution conv(chosen_kernels(), x, weight, 0, plain);
        const Profiled profiled("fused_convolution_max_pool", conv);
        const Tensor w = conv.packed();
        const auto [y, which] = convolve_and_pool(conv, w);
        context->save_for_backward({x, weight, which, w});
        context->saved_data["plain"] = plain;
        context->saved_data["kernels"] = saved(conv.kernels);
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list gradients) {
        const variable_list saved = context->get_saved_variables();
        const Convolution conv(restored(context->saved_data["kernels"]), saved[0], saved[1], 0,
                               context->saved_data["plain"].toBool());
        const Profiled profiled("fused_convolution_max_pool_backward", conv);
        const Tensor dy = gradients[0].contiguous(), which = saved[2];
        const auto [dweight, dx] = conv.backward(saved[3], conv.out_floats, [&](int64_t image, const float *x,
                                                                                const float *wt, float *dw, float *dx,
                                                                                float *unpooled) {
            const int64_t offset = image * conv.out_floats / 4;
            conv.kernels.max_unpool(dy.data_ptr<float>() + offset, which.data_ptr<uint8_t>() + offset, conv.g.out_h,
                                    conv.g.out_w, conv.g.out_pad, unpooled);
            conv.kernels.pointwise_gradients(conv.g, x, unpooled, wt, dw, dx);
        });
        return {dx, dweight, Tensor()};
    }
};

struct AveragePoolConvolution : torch::autograd::Function<AveragePoolConvolution> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, bool plain) {
        const Convolution conv(chosen_kernels(), x, weight, 0, plain);
        const Profiled profiled("fused_average_pool_convolution", conv);
        const auto [y, averages] = average_and_convolve(conv);
        context->save_for_backward({x, weight, averages});
        context->saved_data["plain"] = plain;
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list gradients) {
        const variable_list saved = context->get_saved_variables();
        const Convolution conv(chosen_kernels(), saved[0], saved[1], 0, context->saved_data["plain"].toBool());
        const Profiled profiled("fused_average_pool_convolution_backward", conv);
        const int in = conv.g.in_c, pad = conv.g.in_pad, out = conv.g.out_c;
        const Tensor dy = gradients[0].contiguous(), dx = at::zeros_like(conv.x), dweight = at::empty_like(conv.weight);
        std::vector<double> dw(out * in), sum(in), product(in);
        for (int64_t image = 0; image < conv.images; ++image) {
            const float *average = saved[2].data_ptr<float>() + image * pad, *w = conv.weight.data_ptr<float>();
            const float *back = dy.data_ptr<float>() + image * out;
            float *pixel = dx.data_ptr<float>() + image * conv.in_floats;
            for (int i = 0; i < in; ++i) {
                double gradient = 0;
                for (int o = 0; o < out; ++o) {
                    gradient += back[o] * double(w[o * in + i]);
                    dw[o * in + i] += back[o] * normalised(conv, average, i);
                }
                sum[i] += gradient;
                if (conv.affine) product[i] += gradient * (double(average[i]) - conv.affine[i]);
                pixel[i] = float(gradient * (conv.affine ? conv.affine[pad + i] : 1) / conv.pixels);
            }
            for (int64_t p = 1; p < conv.pixels; ++p) std::copy(pixel, pixel + in, pixel + p * pad);
        }
        std::copy(dw.begin(), dw.end(), dweight.data_ptr<float>());
        if (conv.affine) conv.write_affine_gradient(dx, sum.data(), product.data());
        return {dx, dweight, Tensor()};
    }
};

} // namespace
} // namespace fused

extern "C" {

using namespace fused;

// 1x1 convolution + 2x2 max-pool. The result is plain.
char *tm_fused_convolution_max_pool(const Tensor *x, const Tensor *weight, bool plain, Tensor **out) {
    return guarded([&] { *out = new Tensor(ConvolutionMaxPool::apply(*x, *weight, plain)); });
}

// Average-pool of the whole image + 1x1 convolution, to [N, out].
char *tm_fused_average_pool_convolution(const Tensor *x, const Tensor *weight, bool plain, Tensor **out) {
    return guarded([&] { *out = new Tensor(AveragePoolConvolution::apply(*x, *weight, plain)); });
}
}
