// A batch of images and a convolution of them, for the fused operations of this folder; docs/kernels.md explains why
// and how.
//
// A batch is stored as [N, H, W, channels], the channels padded with zeros to a multiple of 16. In training, a block
// with BatchNorm returns [N + 1, H, W, channels]: the results of ReLU, with dropout's decisions in their sign bits, and
// in the place of one more image three rows: a mean, a scale and a shift per channel. The next block normalises each
// image when it reads it: y = (x - mean) * scale + shift, or 0 where dropped. The gradient has the gradients of the
// three rows in the same place.
//
// Here are the batch, its slices and the sums over them; the functions of `Kernels` compute one image. The batch is cut
// into slices whose sums are added in order, so the number of threads changes no bit.
#pragma once

#include "../kernels/choice.h"
#include "../pieces.h"
#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <vector>

namespace fused {

using at::Tensor;

constexpr int64_t SLICES = 16; // at most

inline int padded(int64_t channels) { return int((channels + GROUP - 1) / GROUP * GROUP); }

// How many slices a batch is cut into: each has a few images, for a slice's sums cost memory traffic too.
inline int64_t slices_of(int64_t images) { return std::clamp<int64_t>(images / 4, 1, SLICES); }

// Memory of the running thread: `floats` floats of any value, until the thread asks again.
inline float *scratch_of_thread(int64_t floats) {
    thread_local Tensor scratch;
    if (!scratch.defined() || scratch.numel() < floats) scratch = at::empty({floats}, at::kFloat);
    return scratch.data_ptr<float>();
}

// Calls body(slice, first image, end, scratch) for every slice. `scratch` is memory of the running thread: `floats`
// floats of any value.
template <typename Body>
void over_slices(int64_t images, int64_t floats, Body body) {
    const int64_t slices = slices_of(images);
    pieces::each(slices, [&](int64_t slice) {
        body(slice, images * slice / slices, images * (slice + 1) / slices, scratch_of_thread(floats));
    });
}

// Sums of a batch: one row per slice, added in the order of the slices in double.
template <typename Number>
struct Sums {
    int64_t slices, count;
    Tensor rows;
    Number *data;
    Sums(int64_t images, int64_t count)
        : slices(slices_of(images)), count(count),
          rows(at::empty({slices, count}, c10::CppTypeToScalarType<Number>::value)), data(rows.data_ptr<Number>()) {
        pieces::each(slices, [&](int64_t slice) { std::fill_n(of(slice), count, Number(0)); });
    }
    Number *of(int64_t slice) const { return data + slice * count; }
    std::vector<double> total() const {
        std::vector<double> sum(count, 0.0);
        pieces::ranges(count, 2048, [&](int64_t begin, int64_t end) {
            for (int64_t slice = 0; slice < slices; ++slice) {
                const Number *row = of(slice);
                for (int64_t i = begin; i < end; ++i) sum[i] += row[i];
            }
        });
        return sum;
    }
};

// The rows mean, scale and shift of a batch [N + 1, H, W, pad], or their gradients: behind the images.
inline float *affine_of(const Tensor &x) { return x.data_ptr<float>() + (x.size(0) - 1) * x.stride(0); }

// Writes the gradients of mean, scale and shift behind those of the images, from the sums of dy and dy * (x - mean).
inline void write_affine_gradient(const Tensor &dx, const float *affine, int channels, int pad, const double *sum,
                           const double *product) {
    for (int c = 0; c < channels; ++c) {
        float *daffine = affine_of(dx) + c;
        daffine[0] = float(-sum[c] * affine[pad + c]);
        daffine[pad] = float(product[c]);
        daffine[2 * pad] = float(sum[c]);
    }
}

// A convolution of a batch x with weight [out, in, kernel, kernel]. For a weight of one input channel, x is the images
// [N, 1, H, W]; otherwise it is the output of a block in training, [N + 1, H, W, pad], or `plain` images
// [N, H, W, pad].
struct Convolution {
    const Kernels &kernels;
    Geometry g;
    int matrices; // of the packed weight
    int border;   // zeros around the input
    Tensor x, weight;
    const float *data;   // of x
    bool first;          // of one channel: the images themselves
    const float *affine; // null if x needs no normalisation
    int64_t images, pixels, in_floats, out_floats, source_floats, weights;

    Convolution(const Kernels &kernels, const Tensor &x, const Tensor &weight, int64_t padding, bool plain)
        : kernels(kernels), border(int(padding)), x(x.contiguous()), weight(weight.contiguous()) {
        TORCH_CHECK(x.dim() == 4 && x.scalar_type() == at::kFloat && x.is_cpu() && weight.dim() == 4,
                    "the fused kernels need a batch of images in float32 on the CPU");
        TORCH_CHECK(weight.scalar_type() == at::kFloat && weight.is_cpu() && weight.size(2) == weight.size(3),
                    "the fused kernels need a square convolution kernel in float32 on the CPU");
        data = this->x.data_ptr<float>();
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
        matrices = kernels.matrices(g);
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
        const float *from = data + image * in_floats;
        if (source_floats == 0) return from;
        over_rows([&](int64_t inside, int64_t bordered, int columns) {
            if (affine) kernels.normalise(from + inside, columns, g.in_pad, affine, scratch + bordered);
            else std::copy_n(from + inside, columns * g.in_pad, scratch + bordered);
        });
        return scratch;
    }

