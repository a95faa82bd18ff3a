// Products of pixels with matrices: 1x1 convolutions, the places of Winograd's tiles, and a 3x3 convolution of one
// channel.
#pragma once

#include "outputs.h"

namespace {

// Hands the sums of P pixels x 16 channels, `group` the first, on to an output.
template <int P, typename Output>
inline void put_tile(const vec (&sum)[P][V], int group, int out_pad, int at, Output &output) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
        const int c = group + v * LANES;
        auto channels = output.begin(c);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) channels.put(at + p * out_pad + c, sum[p][v]);
        output.end(c, channels);
    }
}

// The microkernel: P pixels x 16 output channels of a 1x1 convolution, summed in registers.
template <int PAD, int P, typename Output>
inline void product_tile(const float *x, const float *w, int channels, int group, int out_pad, int at, Output &output) {
    vec sum[P][V] = {};
    w += group;
    for (int c = 0; c < channels; ++c, w += out_pad) {
        vec weight[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) weight[v] = load(w + v * LANES);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) sum[p][v] += weight[v] * x[p * PAD + c];
    }
    put_tile(sum, group, out_pad, at, output);
}

// A 1x1 convolution of `pixels` pixels [pixels, PAD], cut into tiles of nearly equal size. w: [channels, out_pad].
template <int PAD, typename Output>
inline void product(const float *x, int pixels, int channels, const float *w, int out_pad, Output &output) {
    const int tiles = (pixels + PIXELS - 1) / PIXELS;
    for (int tile = 0; tile < tiles; ++tile) {
        const int from = tile * pixels / tiles, to = (tile + 1) * pixels / tiles;
        with_constant<PIXELS>(to - from, [&](auto count) {
            for (int group = 0; group < out_pad; group += GROUP)
                product_tile<PAD, count.value>(x + from * PAD, w, channels, group, out_pad, from * out_pad, output);
        });
    }
}

// Adds the sum over `pixels` pixels of 16 input channels x J output channels to dw.
template <int PAD, int J>
inline void weight_tile(const float *x, const float *dy, int dy_pad, int pixels, float *dw) {
    vec sum[J][V] = {};
    for (int p = 0; p < pixels; ++p, x += PAD, dy += dy_pad) {
        vec input[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) input[v] = load(x + v * LANES);
#pragma GCC unroll 16
        for (int j = 0; j < J; ++j)
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) sum[j][v] += input[v] * dy[j];
    }
#pragma GCC unroll 16
    for (int j = 0; j < J; ++j)
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) store(dw + j * PAD + v * LANES, load(dw + j * PAD + v * LANES) + sum[j][v]);
}

// Adds the weight gradient of a 1x1 convolution to dw: [channels, PAD]. dy: [pixels, dy_pad].
template <int PAD>
inline void weight_product(const float *x, const float *dy, int dy_pad, int pixels, int channels, float *dw) {
    const int tiles = (channels + WEIGHTS - 1) / WEIGHTS;
    for (int tile = 0; tile < tiles; ++tile) {
        const int from = tile * channels / tiles, to = (tile + 1) * channels / tiles;
        with_constant<WEIGHTS>(to - from, [&](auto count) {
            for (int group = 0; group < PAD; group += GROUP)
                weight_tile<PAD, count.value>(x + group, dy + from, dy_pad, pixels, dw + from * PAD + group);
        });
    }
}

// How many pixels' weight gradients are summed in registers: a longer sum in float would lose digits.
constexpr int WEIGHT_RUN = 144;

// The gradients of a 1x1 convolution: adds to dw: [channels, PAD] and writes dx: [pixels, PAD], unless it is null.
// dy: [pixels, dy_pad], wt: [channels, PAD].
template <int PAD>
void product_gradients(const Geometry &g, const float *x, const float *dy, int pixels, const float *wt, float *dw,
                       float *dx) {
    for (int from = 0; from < pixels; from += WEIGHT_RUN) {
        const int run = pixels - from < WEIGHT_RUN ? pixels - from : WEIGHT_RUN;
        weight_product<PAD>(x + from * PAD, dy + from * g.out_pad, g.out_pad, run, g.out_c, dw);
    }
    if (!dx) return;
    Plain output = {dx};
    g.out_pad == GROUP ? product<GROUP>(dy, pixels, g.out_c, wt, PAD, output)
                       : product<MOST>(dy, pixels, g.out_c, wt, PAD, output);
}

// A 3x3 convolution of an image of one channel: a row's neighbouring pixels are summed in registers, and the nine
// inputs of each are read from the image itself. w: [9, out_pad].
template <typename Output>
void direct(const Geometry &g, const float *x, const float *w, Output &output) {
    const int tiles = (g.out_w + PIXELS - 1) / PIXELS;
    for (int row = 0; row < g.out_h; ++row)
        for (int tile = 0; tile < tiles; ++tile) {
            const int from = tile * g.out_w / tiles, to = (tile + 1) * g.out_w / tiles;
            with_constant<PIXELS>(to - from, [&](auto count) {
                constexpr int P = count.value;
                for (int group = 0; group < g.out_pad; group += GROUP) {
                    vec sum[P][V] = {};
                    for (int tap = 0; tap < 9; ++tap) {
                        const float *pixel = x + (row + tap / 3) * g.in_w + from + tap % 3;
                        vec weight[V];
#pragma GCC unroll 16
                        for (int v = 0; v < V; ++v) weight[v] = load(w + tap * g.out_pad + group + v * LANES);
#pragma GCC unroll 16
                        for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
                            for (int v = 0; v < V; ++v) sum[p][v] += weight[v] * pixel[p];
                    }
                    put_tile(sum, group, g.out_pad, (row * g.out_w + from) * g.out_pad, output);
                }
            });
        }
}

// Adds the weight gradient of the same to dw: [9, out_c].
void direct_gradient(const Geometry &g, const float *x, ActivatedGradient gradient, float *dw) {
    for (int c = 0; c < g.out_pad; c += LANES) {
        double total[9][LANES] = {};
        const auto channels = gradient.begin(c);
        for (int row = 0; row < g.out_h; ++row) {
            vec sum[9] = {};
            for (int column = 0; column < g.out_w; ++column) {
                const vec dy = channels.get((row * g.out_w + column) * g.out_pad + c);
                const float *corner = x + row * g.in_w + column;
#pragma GCC unroll 9
                for (int tap = 0; tap < 9; ++tap) sum[tap] += dy * corner[tap / 3 * g.in_w + tap % 3];
            }
            for (int tap = 0; tap < 9; ++tap) add_to(total[tap], sum[tap]);
        }
        for (int tap = 0; tap < 9; ++tap)
            for (int lane = 0; lane < LANES && c + lane < g.out_c; ++lane)
                dw[tap * g.out_c + c + lane] += float(total[tap][lane]);
    }
}

} // namespace
