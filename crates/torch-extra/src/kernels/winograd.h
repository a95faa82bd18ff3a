// 3x3 convolutions by Winograd's algorithm, F(M x M, 3x3) in Lavin and Gray, "Fast Algorithms for Convolutional Neural
// Networks" (2015): the input of each tile of M x M outputs is transformed, its (M + 2)^2 values per channel go through
// as many 1x1 convolutions, and the results are transformed to the outputs. docs/kernels.md derives it.
#pragma once

#include "products.h"

namespace {

// A tile is multiplied by a small matrix from the left and by its transpose from the right. These are one such product,
// with a column or a row whose elements lie `step` apart: B^T for the input, A^T for the output, G for the kernel, and
// for the gradients their transposes.
template <int M>
struct Winograd;

// With the points 0, 1, -1 and infinity: 16 multiplications instead of 36, and only additions in B and A.
template <>
struct Winograd<2> {
    static constexpr int TILE = 4;
    static inline void input(const vec *x, int step, vec *out) {
        const vec a = x[0], b = x[step], c = x[2 * step], d = x[3 * step];
        out[0] = a - c, out[1] = b + c, out[2] = c - b, out[3] = b - d;
    }
    static inline void output(const vec *m, int step, vec *out) {
        const vec a = m[0], b = m[step], c = m[2 * step], d = m[3 * step];
        out[0] = a + b + c, out[1] = b - c - d;
    }
    static inline void output_gradient(const vec *dy, int step, vec *out) {
        const vec a = dy[0], b = dy[step];
        out[0] = a, out[1] = a + b, out[2] = a - b, out[3] = -b;
    }
    static inline void input_gradient(const vec *v, int step, vec *out) {
        const vec a = v[0], b = v[step], c = v[2 * step], d = v[3 * step];
        out[0] = a, out[1] = b - c + d, out[2] = b + c - a, out[3] = -d;
    }
    static void kernel(const double *k, int step, double *out) {
        const double a = k[0], b = k[step], c = k[2 * step];
        out[0] = a, out[1] = (a + b + c) / 2, out[2] = (a - b + c) / 2, out[3] = c;
    }
    static void kernel_gradient(const double *u, int step, double *out) {
        const double a = u[0], b = u[step], c = u[2 * step], d = u[3 * step];
        out[0] = a + (b + c) / 2, out[1] = (b - c) / 2, out[2] = (b + c) / 2 + d;
    }
};

// With the points 0, +-1/sqrt(2), +-sqrt(2) and infinity: 36 multiplications instead of 144. The usual points, 0, +-1,
// +-2, need fewer multiplications in the transforms, but round two to four times worse.
template <>
struct Winograd<4> {
    static constexpr int TILE = 6;
    static constexpr double P = 0.70710678118654752440, Q = 1.41421356237309504880;
    static constexpr float p = float(P), q = float(Q);
    static inline void input(const vec *x, int step, vec *out) {
        const vec x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step];
        const vec even = x4 - 2.0f * x2, odd = p * x3 - q * x1, even2 = x4 - 0.5f * x2, odd2 = q * x3 - p * x1;
        out[0] = x[0] - 2.5f * x2 + x4, out[1] = even + odd, out[2] = even - odd;
        out[3] = even2 + odd2, out[4] = even2 - odd2, out[5] = x1 - 2.5f * x3 + x[5 * step];
    }
    static inline void output(const vec *m, int step, vec *out) {
        const vec sum = m[step] + m[2 * step], difference = m[step] - m[2 * step];
        const vec sum2 = m[3 * step] + m[4 * step], difference2 = m[3 * step] - m[4 * step];
        out[0] = m[0] + sum + sum2, out[1] = p * difference + q * difference2;
        out[2] = 0.5f * sum + 2.0f * sum2, out[3] = 0.5f * p * difference + 2.0f * q * difference2 + m[5 * step];
    }
    static inline void output_gradient(const vec *dy, int step, vec *out) {
        const vec a = dy[0], b = dy[step], c = dy[2 * step], d = dy[3 * step];
        const vec even = a + 0.5f * c, odd = p * b + 0.5f * p * d, even2 = a + 2.0f * c, odd2 = q * b + 2.0f * q * d;
        out[0] = a, out[1] = even + odd, out[2] = even - odd, out[3] = even2 + odd2, out[4] = even2 - odd2, out[5] = d;
    }
    static inline void input_gradient(const vec *v, int step, vec *out) {
        const vec first = v[0], last = v[5 * step];
        const vec sum = v[step] + v[2 * step], difference = v[step] - v[2 * step];
        const vec sum2 = v[3 * step] + v[4 * step], difference2 = v[3 * step] - v[4 * step];
        out[0] = first, out[1] = last - q * difference - p * difference2;
        out[2] = -2.5f * first - 2.0f * sum - 0.5f * sum2, out[3] = p * difference + q * difference2 - 2.5f * last;
        out[4] = first + sum + sum2, out[5] = last;
    }
    static void kernel(const double *k, int step, double *out) {
        const double a = k[0], b = k[step], c = k[2 * step];
        const double even = -2.0 / 3 * (a + c / 2), odd = -2.0 / 3 * P * b;
        const double even2 = 1.0 / 6 * (a + c * 2), odd2 = 1.0 / 6 * Q * b;
        out[0] = a, out[1] = even + odd, out[2] = even - odd, out[3] = even2 + odd2, out[4] = even2 - odd2, out[5] = c;
    }
    static void kernel_gradient(const double *u, int step, double *out) {
        const double sum = -2.0 / 3 * (u[step] + u[2 * step]), difference = -2.0 / 3 * (u[step] - u[2 * step]);
        const double sum2 = 1.0 / 6 * (u[3 * step] + u[4 * step]), difference2 = 1.0 / 6 * (u[3 * step] - u[4 * step]);
        out[0] = u[0] + sum + sum2, out[1] = P * difference + Q * difference2, out[2] = sum / 2 + sum2 * 2 + u[5 * step];
    }
};

