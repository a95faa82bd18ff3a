// The arithmetic of the fused blocks, in GCC's vector extensions: one source, compiled by build.rs for AVX-512
// (16 lanes), for x86-64-v3 (8 lanes) and for whatever the compiler's default is (4 lanes: SSE2, NEON).
//
// No header with inline functions may be included here: the linker keeps one copy of such a function for the whole
// program, and it could be the copy with AVX-512 in it.

#include "fused_kernels.h"

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

namespace {

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

constexpr int V = GROUP / LANES; // registers a pixel

// As many sums as the registers hold beside the operands: 32 registers with AVX-512, else 16.
constexpr int PIXELS = LANES == 16 ? 13 : LANES == 8 ? 4 : 2;
constexpr int WEIGHTS[] = {0, LANES == 16 ? 16 : LANES == 8 ? 5 : 2, 0, LANES == 16 ? 8 : LANES == 8 ? 2 : 1};

// Floats are summed over this many pixels before the sum goes on in double (or, for weights, in another float).
constexpr int RUN = 32;
constexpr int WEIGHT_RUN = 144;

inline vec load(const float *p) { return *reinterpret_cast<const vec *>(p); }
inline void store(float *p, vec x) { *reinterpret_cast<vec *>(p) = x; }
inline ivec dropped(vec x) { return (ivec)x < 0; }
inline vec magnitude(vec x) { return (vec)((ivec)x & 0x7fffffff); }
inline vec only_where(ivec mask, vec x) { return (vec)((ivec)x & mask); }
// Keeps NaN, as PyTorch's ReLU does: a run that diverged must show it.
inline vec relu(vec x) { return x < 0 ? vec{} : x; }

inline void add_to(double *total, vec part) {
    for (int lane = 0; lane < LANES; ++lane) total[lane] += part[lane];
}

// The microkernel: P neighbouring output pixels x 16 output channels, summed in registers. Each input value is
// loaded once a row and channel and meets the K weights of that row.
template <int K, int PAD, int P>
void convolve_tile(const float *x, int x_row, const float *w, int w_pad, int channels, int first, int last, float *out) {
    vec sum[P][V] = {};
    for (int ky = first; ky < last; ++ky) {
        for (int c = 0; c < channels; ++c) {
            vec tap[K][V];
#pragma GCC unroll 16
            for (int kx = 0; kx < K; ++kx)
#pragma GCC unroll 16
                for (int v = 0; v < V; ++v) tap[kx][v] = load(w + ((ky * K + kx) * channels + c) * w_pad + v * LANES);
            const float *pixel = x + ky * x_row + c;
#pragma GCC unroll 16
            for (int q = 0; q < P + K - 1; ++q) {
                const float value = pixel[q * PAD];
#pragma GCC unroll 16
                for (int kx = 0; kx < K; ++kx)
                    if (kx <= q && q - kx < P)
#pragma GCC unroll 16
                        for (int v = 0; v < V; ++v) sum[q - kx][v] += tap[kx][v] * value;
            }
        }
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) store(out + p * w_pad + v * LANES, sum[p][v]);
}

// Calls the tile made for `p` pixels.
template <int K, int PAD, int P = PIXELS, typename... Arguments>
inline void convolve_pixels(int p, Arguments... arguments) {
    if (p == P) return convolve_tile<K, PAD, P>(arguments...);
    if constexpr (P > 1) convolve_pixels<K, PAD, P - 1>(p, arguments...);
}

template <int K, int PAD>
void convolve_image(const Geometry &g, const float *x, const float *w, float *out) {
    const int tiles = (g.out_w + PIXELS - 1) / PIXELS, x_row = g.in_w * PAD;
    for (int y = 0; y < g.out_h; ++y) {
        // The rows of the kernel that do not lie on the border.
        const int first = y < g.border ? g.border - y : 0;
        const int below = g.in_h - g.border - y, last = below < K ? below : K;
        for (int group = 0; group < g.out_pad; group += GROUP)
            for (int tile = 0; tile < tiles; ++tile) {
                const int from = tile * g.out_w / tiles, to = (tile + 1) * g.out_w / tiles;
                convolve_pixels<K, PAD>(to - from, x + y * x_row + from * PAD, x_row, w + group, g.out_pad, g.in_c,
                                        first, last, out + (y * g.out_w + from) * g.out_pad + group);
            }
    }
}

// 16 input channels x J output channels x K taps of a row of the kernel, over `rows` rows of the image.
template <int K, int PAD, int J>
void weight_tile(const float *x, int x_row, const float *dy, int dy_row, int dy_pad, int rows, int columns, float *dw,
                 int dw_tap) {
    vec sum[K][J][V] = {};
    for (int row = 0; row < rows; ++row) {
        const float *in = x + row * x_row, *gradient = dy + row * dy_row;
        for (int column = 0; column < columns; ++column, in += PAD, gradient += dy_pad) {
            vec input[K][V];
#pragma GCC unroll 16
            for (int kx = 0; kx < K; ++kx)
#pragma GCC unroll 16
                for (int v = 0; v < V; ++v) input[kx][v] = load(in + kx * PAD + v * LANES);
#pragma GCC unroll 16
            for (int j = 0; j < J; ++j) {
                const float value = gradient[j];
#pragma GCC unroll 16
                for (int kx = 0; kx < K; ++kx)
#pragma GCC unroll 16
                    for (int v = 0; v < V; ++v) sum[kx][j][v] += input[kx][v] * value;
            }
        }
    }
#pragma GCC unroll 16
    for (int kx = 0; kx < K; ++kx)
#pragma GCC unroll 16
        for (int j = 0; j < J; ++j)
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) {
                float *total = dw + kx * dw_tap + j * PAD + v * LANES;
                store(total, load(total) + sum[kx][j][v]);
            }
}

