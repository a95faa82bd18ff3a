// The fast kernels: build.rs compiles this file for AVX-512, for x86-64-v3 and for the compiler's default.
// reference.cpp says what each function computes.

#include "winograd.h"

namespace {

// How a convolution is computed: F(4x4) where the output is made of whole tiles of 4x4, for they take the fewest
// multiplications.
bool is_direct(const Geometry &g) { return g.in_pad == 1; }
int tile(const Geometry &g) { return g.kernel == 1 || is_direct(g) ? 1 : g.out_h % 4 || g.out_w % 4 ? 2 : 4; }

int matrices(const Geometry &g) {
    if (g.kernel == 1) return 1;
    return is_direct(g) ? 9 : (tile(g) + 2) * (tile(g) + 2);
}

void pack(const Geometry &g, const float *kernel, float *out, int64_t step) {
    if (tile(g) == 4) return pack_kernel<4>(kernel, out, step);
    if (tile(g) == 2) return pack_kernel<2>(kernel, out, step);
    for (int i = 0; i < g.kernel * g.kernel; ++i) out[i * step] = kernel[i];
}

void unpack(const Geometry &g, const double *gradient, int64_t step, float *kernel) {
    if (tile(g) == 4) return unpack_kernel<4>(gradient, step, kernel);
    if (tile(g) == 2) return unpack_kernel<2>(gradient, step, kernel);
    for (int i = 0; i < g.kernel * g.kernel; ++i) kernel[i] = float(gradient[i * step]);
}

// Calls f(Constant<in_pad>, Constant<out_pad>), each 16 or 32.
template <typename F>
inline void with_pads(const Geometry &g, F f) {
    const auto with_in = [&](auto in) { g.out_pad == GROUP ? f(in, Constant<GROUP>()) : f(in, Constant<MOST>()); };
    g.in_pad == GROUP ? with_in(Constant<GROUP>()) : with_in(Constant<MOST>());
}

template <typename Output>
void convolve(const Geometry &g, const float *x, const float *w, Output &output) {
    if (is_direct(g)) return direct(g, x, w, output);
    with_pads(g, [&](auto in, auto out) {
        constexpr int IN = in.value, OUT = out.value;
        if (g.kernel == 1) product<IN>(x, g.out_h * g.out_w, g.in_c, w, OUT, output);
        else if (tile(g) == 4) convolve_tiles<4, IN, OUT>(g, x, w, output);
        else convolve_tiles<2, IN, OUT>(g, x, w, output);
    });
}

void block(const Geometry &g, const float *x, const float *w, const Activation &activation, float *out) {
    with_activation(out, g.out_pad, activation, [&](auto &output) { convolve(g, x, w, output); });
}

void evaluated_block(const Geometry &g, const float *x, const float *w, const float *scale, const float *shift,
                     float *out) {
    ReluAffine output = {out, scale, shift};
    convolve(g, x, w, output);
}

void pointwise(const Geometry &g, const float *x, const float *w, float *out) {
    Plain output = {out};
    convolve(g, x, w, output);
}

void pointwise_gradients(const Geometry &g, const float *x, const float *dy, const float *wt, float *dw, float *dx) {
    const int pixels = g.out_h * g.out_w;
    g.in_pad == GROUP ? product_gradients<GROUP>(g, x, dy, pixels, wt, dw, dx)
                      : product_gradients<MOST>(g, x, dy, pixels, wt, dw, dx);
}

// A 1x1 block's gradient, a few pixels at a time: those of the convolution's output fit in cache.
void pointwise_block_gradients(const Geometry &g, const float *x, ActivatedGradient gradient, const float *wt, float *dw,
                               float *dx) {
    alignas(64) float dy[WEIGHT_RUN * MOST];
    const int pixels = g.out_h * g.out_w;
    for (int from = 0; from < pixels; from += WEIGHT_RUN) {
        const int run = pixels - from < WEIGHT_RUN ? pixels - from : WEIGHT_RUN;
        for (int c = 0; c < g.out_pad; c += LANES) {
            const auto channels = gradient.begin(c);
            for (int at = c; at < run * g.out_pad; at += g.out_pad)
                store(dy + at, channels.get(from * g.out_pad + at));
        }
        const Geometry part = {1, 1, run, g.in_c, g.in_pad, 1, run, g.out_c, g.out_pad};
        pointwise_gradients(part, x + from * g.in_pad, dy, wt, dw, dx ? dx + from * g.in_pad : dx);
    }
}

void block_gradients(const Geometry &g, const float *x, const ActivationGradient &of, const float *wt, float *dw,
                     float *dx) {
    const ActivatedGradient gradient = {of};
    if (is_direct(g)) return direct_gradient(g, x, gradient, dw);
    if (g.kernel == 1) return pointwise_block_gradients(g, x, gradient, wt, dw, dx);
    with_pads(g, [&](auto in, auto out) {
        if (tile(g) == 4) tile_gradients<4, in.value, out.value>(g, x, gradient, wt, dw, dx);
        else tile_gradients<2, in.value, out.value>(g, x, gradient, wt, dw, dx);
    });
}

// How many pixels are summed in float before the sum is added to a double: a longer sum in float would lose digits.
constexpr int RUN = 32;

void activate(float *x, int64_t pixels, int pad, const Activation &activation) {
    with_activation(x, pad, activation, [&](auto &output) {
        for (int64_t from = 0; from < pixels; from += RUN) {
            const int64_t to = pixels - from < RUN ? pixels : from + RUN;
            for (int c = 0; c < pad; c += LANES) {
                auto channels = output.begin(c);
                for (int64_t p = from; p < to; ++p) channels.put(p * pad + c, load(x + p * pad + c));
                output.end(c, channels);
            }
        }
    });
}

// How many floats ahead an image is fetched, two pages: the processor fetches ahead by itself, but only within a page.
constexpr int NEXT_PAGE = 2048;

void normalise(const float *x, int64_t pixels, int pad, const float *affine, float *y) {
    for (int c = 0; c < pad; c += LANES) {
        const vec mean = load(affine + c), scale = load(affine + pad + c), shift = load(affine + 2 * pad + c);
        for (int64_t i = c; i < pixels * pad; i += pad) {
            __builtin_prefetch(x + i + NEXT_PAGE);
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
                __builtin_prefetch(x + offset + i + NEXT_PAGE);
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
                            matrices,
                            pack,
                            unpack,
                            block,
                            block_gradients,
                            evaluated_block,
                            pointwise,
                            pointwise_gradients,
                            activate,
                            normalise,
                            normalise_gradient,
                            max_pool,
                            max_unpool};