// How many tiles are transformed at a time: the fewer, the better they stay in cache; the more, the longer the
// products.
template <int M>
constexpr int TILES = M == 4 ? 12 : 26;

template <int M>
void pack_kernel(const float *kernel, float *out, int64_t step) {
    constexpr int T = Winograd<M>::TILE;
    double exact[9], half[3 * T], full[T];
    for (int i = 0; i < 9; ++i) exact[i] = kernel[i];
    for (int i = 0; i < 3; ++i) Winograd<M>::kernel(exact + 3 * i, 1, half + i * T);
    for (int j = 0; j < T; ++j) {
        Winograd<M>::kernel(half + j, T, full);
        for (int i = 0; i < T; ++i) out[(i * T + j) * step] = float(full[i]);
    }
}

template <int M>
void unpack_kernel(const double *gradient, int64_t step, float *kernel) {
    constexpr int T = Winograd<M>::TILE;
    double half[T * 3], line[T], full[3];
    for (int i = 0; i < T; ++i) {
        for (int j = 0; j < T; ++j) line[j] = gradient[(i * T + j) * step];
        Winograd<M>::kernel_gradient(line, 1, half + 3 * i);
    }
    for (int j = 0; j < 3; ++j) {
        Winograd<M>::kernel_gradient(half + j, 3, full);
        for (int i = 0; i < 3; ++i) kernel[3 * i + j] = float(full[i]);
    }
}

// Applies a transform to the rows of a tile [N, N] and then to the columns of the result: out is [R, R].
template <int N, int R, void transform(const vec *, int, vec *), typename Get, typename Put>
inline void both_ways(Get get, Put put) {
    vec half[N * R];
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) {
        vec line[N];
#pragma GCC unroll 6
        for (int j = 0; j < N; ++j) line[j] = get(i, j);
        transform(line, 1, half + i * R);
    }
#pragma GCC unroll 6
    for (int j = 0; j < R; ++j) {
        vec full[R];
        transform(half + j, R, full);
#pragma GCC unroll 6
        for (int i = 0; i < R; ++i) put(i, j, full[i]);
    }
}

// How many floats ahead an image and its gradient are fetched into cache where they are read or written tile by tile, an
// order that the processor does not foresee: a row of tiles of the largest block.
constexpr int AHEAD = 3072;

// `count` tiles of an image from tile `from` on; a tile begins M rows or columns behind its neighbour. The functions
// hand copies of what they need to both_ways: it reloads what it knows by reference after every store.
template <int M>
struct Tiles {
    static constexpr int T = Winograd<M>::TILE;
    int across, from, count;

    // Where a tile begins in an image of `pad` channels, `row` floats a row.
    int corner(int tile, int row, int pad) const {
        return (from + tile) / across * M * row + (from + tile) % across * M * pad;
    }

    // The tiles of an input as [T * T, count, PAD].
    template <int PAD>
    void transform_input(const float *x, int row, float *out) const {
        for (int tile = 0; tile < count; ++tile)
            for (int c = 0; c < PAD; c += LANES) {
                const float *from = x + corner(tile, row, PAD) + c;
                float *to = out + tile * PAD + c;
                const int step = count * PAD;
                both_ways<T, T, Winograd<M>::input>(
                    [=](int i, int j) { return load(from + i * row + j * PAD); },
                    [=](int i, int j, vec value) { store(to + (i * T + j) * step, value); });
            }
    }

