// What becomes of a convolution's result while it is in registers, and how a gradient is read.
//
// An output is a class with begin(c) and end(c, channels). begin returns an object of the channels from c on: its
// put(at, x) takes a vector of them, for the place `at`, counted in floats from the image's first, which is `out`. That
// object is a local variable of the loop, so its members stay in registers.
#pragma once

#include "vectors.h"

namespace {

struct Plain {
    float *out;
    Plain begin(int) const { return *this; }
    void put(int at, vec x) const { store(out + at, x); }
    void end(int, Plain) {}
};

// BatchNorm of ReLU with known statistics.
struct ReluAffine {
    float *out;
    const float *scale, *shift;
    struct Channels {
        float *out;
        vec scale, shift;
        void put(int at, vec x) const { store(out + at, relu(x) * scale + shift); }
    };
    Channels begin(int c) const { return {out, load(scale + c), load(shift + c)}; }
    void end(int, Channels) {}
};

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

// How many times an Activate may end before its sums in float are added to doubles: longer sums would lose digits.
constexpr int ENDS = 64;

// See Activation. Sums are first over the few pixels between begin and end.
template <bool DROP>
struct Activate {
    float *out;
    int pad, ends = 0;
    double *sum, *square;
    uint32_t index, low, high, threshold;
    vec sums[MOST / LANES] = {}, squares[MOST / LANES] = {};

    Activate(float *out, int pad, const Activation &of)
        : out(out), pad(pad), sum(of.sum), square(of.square), index(uint32_t(of.index)), threshold(of.dropout.threshold) {
        const uint64_t key = mix(of.dropout.key);
        low = uint32_t(key), high = uint32_t(key >> 32);
    }
    struct Channels {
        float *out;
        uvec counter;
        uint32_t high, threshold;
        vec sum, square;
        void put(int at, vec x) {
            vec value = magnitude(relu(x));
            sum += value;
            square += value * value;
            if (DROP) {
                const uvec drop = (uvec)(hash(counter + uint32_t(at) * GOLDEN, high) < threshold);
                value = (vec)((uvec)value | (drop & 0x80000000u));
            }
            store(out + at, value);
        }
    };
    Channels begin(int) const {
        uvec lanes;
        for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
        return {out, (lanes + index) * GOLDEN + low, high, threshold, vec{}, vec{}};
    }
    void end(int c, const Channels &channels) {
        sums[c / LANES] += channels.sum;
        squares[c / LANES] += channels.square;
        if (++ends == ENDS) flush();
    }
    void flush() {
        for (int c = 0; c < pad; c += LANES) {
            add_to(sum + c, sums[c / LANES]), add_to(square + c, squares[c / LANES]);
            sums[c / LANES] = squares[c / LANES] = vec{};
        }
        ends = 0;
    }
};

// Calls f with the output that an activation asks for.
template <bool DROP, typename F>
inline void activated(float *out, int pad, const Activation &activation, F f) {
    Activate<DROP> output(out, pad, activation);
    f(output);
    output.flush();
}
template <typename F>
inline void with_activation(float *out, int pad, const Activation &activation, F f) {
    activation.dropout.threshold > 0 ? activated<true>(out, pad, activation, f)
                                     : activated<false>(out, pad, activation, f);
}

// See ActivationGradient: begin(c), then get(at) for the same places as above.
struct ActivatedGradient {
    ActivationGradient of;
    struct Channels {
        const float *dy, *y;
        vec slope, constant;
        void fetch(int at) const { __builtin_prefetch(dy + at), __builtin_prefetch(y + at); }
        vec get(int at) const {
            const vec value = magnitude(load(y + at));
            return only_where(value > 0, load(dy + at) + (slope * value + constant));
        }
    };
    Channels begin(int c) const { return {of.dy, of.y, load(of.b + c), load(of.c + c)}; }
};

} // namespace
