// The pixels of a batch: bytes of chosen images, each looked up in a table.

#include "common.h"
#include "pieces.h"
#include <ATen/ATen.h>

extern "C" {

// table[images[indices]] for float32 [256], uint8 [N, ...] and int64 [B], all on the CPU and contiguous, into `out`,
// float32 [B, ...].
char *tm_look_up(const at::Tensor *table, const at::Tensor *images, const at::Tensor *indices, const at::Tensor *out) {
    return guarded([&] {
        const auto is = [](const at::Tensor *tensor, at::ScalarType type) {
            return tensor->is_cpu() && tensor->is_contiguous() && tensor->scalar_type() == type;
        };
        TORCH_CHECK(is(table, at::kFloat) && table->numel() == 256 && is(images, at::kByte) && images->dim() > 0 &&
                        is(indices, at::kLong) && is(out, at::kFloat),
                    "a table of 256 floats, images as bytes, and indices were expected, contiguous on the CPU");
        const int64_t count = indices->numel(), all = images->size(0), size = all == 0 ? 0 : images->numel() / all;
        TORCH_CHECK(out->numel() == count * size, "the batch has another size than ", count, " images");
        const int64_t *index = indices->data_ptr<int64_t>();
        for (int64_t i = 0; i < count; ++i)
            TORCH_CHECK(index[i] >= 0 && index[i] < all, "index ", index[i], " is out of range for ", all, " images");
        const float *values = table->data_ptr<float>();
        const uint8_t *bytes = images->data_ptr<uint8_t>();
        float *to = out->data_ptr<float>();
        pieces::ranges(count, 16, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i)
                for (int64_t pixel = 0; pixel < size; ++pixel)
                    to[i * size + pixel] = values[bytes[index[i] * size + pixel]];
        });
    });
}
}
