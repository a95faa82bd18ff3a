// libtorch's profiler, which torch.profiler uses too: operations on the CPU, and kernels on a GPU through CUPTI.

#include "common.h"
#include <atomic>
#include <cstdlib>
#include <torch/csrc/autograd/profiler_kineto.h>

// Kineto's own (Logger.h), which libtorch exports without its header: messages below this level are not printed.
namespace libkineto {
struct Logger {
    static std::atomic_int severityLevel_ __attribute__((weak));
};
} // namespace libkineto

namespace {
namespace profiler = torch::autograd::profiler;

// `profiler.rs` has the same struct.
struct Recorded {
    const char *name;
    bool on_gpu;
    uint64_t thread, start, duration; // nanoseconds
};
} // namespace

extern "C" {

// Records what this thread computes from here on, what the GPU computes if `cuda`, and backward passes.
char *tm_profiler_start(bool cuda) {
    return guarded([&] {
        const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
        std::set<profiler::ActivityType> activities = {profiler::ActivityType::CPU};
        if (cuda) activities.insert(profiler::ActivityType::CUDA);
        profiler::prepareProfiler(config, activities);
        // Without a GPU it would log an error: that it finds none.
        if (!cuda && &libkineto::Logger::severityLevel_ && !getenv("KINETO_LOG_LEVEL"))
            libkineto::Logger::severityLevel_ = 5;
        profiler::enableProfiler(config, activities);
    });
}

// Ends the recording, writes it to the file `trace`, and calls each(context, event) for every event. An event's name
// lives as long as the call.
char *tm_profiler_stop(const char *trace, void *context, void (*each)(void *, const Recorded *)) {
    return guarded([&] {
        const auto result = profiler::disableProfiler();
        for (const profiler::KinetoEvent &event : result->events()) {
            const std::string name = event.name();
            const Recorded recorded = {name.c_str(), event.deviceType() == c10::DeviceType::CUDA, event.startThreadId(),
                                       event.startNs(), event.durationNs()};
            each(context, &recorded);
        }
        result->save(trace);
    });
}

// Ends the recording and forgets it.
char *tm_profiler_cancel() {
    return guarded([] { profiler::disableProfiler(); });
}
}
