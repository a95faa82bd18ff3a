// A block of the net as one operation on the CPU, forward and backward: convolution + ReLU + BatchNorm + dropout,
// 1x1 convolution + 2x2 max-pool, or average-pool + 1x1 convolution. docs/kernels.md explains why and how.
//
// A batch is stored as [N, H, W, channels], the channels padded with zeros to a multiple of 16. In training, a block with
// BatchNorm returns [N + 1, H, W, channels]: the results of ReLU, with dropout's decisions in their sign bits, and in the
// place of one more image three rows: a mean, a scale and a shift per channel. The next block normalises each image when
// it reads it: y = (x - mean) * scale + shift, or 0 where dropped. The gradient has the gradients of the three rows in
// the same place.
//
// This file has the batch, BatchNorm's few numbers per channel, and autograd; the functions of `Kernels` compute one
// image. The batch is always cut into SLICES whose sums are added in order, so the number of threads changes no bit.

#include "common.h"
#include "kernels/kernels.h"
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <vector>

extern const Kernels kernels_portable, kernels_reference;
#ifdef TM_X86_64
extern const Kernels kernels_x86_64_v3, kernels_avx512;
#endif

namespace {

// What this processor can run, the fastest first. The reference is last, so that only a test which asks for it gets it.
std::vector<const Kernels *> available_kernels() {
    std::vector<const Kernels *> all;
#ifdef TM_X86_64
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2");
    if (v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        all.push_back(&kernels_avx512);
    if (v3) all.push_back(&kernels_x86_64_v3);
#endif
    all.push_back(&kernels_portable);
    all.push_back(&kernels_reference);
    return all;
}

std::atomic<const Kernels *> &chosen_kernels() {
    static std::atomic<const Kernels *> chosen{available_kernels().front()};
    return chosen;
}

const Kernels &kernels() { return *chosen_kernels(); }

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t SLICES = 16; // at most
constexpr double MOMENTUM = 0.1, EPSILON = 1e-5; // nn.BatchNorm2d's defaults

int padded(int64_t channels) { return int((channels + GROUP - 1) / GROUP * GROUP); }

// How many slices a batch is cut into: each has a few images, for a slice's sums cost memory traffic too.
int64_t slices_of(int64_t images) { return std::clamp<int64_t>(images / 4, 1, SLICES); }

// Calls body(slice, first image, end, scratch) for every slice. `scratch` is memory of the running thread: `floats` floats
// of any value.
template <typename Body>
void over_slices(int64_t images, int64_t floats, Body body) {
    const int64_t stride = (floats + GROUP - 1) / GROUP * GROUP, slices = slices_of(images);
    const Tensor scratches = at::empty({at::get_num_threads() * stride}, at::kFloat);
    float *base = scratches.data_ptr<float>();
    at::parallel_for(0, slices, 1, [&](int64_t begin, int64_t end) {
        float *scratch = base + at::get_thread_num() * stride;
        for (int64_t slice = begin; slice < end; ++slice)
            body(slice, images * slice / slices, images * (slice + 1) / slices, scratch);
    });
}

// Sums of a batch: one row per slice, added in the order of the slices in double.
template <typename Number>
struct Sums {
    Tensor rows;
    Sums(int64_t images, int64_t count)
        : rows(at::zeros({slices_of(images), count}, c10::CppTypeToScalarType<Number>::value)) {}
    Number *of(int64_t slice) { return rows.data_ptr<Number>() + slice * rows.size(1); }
    std::vector<double> total() {
        std::vector<double> sum(rows.size(1), 0.0);
        at::parallel_for(0, rows.size(1), 2048, [&](int64_t begin, int64_t end) {
            for (int64_t slice = 0; slice < rows.size(0); ++slice) {
                const Number *row = of(slice);
                for (int64_t i = begin; i < end; ++i) sum[i] += row[i];
            }
        });
        return sum;
    }
};

// The rows mean, scale and shift of a batch [N + 1, H, W, pad], or their gradients: behind the images.
float *affine_of(const Tensor &x) { return x.data_ptr<float>() + (x.size(0) - 1) * x.stride(0); }

// Writes the gradients of mean, scale and shift behind those of the images, from the sums of dy and dy * (x - mean).
void write_affine_gradient(const Tensor &dx, const float *affine, int channels, int pad, const double *sum,
                           const double *product) {
    for (int c = 0; c < channels; ++c) {
        float *daffine = affine_of(dx) + c;
        daffine[0] = float(-sum[c] * affine[pad + c]);
        daffine[pad] = float(product[c]);
        daffine[2 * pad] = float(sum[c]);
    }
}

// A convolution of a batch x with weight [out, in, kernel, kernel]. For a weight of one input channel, x is the images
// [N, 1, H, W]; otherwise it is the output of a block in training, [N + 1, H, W, pad], or `plain` images [N, H, W, pad].
struct Convolution {
    Geometry g;
    int matrices; // of the packed weight
    int border;   // zeros around the input
    Tensor x, weight;
    bool first;          // of one channel: the images themselves
    const float *affine; // null if x needs no normalisation
    int64_t images, pixels, in_floats, out_floats, source_floats, weights;

    Convolution(const Tensor &x, const Tensor &weight, int64_t padding, bool plain)
        : border(int(padding)), x(x.contiguous()), weight(weight.contiguous()) {
        TORCH_CHECK(x.dim() == 4 && x.scalar_type() == at::kFloat && x.is_cpu() && weight.dim() == 4,
                    "the fused kernels need a batch of images in float32 on the CPU");
        TORCH_CHECK(weight.scalar_type() == at::kFloat && weight.is_cpu() && weight.size(2) == weight.size(3),
                    "the fused kernels need a square convolution kernel in float32 on the CPU");
        first = weight.size(1) == 1;
        const int kernel = int(weight.size(2)), out_c = int(weight.size(0)), in_c = int(weight.size(1));
        const int h = int(x.size(first ? 2 : 1)) + 2 * border, w = int(x.size(first ? 3 : 2)) + 2 * border;
        const int out_h = h - kernel + 1, out_w = w - kernel + 1;
        g = {kernel, h, w, in_c, first ? 1 : padded(in_c), out_h, out_w, out_c, padded(out_c)};
        TORCH_CHECK((kernel == 1 || kernel == 3) && border < kernel && g.in_pad <= MOST && g.out_pad <= MOST,
                    "the fused kernels need a 1x1 or 3x3 convolution of at most 32 channels");
        if (first) {
            TORCH_CHECK(kernel == 3 && border == 0 && x.size(1) == 1,
                        "the first fused block must be a 3x3 convolution, without padding, of images of one channel");
            TORCH_CHECK(!x.requires_grad(),
                        "the fused kernels compute no gradient for the images; the torch kernels do");
        } else {
            TORCH_CHECK(x.size(3) == g.in_pad, "the fused kernels need channels padded to 16 or 32");
            TORCH_CHECK(kernel == 1 || (out_h % 2 == 0 && out_w % 2 == 0),
                        "a fused 3x3 convolution needs an output of even height and width, not ", out_h, "x", out_w);
        }
        matrices = kernels().matrices(g);
        pixels = int64_t(out_h) * out_w;
        TORCH_CHECK(out_h > 0 && out_w > 0 && pixels >= 3, "the image is too small for the fused kernels");
        affine = first || plain ? nullptr : affine_of(this->x);
        images = x.size(0) - (affine != nullptr);
        in_floats = x.stride(0);
        out_floats = pixels * g.out_pad;
        source_floats = affine || border > 0 ? int64_t(g.in_h) * g.in_w * g.in_pad : 0;
        weights = int64_t(matrices) * g.out_c * g.in_pad;
    }

    // An image as the kernels read it: x itself, or a normalised or padded copy in `scratch`, which has source_floats
    // floats and zeros at the border.
    const float *source(int64_t image, float *scratch) const {
        const float *from = x.data_ptr<float>() + image * in_floats;
        if (source_floats == 0) return from;
        over_rows([&](int64_t inside, int64_t bordered, int columns) {
            if (affine) kernels().normalise(from + inside, columns, g.in_pad, affine, scratch + bordered);
            else std::copy_n(from + inside, columns * g.in_pad, scratch + bordered);
        });
        return scratch;
    }

    // Calls body(place in an image of x, place in the image with its border, pixels) for each row; once where there is no
    // border.
    template <typename Body>
    void over_rows(Body body) const {
        if (border == 0) return body(0, 0, g.in_h * g.in_w);
        const int columns = g.in_w - 2 * border;
        for (int y = border; y < g.in_h - border; ++y)
            body(int64_t(y - border) * columns * g.in_pad, (int64_t(y) * g.in_w + border) * g.in_pad, columns);
    }

    // The weight as the kernels read it, [matrices, in_c, out_pad]; or `transposed` for the gradients, [matrices, out_c, in_pad].
    Tensor packed(bool transposed) const {
        const int from = transposed ? g.out_c : g.in_c, pad = transposed ? g.in_pad : g.out_pad;
        const Tensor out = at::zeros({matrices, from, pad}, at::kFloat);
        const float *w = weight.data_ptr<float>();
        for (int o = 0; o < g.out_c; ++o)
            for (int i = 0; i < g.in_c; ++i, w += g.kernel * g.kernel)
                kernels().pack(g, w, out.data_ptr<float>() + (transposed ? o * pad + i : i * pad + o), from * pad);
        return out;
    }

    // The weight's gradient from that of the matrices, [matrices, out_c, in_pad].
    Tensor unpacked(const double *from) const {
        const Tensor out = at::empty_like(weight);
        float *to = out.data_ptr<float>();
        for (int o = 0; o < g.out_c; ++o)
            for (int i = 0; i < g.in_c; ++i, to += g.kernel * g.kernel)
                kernels().unpack(g, from + o * g.in_pad + i, g.out_c * g.in_pad, to);
        return out;
    }

    // Calls body(slice, image, x, scratch) for every image, with x as the kernels read it. `scratch` has `floats` floats.
    template <typename Body>
    void over_images(int64_t floats, Body body) const {
        over_slices(images, source_floats + floats, [&](int64_t slice, int64_t from, int64_t to, float *scratch) {
            if (border > 0) std::fill_n(scratch, source_floats, 0.0f);
            for (int64_t image = from; image < to; ++image)
                body(slice, image, source(image, scratch), scratch + source_floats);
        });
    }

    // The gradients of weight and x (undefined for the first block). gradients(image, x, wt, dw, dx, scratch) computes those
    // of one image: x and dx with their border. `scratch` has `floats` floats.
    template <typename Gradients>
    std::pair<Tensor, Tensor> backward(int64_t floats, Gradients gradients) const {
        const Tensor dx = first ? Tensor() : at::empty_like(x), wt = first ? Tensor() : packed(true);
        const int64_t bordered = border > 0 ? source_floats : 0;
        Sums<float> weight_sums(images, weights);
        Sums<double> sums(images, 2 * g.in_pad);
        over_images(bordered + floats, [&](int64_t slice, int64_t image, const float *x, float *scratch) {
            float *out = first ? nullptr : dx.data_ptr<float>() + image * in_floats;
            gradients(image, x, first ? nullptr : wt.data_ptr<float>(), weight_sums.of(slice),
                      border > 0 ? scratch : out, scratch + bordered);
            if (!first) finish(image, scratch, out, sums.of(slice), sums.of(slice) + g.in_pad);
        });
        if (affine) {
            const std::vector<double> total = sums.total();
            write_affine_gradient(dx, total.data(), total.data() + g.in_pad);
        }
        return {unpacked(weight_sums.total().data()), dx};
    }

    // The input's gradient without its border, and before the normalisation.
    void finish(int64_t image, const float *bordered, float *dx, double *sum, double *product) const {
        over_rows([&](int64_t inside, int64_t outside, int columns) {
            if (border > 0) std::copy_n(bordered + outside, columns * g.in_pad, dx + inside);
            if (affine)
                kernels().normalise_gradient(dx + inside, x.data_ptr<float>() + image * in_floats + inside, columns,
                                             g.in_pad, affine, sum, product);
        });
    }

    void write_affine_gradient(const Tensor &dx, const double *sum, const double *product) const {
        ::write_affine_gradient(dx, affine, g.in_c, g.in_pad, sum, product);
    }
};

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
        const Convolution conv(x, weight, padding, plain);
        const Geometry &g = conv.g;
        const double count = double(conv.images * conv.pixels), keep = 1 / (1 - p);
        TORCH_CHECK(conv.images > 0, "BatchNorm cannot train on an empty batch");
        check_channels(g.out_c, {&gamma, &beta, &running_mean, &running_var});
        TORCH_CHECK(batches.dim() == 0 && batches.scalar_type() == at::kLong && batches.is_cpu(),
                    "num_batches_tracked must be an int64 scalar on the CPU");
        const Dropout dropout = {p > 0 ? dropout_key() : 0, dropout_threshold(p)};
        const Tensor w = conv.packed(false), y = at::empty({conv.images + 1, g.out_h, g.out_w, g.out_pad}, at::kFloat);
        Sums<double> sums(conv.images, 2 * g.out_pad);
        conv.over_images(0, [&](int64_t slice, int64_t image, const float *x, float *) {
            const int64_t offset = image * conv.out_floats;
            kernels().block(g, x, w.data_ptr<float>(),
                            {dropout, offset, sums.of(slice), sums.of(slice) + g.out_pad}, y.data_ptr<float>() + offset);
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

        context->save_for_backward({x, weight, gamma, inverse_deviation, y});
        context->saved_data["padding"] = padding;
        context->saved_data["plain"] = plain;
        context->saved_data["keep"] = keep;
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list gradients) {
        const variable_list saved = context->get_saved_variables();
        const Tensor dy = gradients[0].contiguous(), y = saved[4], gamma = saved[2];
        const Convolution conv(saved[0], saved[1], context->saved_data["padding"].toInt(),
                               context->saved_data["plain"].toBool());
        const Geometry &g = conv.g;
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
        const auto [dweight, dx] = conv.backward(0, [&](int64_t image, const float *x, const float *wt, float *dw, float *dx,
                                                        float *) {
            const int64_t offset = image * conv.out_floats;
            kernels().block_gradients(
                g, x, {dy.data_ptr<float>() + offset, y.data_ptr<float>() + offset, b.data(), c.data()}, wt, dw, dx);
        });
        return {dx, dweight, dgamma, dbeta, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    }
};

// BatchNorm with its running statistics is a scale and a shift, so each image is finished while it is in cache. There is
// no gradient.
Tensor evaluate_block(const Tensor &x, const Tensor &weight, const Tensor &gamma, const Tensor &beta,
                      const Tensor &running_mean, const Tensor &running_var, int64_t padding) {
    const Convolution conv(x, weight, padding, true);
    const Geometry &g = conv.g;
    check_channels(g.out_c, {&gamma, &beta, &running_mean, &running_var});
    std::vector<float> scale(g.out_pad), shift(g.out_pad);
    for (int c = 0; c < g.out_c; ++c) {
        const double factor =
            gamma.data_ptr<float>()[c] / std::sqrt(double(running_var.data_ptr<float>()[c]) + EPSILON);
        scale[c] = float(factor);
        shift[c] = float(beta.data_ptr<float>()[c] - running_mean.data_ptr<float>()[c] * factor);
    }
    const Tensor w = conv.packed(false), y = at::empty({conv.images, g.out_h, g.out_w, g.out_pad}, at::kFloat);
    conv.over_images(0, [&](int64_t, int64_t image, const float *x, float *) {
        kernels().evaluated_block(g, x, w.data_ptr<float>(), scale.data(), shift.data(),
                                  y.data_ptr<float>() + image * conv.out_floats);
    });
    return y;
}

// Each image's 1x1 convolution and 2x2 max-pool, and which of four values each maximum was.
std::pair<Tensor, Tensor> convolve_and_pool(const Convolution &conv) {
    const Geometry &g = conv.g;
    TORCH_CHECK(g.kernel == 1 && g.out_h % 2 == 0 && g.out_w % 2 == 0,
                "the fused max-pool must follow a 1x1 convolution of even height and width");
    const Tensor w = conv.packed(false);
    const Tensor y = at::empty({conv.images, g.out_h / 2, g.out_w / 2, g.out_pad}, at::kFloat);
    const Tensor which = at::empty(y.sizes(), at::kByte);
    conv.over_images(conv.out_floats, [&](int64_t, int64_t image, const float *x, float *unpooled) {
        const int64_t offset = image * conv.out_floats / 4;
        kernels().pointwise(g, x, w.data_ptr<float>(), unpooled);
        kernels().max_pool(unpooled, g.out_h, g.out_w, g.out_pad, y.data_ptr<float>() + offset,
                           which.data_ptr<uint8_t>() + offset);
    });
    return {y, which};
}

struct ConvolutionMaxPool : torch::autograd::Function<ConvolutionMaxPool> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, bool plain) {
        const auto [y, which] = convolve_and_pool(Convolution(x, weight, 0, plain));
        context->save_for_backward({x, weight, which});
        context->saved_data["plain"] = plain;
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list gradients) {
        const variable_list saved = context->get_saved_variables();
        const Convolution conv(saved[0], saved[1], 0, context->saved_data["plain"].toBool());
        const Tensor dy = gradients[0].contiguous(), which = saved[2];
        const auto [dweight, dx] = conv.backward(conv.out_floats, [&](int64_t image, const float *x, const float *wt,
                                                                      float *dw, float *dx, float *unpooled) {
            const int64_t offset = image * conv.out_floats / 4;
            kernels().max_unpool(dy.data_ptr<float>() + offset, which.data_ptr<uint8_t>() + offset, conv.g.out_h,
                                 conv.g.out_w, conv.g.out_pad, unpooled);
            kernels().pointwise_gradients(conv.g, x, unpooled, wt, dw, dx);
        });
        return {dx, dweight, Tensor()};
    }
};

// An element of the average of an image, [in_pad], normalised if its pixels are not.
double normalised(const Convolution &conv, const float *average, int i) {
    const float *affine = conv.affine + i;
    const int pad = conv.g.in_pad;
    return conv.affine ? (double(average[i]) - affine[0]) * affine[pad] + affine[2 * pad] : average[i];
}

// The average of each channel over the image, then a 1x1 convolution of that one pixel, to [N, out]; and the averages. These
// are a few thousand numbers, so plain loops are enough. x comes from a block without dropout, so BatchNorm, which is
// linear, can be applied to the average.
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

struct AveragePoolConvolution : torch::autograd::Function<AveragePoolConvolution> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &weight, bool plain) {
        const auto [y, averages] = average_and_convolve(Convolution(x, weight, 0, plain));
        context->save_for_backward({x, weight, averages});
        context->saved_data["plain"] = plain;
        return y;
    }

    static variable_list backward(AutogradContext *context, variable_list gradients) {
        const variable_list saved = context->get_saved_variables();
        const Convolution conv(saved[0], saved[1], 0, context->saved_data["plain"].toBool());
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

// BatchNorm and dropout of a block's output, where the next layer is not fused: [N + 1, H, W, pad] to [N, H, W, pad].
struct Normalise : torch::autograd::Function<Normalise> {
    static Tensor forward(AutogradContext *context, const Tensor &x) {
        TORCH_CHECK(x.dim() == 4 && x.size(0) > 1 && x.scalar_type() == at::kFloat && x.is_cpu() && x.is_contiguous() &&
                        x.size(3) % GROUP == 0,
                    "the output of a fused block in training was expected");
        const int pad = int(x.size(3));
        const int64_t images = x.size(0) - 1, pixels = x.size(1) * x.size(2), floats = x.stride(0);
        const Tensor y = at::empty({images, x.size(1), x.size(2), pad}, at::kFloat);
        over_slices(images, 0, [&](int64_t, int64_t from, int64_t to, float *) {
            for (int64_t image = from; image < to; ++image)
                kernels().normalise(x.data_ptr<float>() + image * floats, pixels, pad, affine_of(x),
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
        over_slices(images, 0, [&](int64_t slice, int64_t from, int64_t to, float *) {
            double *sum = sums.of(slice), *product = sum + pad;
            for (int64_t image = from; image < to; ++image) {
                float *out = dx.data_ptr<float>() + image * floats;
                std::copy_n(dy.data_ptr<float>() + image * floats, floats, out);
                kernels().normalise_gradient(out, x.data_ptr<float>() + image * floats, pixels, pad, affine_of(x), sum,
                                             product);
            }
        });
        const std::vector<double> total = sums.total();
        write_affine_gradient(dx, affine_of(x), pad, pad, total.data(), total.data() + pad);
        return {dx};
    }
};

// A fused unit in evaluation; `fused.rs` has the same struct.
struct Stage {
    enum { BLOCK, MAX_POOL, AVERAGE_POOL } kind;
    // A block needs all of them, the others the weight.
    const Tensor *weight, *gamma, *beta, *running_mean, *running_var;
    int64_t padding;

    Tensor operator()(const Tensor &x) const {
        switch (kind) {
        case BLOCK: return evaluate_block(x, *weight, *gamma, *beta, *running_mean, *running_var, padding);
        case MAX_POOL: return convolve_and_pool(Convolution(x, *weight, 0, true)).first;
        default: return average_and_convolve(Convolution(x, *weight, 0, true)).first;
        }
    }
};

// How many images go through all stages before the next ones: their activations stay in the second-level cache.
constexpr int64_t EVALUATED_TOGETHER = 32;

Tensor evaluate_stages(const Tensor &images, const Stage *stages, int64_t count) {
    const int64_t total = images.size(0), least = std::clamp<int64_t>(at::get_num_threads(), 1, std::max<int64_t>(1, total));
    const int64_t parts = std::max(least, total / EVALUATED_TOGETHER);
    std::vector<Tensor> outputs(parts);
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
        const at::NoGradGuard no_grad; // each thread has its own
        for (int64_t part = begin; part < end; ++part) {
            Tensor x = images.slice(0, total * part / parts, total * (part + 1) / parts);
            for (int64_t i = 0; i < count; ++i) x = stages[i](x);
            outputs[part] = x;
        }
    });
    return at::cat(outputs);
}

} // namespace

extern "C" {

// Images [N, 1, H, W] through stages of which the last is an average-pool: [N, out]. There is no gradient.
char *tm_fused_evaluate(const Tensor *images, const Stage *stages, int64_t count, Tensor **out) {
    return guarded([&] { *out = new Tensor(evaluate_stages(*images, stages, count)); });
}

// Convolution + ReLU + BatchNorm + dropout; `Convolution` describes x. In training, the result is [N + 1, H, W, pad], and
// the running statistics and the number of batches are updated; in evaluation, x and the result are `plain`.
char *tm_fused_block(const Tensor *x, const Tensor *weight, const Tensor *gamma, const Tensor *beta,
                     const Tensor *running_mean, const Tensor *running_var, const Tensor *batches, int64_t padding,
                     double dropout, bool plain, bool train, Tensor **out) {
    return guarded([&] {
        *out = new Tensor(train ? TrainBlock::apply(*x, *weight, *gamma, *beta, *running_mean, *running_var, *batches,
                                                    padding, dropout, plain)
                                : evaluate_block(*x, *weight, *gamma, *beta, *running_mean, *running_var, padding));
    });
}

// 1x1 convolution + 2x2 max-pool. The result is plain.
char *tm_fused_convolution_max_pool(const Tensor *x, const Tensor *weight, bool plain, Tensor **out) {
    return guarded([&] { *out = new Tensor(ConvolutionMaxPool::apply(*x, *weight, plain)); });
}

// Average-pool of the whole image + 1x1 convolution, to [N, out].
char *tm_fused_average_pool_convolution(const Tensor *x, const Tensor *weight, bool plain, Tensor **out) {
    return guarded([&] { *out = new Tensor(AveragePoolConvolution::apply(*x, *weight, plain)); });
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
        kernels().activate(ones.data_ptr<float>(), n / GROUP, GROUP, {{key, dropout_threshold(p)}, 0, sums, sums + GROUP});
        *out = new Tensor(at::signbit(ones));
    });
}

// The instruction set of the kernels in use.
const char *tm_fused_instruction_set() { return kernels().instruction_set; }

// Uses the kernels of this instruction set, or the reference, from now on; false if the processor does not support it.
bool tm_fused_use_instruction_set(const char *name) {
    for (const Kernels *kernels : available_kernels())
        if (strcmp(kernels->instruction_set, name) == 0) return chosen_kernels() = kernels, true;
    return false;
}
}
