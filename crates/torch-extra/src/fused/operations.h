// The fused operations in evaluation, without a gradient.
#pragma once

#include "convolution.h"

namespace fused {

// What a block's weights are for evaluation: packed, and BatchNorm with its running statistics as a scale and a shift.
struct EvaluatedBlock {
    Tensor w;
    std::vector<float> scale, shift;
    EvaluatedBlock(const Convolution &conv, const Tensor &gamma, const Tensor &beta, const Tensor &running_mean,
                   const Tensor &running_var);
};

// Convolution + ReLU + BatchNorm of each image while it is in cache. x and the result are plain.
Tensor evaluate_block(const Convolution &conv, const EvaluatedBlock &block);

// Each image's 1x1 convolution, with the packed weight w, and 2x2 max-pool; and which of four values each maximum was.
std::pair<Tensor, Tensor> convolve_and_pool(const Convolution &conv, const Tensor &w);

// The average of each channel over the image, then a 1x1 convolution of that one pixel, to [N, out]; and the averages.
// These are a few thousand numbers, so plain loops are enough. x comes from a block without dropout, so BatchNorm,
// which is linear, can be applied to the average.
std::pair<Tensor, Tensor> average_and_convolve(const Convolution &conv);

} // namespace fused
