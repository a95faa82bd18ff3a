// The arithmetic of the fused blocks, in GCC's vector extensions. build.rs compiles this one source for AVX-512
// (16 lanes), for x86-64-v3 (8 lanes) and for the compiler's default (4 lanes: SSE2, NEON). fused_reference.cpp says
// what each function computes.
//
// Do not include a header with inline functions here: the linker keeps one copy of such a function for the whole
// program, and it could be the copy with AVX-512 in it.

#include "fused_kernels.h"

// LANES is the number of floats in a register; PIXELS and WEIGHTS are how many sums fit in the registers beside the
// operands.
#if defined(__AVX512F__)
constexpr int LANES = 16, PIXELS = 13, WEIGHTS = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8, PIXELS = 6, WEIGHTS = 6;
#elif defined(__aarch64__)
constexpr int LANES = 4, PIXELS = 6, WEIGHTS = 6;
#else
constexpr int LANES = 4, PIXELS = 2, WEIGHTS = 2;
#endif

namespace {

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

constexpr int V = GROUP / LANES; // registers that hold a group of channels

// How many pixels are summed in float before the sum is added to a double, for BatchNorm, or to a float in memory, for
// weights: a longer sum in float would lose digits.
constexpr int RUN = 32, WEIGHT_RUN = 144;
// How many 4x4 tiles are transformed at a time: with 32 channels they fit in the second-level cache.
constexpr int TILES = 26;

inline vec load(const float *p) { return *reinterpret_cast<const vec *>(p); }
inline void store(float *p, vec x) { *reinterpret_cast<vec *>(p) = x; }
inline ivec dropped(vec x) { return (ivec)x < 0; }
inline vec magnitude(vec x) { return (vec)((ivec)x & 0x7fffffff); }
inline vec only_where(ivec mask, vec x) { return (vec)((ivec)x & mask); }
// NaN stays NaN, as in PyTorch: a run that diverged must show it.
inline vec relu(vec x) { return x < 0 ? vec{} : x; }

inline void add_to(double *total, vec part) {
    for (int lane = 0; lane < LANES; ++lane) total[lane] += part[lane];
}

// The microkernel: P pixels x 16 output channels of a 1x1 convolution, summed in registers.
template <int PAD, int P>
void product_tile(const float *x, const float *w, int channels, int out_pad, float *out) {
    vec sum[P][V] = {};
    for (int c = 0; c < channels; ++c, w += out_pad) {
        vec weight[V];
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) weight[v] = load(w + v * LANES);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
            for (int v = 0; v < V; ++v) sum[p][v] += weight[v] * x[p * PAD + c];
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) store(out + p * out_pad + v * LANES, sum[p][v]);
}

