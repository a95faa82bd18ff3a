// A whole net in evaluation, a few images at a time.

#include "../common.h"
#include "operations.h"

namespace fused {
namespace {

// A fused operation in evaluation; `fused.rs` has the same struct.
struct Stage {
    enum { BLOCK, MAX_POOL, AVERAGE_POOL } kind;
    // A block needs all of them, the others the weight.
    const Tensor *weight, *gamma, *beta, *running_mean, *running_var;
    int64_t padding;

    Tensor operator()(const Tensor &x) const {
        switch (kind) {
        case BLOCK: return evaluate_block(x, *weight, *gamma, *beta, *running_mean, *running_var, padding);
        case MAX_POOL: return convolve_and_pool(Convolution(x, *weight, 0, true)).first;
        default: return average_and_convolve(Convolution(x, *weight, 0, true)).first;
        }
    }
};

// How many images go through all stages before the next ones: their activations stay in the second-level cache.
constexpr int64_t EVALUATED_TOGETHER = 32;

Tensor evaluate_stages(const Tensor &images, const Stage *stages, int64_t count) {
    const int64_t total = images.size(0), threads = at::get_num_threads();
    const int64_t parts = std::max({int64_t(1), std::min(threads, total), total / EVALUATED_TOGETHER});
    std::vector<Tensor> outputs(parts);
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
            Tensor x = images.slice(0, total * part / parts, total * (part + 1) / parts);
            for (int64_t i = 0; i < count; ++i) x = stages[i](x);
            outputs[part] = x;
        }
    });
    return at::cat(outputs);
}

} // namespace
} // namespace fused

extern "C" {

using namespace fused;

// Images [N, 1, H, W] through stages of which the last is an average-pool: [N, out]. There is no gradient.
char *tm_fused_evaluate(const Tensor *images, const Stage *stages, int64_t count, Tensor **out) {
    return guarded([&] { *out = new Tensor(evaluate_stages(*images, stages, count)); });
}
}
