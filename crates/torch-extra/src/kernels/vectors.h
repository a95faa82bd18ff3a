// A register of floats in GCC's vector extensions: 16 lanes with AVX-512, 8 with x86-64-v3, 4 elsewhere (SSE2, NEON).
//
// Everything in the fast kernels has internal linkage, and they include no header of others that has inline functions:
// the linker would keep one copy of such a function for the whole program, and it could be the copy with AVX-512 in it.
#pragma once

#include "kernels.h"

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

constexpr int V = GROUP / LANES; // registers that hold a group of channels

namespace {

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

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

template <int N>
struct Constant {
    static constexpr int value = N;
};

// Calls f(Constant<n>()): n, 1 to N, becomes known to the compiler, so that sums over n stay in registers.
template <int N, typename F>
inline void with_constant(int n, F f) {
    if (n == N) return f(Constant<N>());
    if constexpr (N > 1) with_constant<N - 1>(n, f);
}

} // namespace
