// What a fused block does to one image, as plain functions on floats. fused_kernels.cpp is compiled once for every
// instruction set; fused.cpp chooses the best that the processor has.
//
// Images lie in memory as [height, width, channels], the channels padded with zeros to a multiple of 16 (`_pad`).
#pragma once

#include <cstdint>

constexpr int GROUP = 16; // the channels that one tile of the microkernel works on: a register of AVX-512

// A convolution of stride 1, 1x1 or 3x3. in_h and in_w count the zeros around the input; a 3x3 convolution, which is
// done in tiles of 2x2 outputs, has an even out_h and out_w. There are at most 32 channels.
struct Geometry {
    int kernel;
    int in_h, in_w, in_c, in_pad;
    int out_h, out_w, out_c, out_pad;

    // The 1x1 convolutions that it is made of.
    int matrices() const { return kernel == 3 ? 16 : 1; }
};

// Which elements dropout drops: those whose hash is below `threshold` = p * 2^32.
struct Dropout {
    uint64_t key;
    uint32_t threshold;
};

struct Kernels {
    const char *instruction_set;

    // The nine inputs of each output pixel of a 3x3 convolution of one channel, side by side as channels.
    void (*patches)(const float *x, int h, int w, float *out);

    // w: [matrices, in_c, out_pad]. An input gradient is this too, with the kernel turned round.
    void (*convolve)(const Geometry &g, const float *x, const float *w, float *out);

    // Adds to dw: [matrices, out_c, in_pad], through as many floats of scratch; dy has `dy_row` floats a row.
    void (*weight_gradient)(const Geometry &g, const float *x, const float *dy, int dy_row, float *scratch, double *dw);

    // In place: ReLU, its result's sign bit then set where dropout drops it. Adds each channel's sum to `sum` and its
    // sum of squares to `square`. `index` is the first element's number in the batch.
    void (*activate)(float *x, int64_t pixels, int pad, Dropout dropout, int64_t index, double *sum, double *square);

    // BatchNorm and dropout of what `activate` left: y = (x - mean) * scale + shift, 0 where dropped.
    // `affine` is three rows of `pad`: mean, scale, shift.
    void (*normalise)(const float *x, int64_t pixels, int pad, const float *affine, float *y);

    // The way back through `normalise`, in place: dy becomes dx, and each channel's sums of dy and of
    // dy * (x - mean), over what is not dropped, are added.
    void (*normalise_gradient)(float *dy, const float *x, int64_t pixels, int pad, const float *affine, double *sum,
                               double *product);

    // The way back through ReLU, and through the mean and variance of its result x: dx + b * x + c where x > 0.
    void (*activate_gradient)(const float *dx, const float *x, int pixels, int pad, const float *b, const float *c,
                              float *out);

    // For evaluation, in place: max(x, 0) * scale + shift.
    void (*relu_affine)(float *x, int64_t pixels, int pad, const float *scale, const float *shift);

    // 2x2 maxima and, for the way back, which of the four each was.
    void (*max_pool)(const float *x, int h, int w, int pad, float *y, uint8_t *which);
    void (*max_unpool)(const float *dy, const uint8_t *which, int h, int w, int pad, float *out);
};
