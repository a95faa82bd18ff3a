// The fused operations in evaluation, without a gradient.
#pragma once

#include "convolution.h"

namespace fused {

// Convolution + ReLU + BatchNorm with its running statistics. x and the result are plain.
Tensor evaluate_block(const Tensor &x, const Tensor &weight, const Tensor &gamma, const Tensor &beta,
                      const Tensor &running_mean, const Tensor &running_var, int64_t padding);

// Each image's 1x1 convolution and 2x2 max-pool, and which of four values each maximum was.
std::pair<Tensor, Tensor> convolve_and_pool(const Convolution &conv);

// The average of each channel over the image, then a 1x1 convolution of that one pixel, to [N, out]; and the averages. These
// are a few thousand numbers, so plain loops are enough. x comes from a block without dropout, so BatchNorm, which is
// linear, can be applied to the average.
std::pair<Tensor, Tensor> average_and_convolve(const Convolution &conv);

} // namespace fused