template <int K, int PAD, int J = WEIGHTS[K], typename... Arguments>
inline void weight_channels(int j, Arguments... arguments) {
    if (j == J) return weight_tile<K, PAD, J>(arguments...);
    if constexpr (J > 1) weight_channels<K, PAD, J - 1>(j, arguments...);
}

template <int K, int PAD>
void weight_image(const Geometry &g, const float *x, const float *dy, int dy_row, float *dw) {
    const int tiles = (g.out_c + WEIGHTS[K] - 1) / WEIGHTS[K], x_row = g.in_w * PAD, tap = g.out_c * PAD;
    const int most = WEIGHT_RUN / g.out_w > 0 ? WEIGHT_RUN / g.out_w : 1;
    for (int y = 0; y < g.out_h; y += most) {
        const int rows = y + most < g.out_h ? most : g.out_h - y;
        for (int ky = 0; ky < K; ++ky)
            for (int group = 0; group < PAD; group += GROUP)
                for (int tile = 0; tile < tiles; ++tile) {
                    const int from = tile * g.out_c / tiles, to = (tile + 1) * g.out_c / tiles;
                    weight_channels<K, PAD>(to - from, x + (y + ky) * x_row + group, x_row, dy + y * dy_row + from,
                                            dy_row, g.out_pad, rows, g.out_w, dw + ky * K * tap + from * PAD + group,
                                            tap);
                }
    }
}

void convolve(const Geometry &g, const float *x, const float *w, float *out) {
    if (g.kernel == 3) return g.in_pad == 16 ? convolve_image<3, 16>(g, x, w, out) : convolve_image<3, 32>(g, x, w, out);
    return g.in_pad == 16 ? convolve_image<1, 16>(g, x, w, out) : convolve_image<1, 32>(g, x, w, out);
}

void weight_gradient(const Geometry &g, const float *x, const float *dy, int row, float *scratch, double *dw) {
    const int weights = g.kernel * g.kernel * g.out_c * g.in_pad;
    for (int i = 0; i < weights; ++i) scratch[i] = 0;
    if (g.kernel == 3) g.in_pad == 16 ? weight_image<3, 16>(g, x, dy, row, scratch) : weight_image<3, 32>(g, x, dy, row, scratch);
    else g.in_pad == 16 ? weight_image<1, 16>(g, x, dy, row, scratch) : weight_image<1, 32>(g, x, dy, row, scratch);
    for (int i = 0; i < weights; ++i) dw[i] += scratch[i];
}

void patches(const float *x, int h, int w, float *out) {
    for (int y = 0; y < h - 2; ++y)
        for (int column = 0; column < w - 2; ++column, out += GROUP)
            for (int ky = 0; ky < 3; ++ky) __builtin_memcpy(out + 3 * ky, x + (y + ky) * w + column, 3 * sizeof(float));
}

// A counter-based generator: each element's bits are a hash of its number and the key, whoever computes it and when.
// Rounds of xor-shift and multiply as in Murmur3's finaliser; the last xor-shift is left out, for the comparison
// with the threshold reads the high bits.
constexpr uint32_t GOLDEN = 0x9e3779b9;
inline uvec hash(uvec x, uint32_t high) {
    x = (x ^ (x >> 16)) * 0x21f0aaad;
    x ^= high;
    return (x ^ (x >> 15)) * 0x735a2d97;
}

// splitmix64's finaliser: keys that differ in one bit give streams that have nothing in common.
uint64_t mix(uint64_t key) {
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9;
    key = (key ^ (key >> 27)) * 0x94d049bb133111eb;
    return key ^ (key >> 31);
}