    template <int PAD, typename Output>
    void transform_output(const float *in, int row, Output &output) const {
        for (int tile = 0; tile < count; ++tile)
            for (int c = 0; c < PAD; c += LANES) {
                const int at = corner(tile, row, PAD) + c;
                const float *from = in + tile * PAD + c;
                const int step = count * PAD;
                auto channels = output.begin(c);
                both_ways<T, M, Winograd<M>::output>(
                    [=](int i, int j) { return load(from + (i * T + j) * step); },
                    [&](int i, int j, vec value) {
                        const int pixel = at + i * row + j * PAD;
                        __builtin_prefetch(channels.out + pixel + AHEAD, 1);
                        channels.put(pixel, value);
                    });
                output.end(c, channels);
            }
    }

    template <int PAD>
    void transform_output_gradient(ActivatedGradient gradient, int row, float *out) const {
        for (int tile = 0; tile < count; ++tile) {
            for (int c = 0; c < PAD; c += LANES) {
                const auto channels = gradient.begin(c);
                const int at = corner(tile, row, PAD) + c;
                float *to = out + tile * PAD + c;
                const int step = count * PAD;
                both_ways<M, T, Winograd<M>::output_gradient>(
                    [=](int i, int j) {
                        const int pixel = at + i * row + j * PAD;
                        channels.fetch(pixel + AHEAD);
                        return channels.get(pixel);
                    },
                    [=](int i, int j, vec value) { store(to + (i * T + j) * step, value); });
            }
        }
    }

    // Tiles overlap, so their gradients are added.
    template <int PAD>
    void transform_input_gradient(const float *in, int row, float *dx) const {
        for (int tile = 0; tile < count; ++tile)
            for (int c = 0; c < PAD; c += LANES) {
                float *to = dx + corner(tile, row, PAD) + c;
                const float *from = in + tile * PAD + c;
                const int step = count * PAD;
                both_ways<T, T, Winograd<M>::input_gradient>(
                    [=](int i, int j) { return load(from + (i * T + j) * step); },
                    [=](int i, int j, vec value) {
                        float *at = to + i * row + j * PAD;
                        store(at, load(at) + value);
                    });
            }
    }
};

// Calls body(Tiles) for all tiles of an image.
template <int M, typename Body>
void over_tiles(const Geometry &g, Body body) {
    const int across = g.out_w / M, tiles = g.out_h / M * across;
    for (int from = 0; from < tiles; from += TILES<M>)
        body(Tiles<M>{across, from, tiles - from < TILES<M> ? tiles - from : TILES<M>});
}

template <int M, int IN, int OUT, typename Output>
void convolve_tiles(const Geometry &g, const float *x, const float *w, Output &output) {
    constexpr int PLACES = Tiles<M>::T * Tiles<M>::T;
    alignas(64) float in[PLACES * TILES<M> * IN], result[PLACES * TILES<M> * OUT];
    over_tiles<M>(g, [&](Tiles<M> tiles) {
        const int count = tiles.count;
        tiles.template transform_input<IN>(x, g.in_w * IN, in);
        for (int i = 0; i < PLACES; ++i) {
            Plain place = {result + i * count * OUT};
            product<IN>(in + i * count * IN, count, g.in_c, w + i * g.in_c * OUT, OUT, place);
        }
        tiles.template transform_output<OUT>(result, g.out_w * OUT, output);
    });
}

// The transposes of the same three steps, so that the weight's gradient and the input's share the transformed gradient.
template <int M, int IN, int OUT>
void tile_gradients(const Geometry &g, const float *x, ActivatedGradient gradient, const float *wt, float *dw, float *dx) {
    constexpr int PLACES = Tiles<M>::T * Tiles<M>::T;
    alignas(64) float in[PLACES * TILES<M> * IN], dy[PLACES * TILES<M> * OUT];
    for (int i = 0; i < g.in_h * g.in_w * IN; i += LANES) store(dx + i, vec{});
    over_tiles<M>(g, [&](Tiles<M> tiles) {
        const int count = tiles.count;
        tiles.template transform_input<IN>(x, g.in_w * IN, in);
        tiles.template transform_output_gradient<OUT>(gradient, g.out_w * OUT, dy);
        for (int i = 0; i < PLACES; ++i) {
            float *input = in + i * count * IN;
            const float *result = dy + i * count * OUT;
            weight_product<IN>(input, result, OUT, count, g.out_c, dw + i * g.out_c * IN);
            Plain place = {input};
            product<OUT>(result, count, g.out_c, wt + i * g.out_c * IN, IN, place);
        }
        tiles.template transform_input_gradient<IN>(in, g.in_w * IN, dx);
    });
}

} // namespace