    // Calls body(place in an image of x, place in the image with its border, pixels) for each row; once where there is
    // no border.
    template <typename Body>
    void over_rows(Body body) const {
        if (border == 0) return body(0, 0, g.in_h * g.in_w);
        const int columns = g.in_w - 2 * border;
        for (int y = border; y < g.in_h - border; ++y)
            body(int64_t(y - border) * columns * g.in_pad, (int64_t(y) * g.in_w + border) * g.in_pad, columns);
    }

    // The weight as the kernels read it, [matrices, in_c, out_pad].
    Tensor packed() const {
        const Tensor out = at::zeros({matrices, g.in_c, g.out_pad}, at::kFloat);
        const float *from = weight.data_ptr<float>();
        float *to = out.data_ptr<float>();
        over_weights(g.in_c, g.out_c, [&](int i, int o) {
            kernels.pack(g, from + kernel_at(o, i), to + i * g.out_pad + o, g.in_c * g.out_pad);
        });
        return out;
    }

    // The same for the gradients, [matrices, out_c, in_pad].
    Tensor transposed(const Tensor &packed) const {
        const Tensor out = at::zeros({matrices, g.out_c, g.in_pad}, at::kFloat);
        out.narrow(2, 0, g.in_c).copy_(packed.narrow(2, 0, g.out_c).transpose(1, 2));
        return out;
    }

    // The weight's gradient from that of the matrices, [matrices, out_c, in_pad].
    Tensor unpacked(const double *from) const {
        const Tensor out = at::empty_like(weight);
        float *to = out.data_ptr<float>();
        over_weights(g.out_c, g.in_c, [&](int o, int i) {
            kernels.unpack(g, from + o * g.in_pad + i, g.out_c * g.in_pad, to + kernel_at(o, i));
        });
        return out;
    }

    // Where the kernel between two channels lies in the weight.
    int kernel_at(int out, int in) const { return (out * g.in_c + in) * g.kernel * g.kernel; }

    // Calls body(row, column) for rows x columns, with the rows shared out among the threads.
    template <typename Body>
    static void over_weights(int rows, int columns, Body body) {
        pieces::ranges(rows, 8, [&](int64_t begin, int64_t end) {
            for (int row = int(begin); row < end; ++row)
                for (int column = 0; column < columns; ++column) body(row, column);
        });
    }

    // Calls body(slice, image, x, scratch) for every image, with x as the kernels read it. `scratch` has `floats`
    // floats.
    template <typename Body>
    void over_images(int64_t floats, Body body) const {
        over_slices(images, source_floats + floats, [&](int64_t slice, int64_t from, int64_t to, float *scratch) {
            if (border > 0) std::fill_n(scratch, source_floats, 0.0f);
            for (int64_t image = from; image < to; ++image)
                body(slice, image, source(image, scratch), scratch + source_floats);
        });
    }

    // The gradients of weight and x (undefined for the first block). gradients(image, x, wt, dw, dx, scratch) computes
    // those of one image: x and dx with their border, wt from the `packed` weight. `scratch` has `floats` floats.
    template <typename Gradients>
    std::pair<Tensor, Tensor> backward(const Tensor &packed, int64_t floats, Gradients gradients) const {
        const Tensor dx = first ? Tensor() : at::empty_like(x), wt = first ? Tensor() : transposed(packed);
        float *gradient = first ? nullptr : dx.data_ptr<float>();
        const float *transposes = first ? nullptr : wt.data_ptr<float>();
        const int64_t bordered = border > 0 ? source_floats : 0;
        Sums<float> weight_sums(images, weights);
        Sums<double> sums(images, 2 * g.in_pad);
        over_images(bordered + floats, [&](int64_t slice, int64_t image, const float *x, float *scratch) {
            float *out = first ? nullptr : gradient + image * in_floats;
            gradients(image, x, transposes, weight_sums.of(slice),
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
                kernels.normalise_gradient(dx + inside, data + image * in_floats + inside, columns, g.in_pad, affine, sum,
                                             product);
        });
    }

    void write_affine_gradient(const Tensor &dx, const double *sum, const double *product) const {
        fused::write_affine_gradient(dx, affine, g.in_c, g.in_pad, sum, product);
    }
};

// For the backward pass: `kernels` as a number that autograd saves.
inline int64_t saved(const Kernels &kernels) { return reinterpret_cast<int64_t>(&kernels); }
inline const Kernels &restored(const at::IValue &saved) { return *reinterpret_cast<const Kernels *>(saved.toInt()); }

// While it lives, libtorch's profiler counts its time as that of an operation of this name and these sizes.
struct Profiled {
    at::RecordFunction record{at::RecordScope::FUNCTION};

    Profiled(const char *name, const Convolution &conv) {
        if (!record.isActive()) return;
        const Geometry &g = conv.g;
        const int border = 2 * conv.border;
        record.before(c10::str(name, " ", g.in_c, "x", g.in_h - border, "x", g.in_w - border, " to ", g.out_c, "x",
                               g.out_h, "x", g.out_w));
    }
};

} // namespace fused