template <bool DROP>
void activate_batch(float *x, int64_t pixels, int pad, Dropout dropout, int64_t index, double *sum, double *square) {
    const uint64_t key = mix(dropout.key);
    uvec lane;
    for (int i = 0; i < LANES; ++i) lane[i] = i;
    for (int64_t from = 0; from < pixels; from += RUN) {
        const int run = pixels - from < RUN ? pixels - from : RUN;
        for (int c = 0; c < pad; c += LANES) {
            float *at = x + from * pad + c;
            uvec counter = (lane + uint32_t(index + from * pad + c)) * GOLDEN + uint32_t(key);
            vec sums = {}, squares = {};
            for (int p = 0; p < run; ++p, at += pad, counter += pad * GOLDEN) {
                vec value = magnitude(relu(load(at)));
                sums += value;
                squares += value * value;
                if (DROP) {
                    const uvec drop = (uvec)(hash(counter, key >> 32) < dropout.threshold);
                    value = (vec)((uvec)value | (drop & 0x80000000u));
                }
                store(at, value);
            }
            add_to(sum + c, sums);
            add_to(square + c, squares);
        }
    }
}

void activate(float *x, int64_t pixels, int pad, Dropout dropout, int64_t index, double *sum, double *square) {
    if (dropout.threshold > 0) activate_batch<true>(x, pixels, pad, dropout, index, sum, square);
    else activate_batch<false>(x, pixels, pad, dropout, index, sum, square);
}

void normalise(const float *x, int64_t pixels, int pad, const float *affine, float *y) {
    for (int c = 0; c < pad; c += LANES) {
        const vec mean = load(affine + c), scale = load(affine + pad + c), shift = load(affine + 2 * pad + c);
        for (int64_t i = c; i < pixels * pad; i += pad) {
            const vec value = load(x + i);
            store(y + i, only_where(~dropped(value), (value - mean) * scale + shift));
        }
    }
}

void normalise_gradient(float *dy, const float *x, int64_t pixels, int pad, const float *affine, double *sum,
                        double *product) {
    for (int64_t from = 0; from < pixels; from += RUN) {
        const int run = pixels - from < RUN ? pixels - from : RUN;
        for (int c = 0; c < pad; c += LANES) {
            const vec mean = load(affine + c), scale = load(affine + pad + c);
            const int64_t offset = from * pad + c;
            vec sums = {}, products = {};
            for (int i = 0; i < run * pad; i += pad) {
                const vec value = load(x + offset + i);
                const vec gradient = only_where(~dropped(value), load(dy + offset + i));
                sums += gradient;
                products += gradient * (value - mean);
                store(dy + offset + i, gradient * scale);
            }
            add_to(sum + c, sums);
            add_to(product + c, products);
        }
    }
}

void activate_gradient(const float *dx, const float *x, int pixels, int pad, const float *b, const float *c, float *out) {
    for (int lane = 0; lane < pad; lane += LANES) {
        const vec slope = load(b + lane), constant = load(c + lane);
        for (int i = lane; i < pixels * pad; i += pad) {
            const vec value = magnitude(load(x + i));
            store(out + i, only_where(value > 0, load(dx + i) + (slope * value + constant)));
        }
    }
}

void relu_affine(float *x, int64_t pixels, int pad, const float *scale, const float *shift) {
    for (int64_t p = 0; p < pixels; ++p, x += pad)
        for (int c = 0; c < pad; c += LANES) store(x + c, relu(load(x + c)) * load(scale + c) + load(shift + c));
}

void max_pool(const float *x, int h, int w, int pad, float *y, uint8_t *which) {
    for (int row = 0; row < h; row += 2)
        for (int column = 0; column < w; column += 2)
            for (int c = 0; c < pad; c += LANES, y += LANES, which += LANES) {
                const float *corner = x + (row * w + column) * pad + c;
                vec best = load(corner);
                ivec index = {};
                for (int i = 1; i < 4; ++i) {
                    const vec value = load(corner + ((i >> 1) * w + (i & 1)) * pad);
                    // The first of equals and any NaN, as PyTorch takes them.
                    const ivec better = (value > best) | (value != value);
                    best = better ? value : best;
                    index = better ? ivec{} + i : index;
                }
                store(y, best);
                for (int lane = 0; lane < LANES; ++lane) which[lane] = index[lane];
            }
}

void max_unpool(const float *dy, const uint8_t *which, int h, int w, int pad, float *out) {
    for (int row = 0; row < h; row += 2)
        for (int column = 0; column < w; column += 2)
            for (int c = 0; c < pad; c += LANES, dy += LANES, which += LANES) {
                ivec index;
                for (int lane = 0; lane < LANES; ++lane) index[lane] = which[lane];
                for (int i = 0; i < 4; ++i)
                    store(out + ((row + (i >> 1)) * w + column + (i & 1)) * pad + c, only_where(index == i, load(dy)));
            }
}

} // namespace

// build.rs names the table that this compilation makes, such as kernels_avx512.
extern const Kernels TM_KERNELS;
const Kernels TM_KERNELS = {TM_INSTRUCTION_SET, patches,           convolve,    weight_gradient, activate, normalise,
                            normalise_gradient, activate_gradient, relu_affine, max_pool,        max_unpool};