// The same for the weight gradient: adds the sum over `pixels` pixels for 16 input channels x J output channels.
template <int PAD, int J>
void weight_tile(const float *x, const float *dy, int dy_pad, int pixels, float *dw) {
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

// Calls the instance of the tile for n pixels, or for n channels.
template <int PAD, int N = PIXELS, typename... Arguments>
inline void product_of(int n, Arguments... arguments) {
    if (n == N) return product_tile<PAD, N>(arguments...);
    if constexpr (N > 1) product_of<PAD, N - 1>(n, arguments...);
}
template <int PAD, int N = WEIGHTS, typename... Arguments>
inline void weight_of(int n, Arguments... arguments) {
    if (n == N) return weight_tile<PAD, N>(arguments...);
    if constexpr (N > 1) weight_of<PAD, N - 1>(n, arguments...);
}

// A 1x1 convolution of `pixels` pixels, cut into tiles of nearly equal size. w: [in_c, out_pad].
template <int PAD>
void product(const Geometry &g, const float *x, const float *w, int pixels, float *out) {
    const int tiles = (pixels + PIXELS - 1) / PIXELS;
    for (int tile = 0; tile < tiles; ++tile) {
        const int from = tile * pixels / tiles, to = (tile + 1) * pixels / tiles;
        for (int group = 0; group < g.out_pad; group += GROUP)
            product_of<PAD>(to - from, x + from * PAD, w + group, g.in_c, g.out_pad, out + from * g.out_pad + group);
    }
}

// Adds the weight gradient of such a convolution to dw: [out_c, in_pad].
template <int PAD>
void weight_product(const Geometry &g, const float *x, const float *dy, int pixels, float *dw) {
    const int tiles = (g.out_c + WEIGHTS - 1) / WEIGHTS;
    for (int tile = 0; tile < tiles; ++tile) {
        const int from = tile * g.out_c / tiles, to = (tile + 1) * g.out_c / tiles;
        for (int group = 0; group < PAD; group += GROUP)
            weight_of<PAD>(to - from, x + group, dy + from, g.out_pad, pixels, dw + from * PAD + group);
    }
}

// A 3x3 convolution by Winograd's algorithm, F(2x2, 3x3) in Lavin and Gray, "Fast Algorithms for Convolutional Neural
// Networks" (2015): each 4x4 tile of the input is transformed, its 16 values per channel go through 16 1x1 convolutions,
// and the results are transformed to a 2x2 tile of the output: 16 multiplications per channel instead of 36.
// docs/kernels.md derives it.
constexpr int MATRICES = 16;

// Each transform multiplies a tile by a small matrix from the left and by its transpose from the right. These functions
// are one such product with a column or a row.
inline void input_transform(vec a, vec b, vec c, vec d, vec *out, int step) {
    out[0] = a - c, out[step] = b + c, out[2 * step] = c - b, out[3 * step] = b - d;
}
inline void output_transform(vec a, vec b, vec c, vec d, vec *out, int step) {
    out[0] = a + b + c, out[step] = b - c - d;
}
inline void gradient_transform(vec a, vec b, vec *out, int step) {
    out[0] = a, out[step] = a + b, out[2 * step] = a - b, out[3 * step] = -b;
}
void kernel_transform(double a, double b, double c, double *out, int step) {
    out[0] = a, out[step] = (a + b + c) / 2, out[2 * step] = (a - b + c) / 2, out[3 * step] = c;
}
void kernel_gradient_transform(double a, double b, double c, double d, double *out, int step) {
    out[0] = a + (b + c) / 2, out[step] = (b - c) / 2, out[2 * step] = (b + c) / 2 + d;
}

void pack(const float *kernel, float *out, int64_t step) {
    double half[12], full[MATRICES];
    for (int k = 0; k < 3; ++k) kernel_transform(kernel[k], kernel[3 + k], kernel[6 + k], half + k, 3);
    for (int k = 0; k < 4; ++k) kernel_transform(half[3 * k], half[3 * k + 1], half[3 * k + 2], full + 4 * k, 1);
    for (int k = 0; k < MATRICES; ++k) out[k * step] = float(full[k]);
}

void unpack(const double *gradient, int64_t step, float *kernel) {
    double half[12], full[9];
    for (int k = 0; k < 4; ++k)
        kernel_gradient_transform(gradient[k * step], gradient[(4 + k) * step], gradient[(8 + k) * step],
                                  gradient[(12 + k) * step], half + k, 4);
    for (int k = 0; k < 3; ++k)
        kernel_gradient_transform(half[4 * k], half[4 * k + 1], half[4 * k + 2], half[4 * k + 3], full + 3 * k, 1);
    for (int k = 0; k < 9; ++k) kernel[k] = float(full[k]);
}

// Tiles from, from + 1, ... of an image [.., width, pad] with `row` floats a row, as [16, count, pad].
void transform_input(const float *x, int row, int pad, int across, int from, int count, float *out) {
    for (int tile = 0; tile < count; ++tile)
        for (int c = 0; c < pad; c += LANES) {
            const float *corner = x + (from + tile) / across * 2 * row + (from + tile) % across * 2 * pad + c;
            vec half[16], full[16];
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i)
                input_transform(load(corner + i * pad), load(corner + row + i * pad), load(corner + 2 * row + i * pad),
                                load(corner + 3 * row + i * pad), half + i, 4);
#pragma GCC unroll 4
            for (int i = 0; i < 16; i += 4)
                input_transform(half[i], half[i + 1], half[i + 2], half[i + 3], full + i, 1);
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) store(out + (i * count + tile) * pad + c, full[i]);
        }
}

void transform_output(const float *in, int row, int pad, int across, int from, int count, float *y) {
    for (int tile = 0; tile < count; ++tile)
        for (int c = 0; c < pad; c += LANES) {
            float *corner = y + (from + tile) / across * 2 * row + (from + tile) % across * 2 * pad + c;
            vec full[16], half[8], out[4];
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) full[i] = load(in + (i * count + tile) * pad + c);
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) output_transform(full[i], full[4 + i], full[8 + i], full[12 + i], half + i, 4);
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i) {
                output_transform(half[4 * i], half[4 * i + 1], half[4 * i + 2], half[4 * i + 3], out + 2 * i, 1);
                store(corner + i * row, out[2 * i]);
                store(corner + i * row + pad, out[2 * i + 1]);
            }
        }
}

