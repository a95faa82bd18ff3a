// What the parts of the stand-in share: its log, injected failures, and a launch on a stream.
#pragma once
#include <cuda_runtime_api.h>
#include <mutex>
#include <string>

#define API extern "C" __attribute__((visibility("default")))
#define LOCK std::lock_guard<std::recursive_mutex> lock(stand_in::mutex)

namespace stand_in {
extern std::recursive_mutex mutex;

// One line of the log that FAKE_LOG names: fields between tabs.
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The code that FAKE_FAIL="name:nth:code" gives the nth call of `name` and all later ones, otherwise 0; a negative code is a
// signal to this process. During a capture the name begins with "captured ".
int injected(const std::string &name);

// Puts a kernel, a copy or a memset on a stream: it is noted, or becomes a node of the graph that is being captured.
cudaError_t launch(const char *kind, const std::string &what, const std::string &numbers, cudaStream_t stream);
} // namespace stand_in
