// The reference: what each function of `Kernels` computes, in plain loops. Read this file to learn what a kernel does,
// and fused_kernels.cpp to learn how it is made fast. The tests compare the two.
//
// Sums are in double, so that an error found by a test is the fast kernel's.

#include "fused_kernels.h"

#include <cmath>

namespace {

// A 3x3 convolution has a matrix for each of the nine places in the kernel: w is [3, 3, in_c, out_pad].
constexpr int MATRICES = 9;

void pack(const float *kernel, float *out, int64_t step) {
    for (int k = 0; k < MATRICES; ++k) out[k * step] = kernel[k];
}

void unpack(const double *gradient, int64_t step, float *kernel) {
    for (int k = 0; k < MATRICES; ++k) kernel[k] = float(gradient[k * step]);
}

void patches(const float *x, int h, int w, float *out) {
    for (int row = 0; row < h - 2; ++row)
        for (int column = 0; column < w - 2; ++column, out += GROUP)
            for (int ky = 0; ky < 3; ++ky)
                for (int kx = 0; kx < 3; ++kx) out[ky * 3 + kx] = x[(row + ky) * w + column + kx];
}

void convolve(const Geometry &g, const float *x, const float *w, float *out) {
    for (int row = 0; row < g.out_h; ++row)
        for (int column = 0; column < g.out_w; ++column)
            for (int o = 0; o < g.out_pad; ++o) {
                double sum = 0;
                for (int ky = 0; ky < g.kernel; ++ky)
                    for (int kx = 0; kx < g.kernel; ++kx) {
                        const float *pixel = x + ((row + ky) * g.in_w + column + kx) * g.in_pad;
                        const float *weights = w + (ky * g.kernel + kx) * g.in_c * g.out_pad + o;
                        for (int i = 0; i < g.in_c; ++i) sum += double(pixel[i]) * weights[i * g.out_pad];
                    }
                *out++ = float(sum);
            }
}

void weight_gradient(const Geometry &g, const float *x, const float *dy, int dy_row, float *, double *dw) {
    for (int ky = 0; ky < g.kernel; ++ky)
        for (int kx = 0; kx < g.kernel; ++kx)
            for (int o = 0; o < g.out_c; ++o)
                for (int i = 0; i < g.in_pad; ++i, ++dw)
                    for (int row = 0; row < g.out_h; ++row)
                        for (int column = 0; column < g.out_w; ++column)
                            *dw += double(x[((row + ky) * g.in_w + column + kx) * g.in_pad + i]) *
                                   dy[row * dy_row + column * g.out_pad + o];
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

void activate(float *x, int64_t pixels, int pad, Dropout dropout, int64_t index, double *sum, double *square) {
    for (int64_t i = 0; i < pixels * pad; ++i) {
        const float value = std::fabs(x[i] < 0 ? 0 : x[i]); // NaN stays NaN, -0 becomes 0
        sum[i % pad] += value;
        square[i % pad] += double(value) * value;
        const bool dropped = hash(uint32_t(index + i), dropout.key) < dropout.threshold;
        x[i] = dropped ? -value : value;
    }
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

void activate_gradient(const float *dx, const float *x, int pixels, int pad, const float *b, const float *c,
                       float *out) {
    for (int i = 0; i < pixels * pad; ++i) {
        const float value = std::fabs(x[i]); // the sign is dropout's
        out[i] = value > 0 ? float(dx[i] + double(b[i % pad]) * value + c[i % pad]) : 0;
    }
}

void relu_affine(float *x, int64_t pixels, int pad, const float *scale, const float *shift) {
    for (int64_t i = 0; i < pixels * pad; ++i)
        x[i] = float(double(x[i] < 0 ? 0 : x[i]) * scale[i % pad] + shift[i % pad]);
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
                                   MATRICES,
                                   pack,
                                   unpack,
                                   patches,
                                   convolve,
                                   weight_gradient,
                                   activate,
                                   normalise,
                                   normalise_gradient,
                                   activate_gradient,
                                   relu_affine,
                                   max_pool,
                                   max_unpool};
