// A whole net in evaluation, a few images at a time.

#include "../common.h"
#include "operations.h"
#include <optional>

namespace fused {
namespace {

// A fused operation in evaluation; `fused.rs` has the same struct.
struct Stage {
    enum { BLOCK, MAX_POOL, AVERAGE_POOL } kind;
    // A block needs all of them, the others the weight.
    const Tensor *weight, *gamma, *beta, *running_mean, *running_var;
    int64_t padding;

    Convolution convolution(const Kernels &kernels, const Tensor &x) const {
        return Convolution(kernels, x, *weight, kind == BLOCK ? padding : 0, true);
    }
};

// A stage whose weights are ready for images of one size.
struct PreparedStage {
    const Kernels &kernels;
    const Stage &stage;
    std::optional<EvaluatedBlock> block;
    Tensor w;

    PreparedStage(const Kernels &kernels, const Stage &stage, const Tensor &x) : kernels(kernels), stage(stage) {
        const Convolution conv = stage.convolution(kernels, x);
        if (stage.kind == Stage::BLOCK)
            block.emplace(conv, *stage.gamma, *stage.beta, *stage.running_mean, *stage.running_var);
        else if (stage.kind == Stage::MAX_POOL) w = conv.packed();
    }

    Tensor operator()(const Tensor &x) const {
        const Convolution conv = stage.convolution(kernels, x);
        switch (stage.kind) {
        case Stage::BLOCK: return evaluate_block(conv, *block);
        case Stage::MAX_POOL: return convolve_and_pool(conv, w).first;
        default: return average_and_convolve(conv).first;
        }
    }
};

// How many images go through all stages before the next ones: their activations stay in the second-level cache.
constexpr int64_t EVALUATED_TOGETHER = 16;

Tensor evaluate_stages(const Tensor &images, const Stage *stages, int64_t count) {
    RECORD_FUNCTION("fused_evaluate", {});
    const int64_t total = images.size(0), threads = pieces::threads();
    if (total == 0) return at::empty({0, stages[count - 1].weight->size(0)}, at::kFloat);
    std::vector<PreparedStage> prepared;
    const Kernels &kernels = chosen_kernels();
    Tensor first = images.slice(0, 0, 1);
    for (int64_t i = 0; i < count; ++i) first = prepared.emplace_back(kernels, stages[i], first)(first);

    const int64_t parts = std::max(std::min(threads, total), total / EVALUATED_TOGETHER);
    std::vector<Tensor> outputs(parts);
    pieces::each(parts, [&](int64_t part) {
        Tensor x = images.slice(0, total * part / parts, total * (part + 1) / parts);
        for (const PreparedStage &stage : prepared) x = stage(x);
        outputs[part] = x;
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