void transform_gradient(const float *dy, int row, int pad, int across, int from, int count, float *out) {
    for (int tile = 0; tile < count; ++tile)
        for (int c = 0; c < pad; c += LANES) {
            const float *corner = dy + (from + tile) / across * 2 * row + (from + tile) % across * 2 * pad + c;
            vec half[8], full[16];
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i)
                gradient_transform(load(corner + i * pad), load(corner + row + i * pad), half + i, 2);
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) gradient_transform(half[2 * i], half[2 * i + 1], full + 4 * i, 1);
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) store(out + (i * count + tile) * pad + c, full[i]);
        }
}

template <int PAD>
void convolve_image(const Geometry &g, const float *x, const float *w, float *out) {
    if (g.kernel == 1) return product<PAD>(g, x, w, g.out_h * g.out_w, out);
    alignas(64) float in[16 * TILES * PAD], result[16 * TILES * 2 * GROUP];
    const int across = g.out_w / 2, tiles = g.out_h / 2 * across;
    for (int from = 0; from < tiles; from += TILES) {
        const int count = tiles - from < TILES ? tiles - from : TILES;
        transform_input(x, g.in_w * PAD, PAD, across, from, count, in);
        for (int i = 0; i < 16; ++i)
            product<PAD>(g, in + i * count * PAD, w + i * g.in_c * g.out_pad, count, result + i * count * g.out_pad);
        transform_output(result, g.out_w * g.out_pad, g.out_pad, across, from, count, out);
    }
}

template <int PAD>
void weight_image(const Geometry &g, const float *x, const float *dy, int dy_row, float *dw) {
    if (g.kernel == 1) {
        const int pixels = g.out_h * g.out_w;
        for (int from = 0; from < pixels; from += WEIGHT_RUN) {
            const int run = pixels - from < WEIGHT_RUN ? pixels - from : WEIGHT_RUN;
            weight_product<PAD>(g, x + from * PAD, dy + from * g.out_pad, run, dw);
        }
        return;
    }
    alignas(64) float in[16 * TILES * PAD], gradient[16 * TILES * 2 * GROUP];
    const int across = g.out_w / 2, tiles = g.out_h / 2 * across;
    for (int from = 0; from < tiles; from += TILES) {
        const int count = tiles - from < TILES ? tiles - from : TILES;
        transform_input(x, g.in_w * PAD, PAD, across, from, count, in);
        transform_gradient(dy, dy_row, g.out_pad, across, from, count, gradient);
        for (int i = 0; i < 16; ++i)
            weight_product<PAD>(g, in + i * count * PAD, gradient + i * count * g.out_pad, count,
                                dw + i * g.out_c * PAD);
    }
}

void convolve(const Geometry &g, const float *x, const float *w, float *out) {
    g.in_pad == 16 ? convolve_image<16>(g, x, w, out) : convolve_image<32>(g, x, w, out);
}

void weight_gradient(const Geometry &g, const float *x, const float *dy, int dy_row, float *scratch, double *dw) {
    const int weights = (g.kernel == 3 ? MATRICES : 1) * g.out_c * g.in_pad;
    for (int i = 0; i < weights; ++i) scratch[i] = 0;
    g.in_pad == 16 ? weight_image<16>(g, x, dy, dy_row, scratch) : weight_image<32>(g, x, dy, dy_row, scratch);
    for (int i = 0; i < weights; ++i) dw[i] += scratch[i];
}

void patches(const float *x, int h, int w, float *out) {
    for (int y = 0; y < h - 2; ++y)
        for (int column = 0; column < w - 2; ++column, out += GROUP)
            for (int ky = 0; ky < 3; ++ky) __builtin_memcpy(out + 3 * ky, x + (y + ky) * w + column, 3 * sizeof(float));
}

// A counter-based generator: the bits of an element are a hash of its number and the key, so any thread can compute
// them at any time. Rounds of xor-shift and multiply as in the finaliser of MurmurHash3, without the last xor-shift,
// which would change only the low bits: the comparison with the threshold is decided by the high ones.
constexpr uint32_t GOLDEN = 0x9e3779b9;
inline uvec hash(uvec x, uint32_t high) {
    x = (x ^ (x >> 16)) * 0x21f0aaad;
    x ^= high;
    return (x ^ (x >> 15)) * 0x735a2d97;
}

// The finaliser of splitmix64: keys that differ in one bit give unrelated streams.
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

void activate_gradient(const float *dx, const float *x, int pixels, int pad, const float *b, const float *c,
                       float *out) {
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
                    // The first of equal values, and any NaN, as in PyTorch.
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

// The name that build.rs gives to the table of this compilation, such as kernels_avx512.
extern const Kernels TM_KERNELS;
const Kernels TM_KERNELS = {TM_INSTRUCTION_SET,
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
