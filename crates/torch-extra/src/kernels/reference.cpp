// The reference: what each function of `Kernels` computes, in plain loops. Read this file to learn what a kernel does,
// and fast.cpp to learn how it is made fast. The tests compare the two.
//
// Sums are in double, so that an error found by a test is the fast kernel's.

#include "kernels.h"

#include <cmath>
#include <vector>

namespace {

// A matrix for each place in the kernel: w is [kernel, kernel, in_c, out_pad], wt is [kernel, kernel, out_c, in_pad].
int matrices(const Geometry &g) { return g.kernel * g.kernel; }

void pack(const Geometry &g, const float *kernel, float *out, int64_t step) {
    for (int k = 0; k < matrices(g); ++k) out[k * step] = kernel[k];
}

void unpack(const Geometry &g, const double *gradient, int64_t step, float *kernel) {
    for (int k = 0; k < matrices(g); ++k) kernel[k] = float(gradient[k * step]);
}

void convolve(const Geometry &g, const float *x, const float *w, float *out) {
    for (int row = 0; row < g.out_h; ++row)
        for (int column = 0; column < g.out_w; ++column)
            for (int o = 0; o < g.out_pad; ++o) {
                double sum = 0;
                for (int k = 0; k < matrices(g); ++k) {
                    const float *pixel = x + ((row + k / g.kernel) * g.in_w + column + k % g.kernel) * g.in_pad;
                    for (int i = 0; i < g.in_c; ++i) sum += double(pixel[i]) * w[(k * g.in_c + i) * g.out_pad + o];
                }
                *out++ = float(sum);
            }
}

// dy: [out_h, out_w, out_pad].
void convolve_gradients(const Geometry &g, const float *x, const float *dy, const float *wt, float *dw, float *dx) {
    std::vector<double> weight(matrices(g) * g.out_c * g.in_pad), input(dx ? g.in_h * g.in_w * g.in_pad : 0);
    for (int row = 0; row < g.out_h; ++row)
        for (int column = 0; column < g.out_w; ++column, dy += g.out_pad)
            for (int k = 0; k < matrices(g); ++k) {
                const int pixel = ((row + k / g.kernel) * g.in_w + column + k % g.kernel) * g.in_pad;
                for (int o = 0; o < g.out_c; ++o)
                    for (int i = 0; i < g.in_pad; ++i) {
                        const int place = (k * g.out_c + o) * g.in_pad + i;
                        weight[place] += double(x[pixel + i]) * dy[o];
                        if (dx) input[pixel + i] += double(wt[place]) * dy[o];
                    }
            }
    for (size_t i = 0; i < weight.size(); ++i) dw[i] += float(weight[i]);
    for (size_t i = 0; i < input.size(); ++i) dx[i] = float(input[i]);
}

// A counter-based generator: a hash of the element's number and the key, whoever computes it and when.
uint32_t hash(uint32_t number, uint64_t key) {
    // The finaliser of splitmix64: keys that differ in one bit give unrelated streams.
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9;
    key = (key ^ (key >> 27)) * 0x94d049bb133111eb;
    key = key ^ (key >> 31);
    // Two rounds of xor-shift and multiply, as in the finaliser of MurmurHash3.
    uint32_t x = number * 0x9e3779b9 + uint32_t(key);
    x = (x ^ (x >> 16)) * 0x21f0aaad ^ uint32_t(key >> 32);
    return (x ^ (x >> 15)) * 0x735a2d97;
}

void activate(float *x, int64_t pixels, int pad, const Activation &activation) {
    for (int64_t i = 0; i < pixels * pad; ++i) {
        const float value = std::fabs(x[i] < 0 ? 0 : x[i]); // NaN stays NaN, -0 becomes 0
        activation.sum[i % pad] += value;
        activation.square[i % pad] += double(value) * value;
        const Dropout &dropout = activation.dropout;
        const bool dropped = hash(uint32_t(activation.index + i), dropout.key) < dropout.threshold;
        x[i] = dropped ? -value : value;
    }
}

void block(const Geometry &g, const float *x, const float *w, const Activation &activation, float *out) {
    convolve(g, x, w, out);
    activate(out, g.out_h * g.out_w, g.out_pad, activation);
}

void block_gradients(const Geometry &g, const float *x, const ActivationGradient &gradient, const float *wt, float *dw,
                     float *dx) {
    std::vector<float> dy(g.out_h * g.out_w * g.out_pad);
    for (size_t i = 0; i < dy.size(); ++i) {
        const float value = std::fabs(gradient.y[i]); // the sign is dropout's
        const int c = int(i % g.out_pad);
        dy[i] = value > 0 ? float(gradient.dy[i] + double(gradient.b[c]) * value + gradient.c[c]) : 0;
    }
    convolve_gradients(g, x, dy.data(), wt, dw, dx);
}

void evaluated_block(const Geometry &g, const float *x, const float *w, const float *scale, const float *shift,
                     float *out) {
    convolve(g, x, w, out);
    for (int i = 0; i < g.out_h * g.out_w * g.out_pad; ++i)
        out[i] = float(double(out[i] < 0 ? 0 : out[i]) * scale[i % g.out_pad] + shift[i % g.out_pad]);
}

void normalise(const float *x, int64_t pixels, int pad, const float *affine, float *y) {
    const float *mean = affine, *scale = affine + pad, *shift = affine + 2 * pad;
    for (int64_t i = 0; i < pixels * pad; ++i) {
        const int64_t c = i % pad;
        y[i] = std::signbit(x[i]) ? 0 : float((double(x[i]) - mean[c]) * scale[c] + shift[c]);
    }
}

void normalise_gradient(float *dy, const float *x, int64_t pixels, int pad, const float *affine, double *sum,
                        double *product) {
    const float *mean = affine, *scale = affine + pad;
    for (int64_t i = 0; i < pixels * pad; ++i) {
        const int64_t c = i % pad;
        const double gradient = std::signbit(x[i]) ? 0 : dy[i];
        sum[c] += gradient;
        product[c] += gradient * (double(x[i]) - mean[c]);
        dy[i] = float(gradient * scale[c]);
    }
}

void max_pool(const float *x, int h, int w, int pad, float *y, uint8_t *which) {
    for (int row = 0; row < h; row += 2)
        for (int column = 0; column < w; column += 2)
            for (int c = 0; c < pad; ++c, ++y, ++which)
                for (int i = 0; i < 4; ++i) {
                    const float value = x[((row + i / 2) * w + column + i % 2) * pad + c];
                    // The first of equal values, and any NaN, as in PyTorch.
                    if (i == 0 || value > *y || std::isnan(value)) *y = value, *which = uint8_t(i);
                }
}

void max_unpool(const float *dy, const uint8_t *which, int h, int w, int pad, float *out) {
    for (int row = 0; row < h; row += 2)
        for (int column = 0; column < w; column += 2)
            for (int c = 0; c < pad; ++c, ++dy, ++which)
                for (int i = 0; i < 4; ++i)
                    out[((row + i / 2) * w + column + i % 2) * pad + c] = i == *which ? *dy : 0;
}

} // namespace

extern const Kernels kernels_reference;
const Kernels kernels_reference = {"reference",
                                   matrices,
                                   pack,
                                   unpack,
                                   block,
                                   block_gradients,
                                   evaluated_block,
                                   convolve,
                                   convolve_gradients,
                                   activate,
                                   normalise,
                                   normalise_gradient,
                                   max_pool,
                                   max_unpool};
