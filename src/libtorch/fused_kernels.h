// What a fused block does to one image, as plain functions on floats: the interface between the batch (fused.cpp) and
// the arithmetic. fused_reference.cpp defines each function in plain loops; fused_kernels.cpp is the fast version,
// compiled once per instruction set. docs/kernels.md explains how they work.
//
// Images are stored as [height, width, channels], the channels padded with zeros to a multiple of 16 (`_pad`).
#pragma once

#include <cstdint>

constexpr int GROUP = 16; // channels are padded to a multiple of this: the floats in a register of AVX-512

// A convolution of stride 1, 1x1 or 3x3. in_h and in_w include the zeros around the input. For a 3x3 convolution,
// out_h and out_w are even. There are at most 32 channels.
struct Geometry {
    int kernel;
    int in_h, in_w, in_c, in_pad;
    int out_h, out_w, out_c, out_pad;
};

// Which elements dropout drops: those whose hash is below `threshold` = p * 2^32.
struct Dropout {
    uint64_t key;
    uint32_t threshold;
};

struct Kernels {
    const char *instruction_set;

    // The weight of a 3x3 convolution is packed as this many matrices of [input, output] channels; that of a 1x1
    // convolution is one. `pack` converts the 3x3 kernel between one input and one output channel to its element in each
    // matrix, `step` floats apart; `unpack` converts the gradient of those elements to that of the kernel.
    int matrices;
    void (*pack)(const float *kernel, float *out, int64_t step);
    void (*unpack)(const double *gradient, int64_t step, float *kernel);

    // The nine inputs of each output pixel of a 3x3 convolution of one channel, side by side as channels. The seven
    // channels of padding are left as they are.
    void (*patches)(const float *x, int h, int w, float *out);

    // w: [matrices, in_c, out_pad]. An input gradient is a convolution too, with the kernel rotated by 180 degrees.
    void (*convolve)(const Geometry &g, const float *x, const float *w, float *out);

    // Adds to dw: [matrices, out_c, in_pad]; `scratch` has as many floats. A row of dy has `dy_row` floats.
    void (*weight_gradient)(const Geometry &g, const float *x, const float *dy, int dy_row, float *scratch, double *dw);

    // In place: ReLU, then the sign bit is set where dropout drops. Adds each channel's sum to `sum` and its sum of
    // squares to `square`. `index` is the number of the first element in the batch.
    void (*activate)(float *x, int64_t pixels, int pad, Dropout dropout, int64_t index, double *sum, double *square);

    // BatchNorm and dropout of the result of `activate`: y = (x - mean) * scale + shift, 0 where dropped.
    // `affine` is three rows of `pad` floats: mean, scale, shift.
    void (*normalise)(const float *x, int64_t pixels, int pad, const float *affine, float *y);

    // The gradient of `normalise`, in place: dy becomes dx. Adds each channel's sums of dy and of dy * (x - mean), over
    // what is not dropped, to `sum` and `product`.
    void (*normalise_gradient)(float *dy, const float *x, int64_t pixels, int pad, const float *affine, double *sum,
                               double *product);

    // The gradient of ReLU and of the mean and variance of its result x: dx + b * x + c where x > 0, else 0.
    void (*activate_gradient)(const float *dx, const float *x, int pixels, int pad, const float *b, const float *c,
                              float *out);

    // For evaluation, in place: max(x, 0) * scale + shift.
    void (*relu_affine)(float *x, int64_t pixels, int pad, const float *scale, const float *shift);

    // 2x2 maxima and, for the gradient, which of the four each one was. h and w are even.
    void (*max_pool)(const float *x, int h, int w, int pad, float *y, uint8_t *which);
    // The gradient of `max_pool`: each dy at the place of the maximum, 0 elsewhere.
    void (*max_unpool)(const float *dy, const uint8_t *which, int h, int w, int pad, float *out);
};
