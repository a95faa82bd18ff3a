// What a fused block does to one image, as plain functions on floats: the interface between the batch (../fused) and
// the arithmetic. reference.cpp defines each function in plain loops; fast.cpp is compiled once per instruction set.
// docs/kernels.md explains how they work.
//
// Images are stored as [height, width, channels], the channels padded with zeros to a multiple of 16 (`_pad`); only an
// image of one channel is stored without padding.
#pragma once

#include <cstdint>

constexpr int GROUP = 16; // channels are padded to a multiple of this: the floats in a register of AVX-512
constexpr int MOST = 32;  // channels at most

// A convolution of stride 1, 1x1 or 3x3. in_h and in_w include the zeros around the input. For a 3x3 convolution of
// more than one channel, out_h and out_w are even.
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

// What follows a convolution in training: ReLU, then the sign bit is set where dropout drops. Each channel's sum is
// added to `sum` and its sum of squares to `square`. `index` is the number of the image's first element in the batch.
struct Activation {
    Dropout dropout;
    int64_t index;
    double *sum, *square;
};

// The gradient of ReLU and of the mean and variance of its result y, from the gradient dy of y: dy + b * y + c where
// y > 0, else 0. The sign of y is dropout's. b and c are one float per channel.
struct ActivationGradient {
    const float *dy, *y, *b, *c;
};

struct Kernels {
    const char *instruction_set;

    // The weight of a convolution is packed as this many matrices of [input, output] channels. `pack` converts the
    // kernel between one input and one output channel to its element in each matrix, `step` floats apart; `unpack`
    // converts the gradient of those elements to that of the kernel.
    int (*matrices)(const Geometry &g);
    void (*pack)(const Geometry &g, const float *kernel, float *out, int64_t step);
    void (*unpack)(const Geometry &g, const double *gradient, int64_t step, float *kernel);

    // Convolution and activation. w: [matrices, in_c, out_pad].
    void (*block)(const Geometry &g, const float *x, const float *w, const Activation &activation, float *out);
    // The gradients of the same: adds that of the weight to dw: [matrices, out_c, in_pad], and writes that of x, unless
    // dx is null. wt: [matrices, out_c, in_pad].
    void (*block_gradients)(const Geometry &g, const float *x, const ActivationGradient &gradient, const float *wt,
                            float *dw, float *dx);
    // For evaluation: max(convolution, 0) * scale + shift.
    void (*evaluated_block)(const Geometry &g, const float *x, const float *w, const float *scale, const float *shift,
                            float *out);

    // A 1x1 convolution alone, and its gradients: as above.
    void (*pointwise)(const Geometry &g, const float *x, const float *w, float *out);
    void (*pointwise_gradients)(const Geometry &g, const float *x, const float *dy, const float *wt, float *dw,
                                float *dx);

    // In place, what an Activation says.
    void (*activate)(float *x, int64_t pixels, int pad, const Activation &activation);

    // BatchNorm and dropout of the result of an activation: y = (x - mean) * scale + shift, 0 where dropped.
    // `affine` is three rows of `pad` floats: mean, scale, shift.
    void (*normalise)(const float *x, int64_t pixels, int pad, const float *affine, float *y);

    // The gradient of `normalise`, in place: dy becomes dx. Adds each channel's sums of dy and of dy * (x - mean), over
    // what is not dropped, to `sum` and `product`.
    void (*normalise_gradient)(float *dy, const float *x, int64_t pixels, int pad, const float *affine, double *sum,
                               double *product);

    // 2x2 maxima and, for the gradient, which of the four each one was. h and w are even.
    void (*max_pool)(const float *x, int h, int w, int pad, float *y, uint8_t *which);
    // The gradient of `max_pool`: each dy at the place of the maximum, 0 elsewhere.
    void (*max_unpool)(const float *dy, const uint8_t *which, int h, int w, int pad, float *out);
};
