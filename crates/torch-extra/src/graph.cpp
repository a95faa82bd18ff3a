// CUDA graphs: the kernels that a piece of code launches on a GPU, recorded once and launched again by one call.
//
// This is the only file that needs libtorch_cuda and libc10_cuda. Without CUDA's headers (TM_CUDA is undefined) its
// functions return an error. It does not call CUDA's runtime, so the program is not linked with it.

#include "common.h"
#include "cuda.h"
#include <stdexcept>

#ifdef TM_CUDA
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <optional>

namespace {
// A function of libtorch_cuda. Its type is that of the declaration in libtorch's headers; a member function takes its
// object first, as the C++ ABI of Linux has it.
template <typename Function>
Function *of_cuda_half(const std::string &name) {
    return reinterpret_cast<Function *>(find_in_cuda_half(name.c_str()));
}

at::cuda::MempoolId_t graph_pool_handle() {
    return of_cuda_half<at::cuda::MempoolId_t()>("_ZN2at4cuda17graph_pool_handleEv")();
}
const at::Generator &default_generator(c10::DeviceIndex device) {
    using Function = const at::Generator &(c10::DeviceIndex);
    return of_cuda_half<Function>("_ZN2at4cuda6detail23getDefaultCUDAGeneratorEa")(device);
}
at::Generator new_generator(c10::DeviceIndex device) {
    return of_cuda_half<at::Generator(c10::DeviceIndex)>("_ZN2at4cuda6detail19createCUDAGeneratorEa")(device);
}

// at::cuda::CUDAGraph
class CudaGraph {
    alignas(at::cuda::CUDAGraph) unsigned char object[sizeof(at::cuda::CUDAGraph)];

    template <typename Result, typename... Arguments>
    Result call(const char *member, Arguments... arguments) {
        return of_cuda_half<Result(void *, Arguments...)>(std::string("_ZN2at4cuda9CUDAGraph") + member)(object, arguments...);
    }

public:
    CudaGraph() { call<void>("C1Eb", false); }
    ~CudaGraph() { call<void>("D1Ev"); }
    CudaGraph(const CudaGraph &) = delete;
    void capture_begin(at::cuda::MempoolId_t pool) {
        call<void>("13capture_beginESt4pairIyyE21cudaStreamCaptureMode", pool, cudaStreamCaptureModeGlobal);
    }
    void capture_end() { call<void>("11capture_endEv"); }
    void replay() { call<void>("6replayEv"); }
    at::cuda::MempoolId_t pool() { return call<at::cuda::MempoolId_t>("4poolEv"); }
};

void synchronize(c10::Device device) { c10::impl::VirtualGuardImpl(at::kCUDA).synchronizeDevice(device.index()); }

template <typename Body>
void ignoring_errors(Body body) {
    try {
        body();
    } catch (...) {
    }
}
} // namespace

struct tm_Graph {
    c10::Device device;
    // The legacy default stream cannot be captured, so capture has a stream of its own.
    c10::Stream stream;
    at::cuda::MempoolId_t pool;
    // While it lives, this thread launches on `stream`.
    std::optional<c10::StreamGuard> side;
    CudaGraph graph;
    bool capturing = false;

    explicit tm_Graph(c10::Device device)
        : tm_Graph(device, c10::impl::VirtualGuardImpl(at::kCUDA).getStreamFromGlobalPool(device),
                   graph_pool_handle()) {}

    // The allocator gives a pool's free memory only to the stream that it was first used on.
    explicit tm_Graph(const tm_Graph *beside) : tm_Graph(beside->device, beside->stream, beside->pool) {}

    tm_Graph(c10::Device device, c10::Stream stream, at::cuda::MempoolId_t pool)
        : device(device), stream(stream), pool(pool) {
        synchronize(device);
        side.emplace(stream);
    }

    ~tm_Graph() {
        if (capturing) ignoring_errors([&] { end(); });
        ignoring_errors([&] { leave(); });
    }

    // As torch.cuda.graph.__enter__. capture_begin registers the device's default generator, so that each replay draws
    // new numbers and advances the generator as the captured code would.
    void begin() {
        synchronize(device);
        c10::cuda::CUDACachingAllocator::emptyCache();
        capturing = true;
        graph.capture_begin(pool);
    }

    void end() {
        capturing = false;
        try {
            graph.capture_end();
        } catch (...) {
            clean_up();
            throw;
        }
    }

    // Back to the previous stream.
    void leave() {
        if (side) synchronize(device);
        side.reset();
    }

    // After capture_end threw: the allocators still reserve memory for the capture, and the generator still counts as
    // captured and would refuse to draw.
    void clean_up() {
        bool ended = true;
        try {
            graph.pool();
        } catch (...) {
            ended = false;
        }
        if (ended) return; // all but the instantiation succeeded, and the graph's destructor does the rest
        side.reset();      // generators refuse to be read where the current stream is being captured
        using namespace c10::cuda;
        // What had not begun is not released: the pool may be another graph's too.
        ignoring_errors([&] {
            CUDACachingAllocator::endAllocateToPool(device.index(), pool);
            CUDACachingAllocator::releasePool(device.index(), pool);
        });
        ignoring_errors([&] {
            at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool);
            at::getHostAllocator(at::kCUDA)->release_pool(pool);
        });
        ignoring_errors([&] {
            at::Generator generator = default_generator(device.index());
            at::Generator fresh = new_generator(device.index());
            fresh.set_state(generator.get_state());
            generator.graphsafe_set_state(fresh);
        });
    }
};
#else
struct tm_Graph {};

namespace {
[[noreturn]] void unavailable() { throw std::runtime_error("the program was built without CUDA's headers"); }
} // namespace
#endif

extern "C" {

// An empty graph. Until tm_graph_end or tm_graph_delete, this thread launches on a stream of its own.
char *tm_graph_new(int device, tm_Graph **out) {
#ifdef TM_CUDA
    return guarded([&] { *out = new tm_Graph(c10::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device))); });
#else
    return guarded([&] { unavailable(); });
#endif
}

// The same, with the stream and the memory of another graph, whose capture has ended.
char *tm_graph_new_beside(const tm_Graph *other, tm_Graph **out) {
#ifdef TM_CUDA
    return guarded([&] { *out = new tm_Graph(other); });
#else
    return guarded([&] { unavailable(); });
#endif
}

// From here on, kernels that this thread and autograd's threads launch are recorded and not run.
char *tm_graph_begin(tm_Graph *graph) {
#ifdef TM_CUDA
    return guarded([&] { graph->begin(); });
#else
    return guarded([&] { unavailable(); });
#endif
}

// Ends the recording, and goes back to the stream before tm_graph_new.
char *tm_graph_end(tm_Graph *graph) {
#ifdef TM_CUDA
    return guarded([&] {
        graph->end();
        graph->leave();
    });
#else
    return guarded([&] { unavailable(); });
#endif
}

// Launches the recorded kernels on the current stream, and does not wait for them.
char *tm_graph_replay(tm_Graph *graph) {
#ifdef TM_CUDA
    return guarded([&] { graph->graph.replay(); });
#else
    return guarded([&] { unavailable(); });
#endif
}

// Also ends an unfinished capture, as after an error, and leaves its stream.
void tm_graph_delete(tm_Graph *graph) { delete graph; }
}
