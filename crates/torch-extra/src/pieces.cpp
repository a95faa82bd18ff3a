// The threads behind pieces.h.

#include "common.h"
#include "pieces.h"
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

// MKL's own (mkl_service.h); missing where libtorch has another LAPACK, which keeps to one thread inside parallel_for.
extern "C" int MKL_Set_Num_Threads_Local(int threads) __attribute__((weak));

namespace pieces {
namespace {

// How long a thread waits without sleeping: to sleep and to be woken takes about as long.
constexpr std::chrono::microseconds AWAKE{50};

// How long the caller sleeps at once. Whenever it falls asleep, Linux may give its core to a thread that waits for one,
// such as a helper that another program keeps from its piece.
constexpr std::chrono::microseconds NAP{100};

// Returns whether `ready` came true within this time.
template <typename Ready>
bool wait_awake(Ready ready) {
    const auto end = std::chrono::steady_clock::now() + AWAKE;
    do {
        for (int i = 0; i < 100; ++i) {
            if (ready()) return true;
#ifdef TM_X86_64
            __builtin_ia32_pause();
#endif
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

#ifdef __linux__
int this_thread() { return int(syscall(SYS_gettid)); } // glibc has gettid from 2.30 on

// Moves a thread off the core of the calling one; afterwards it may run anywhere it could before. Where all cores are
// busy, Linux puts a thread that is woken on the core of the one that woke it: they would share this core, while another
// program has one to itself.
void keep_off_this_core(int thread) {
    cpu_set_t before, others;
    if (thread == 0 || sched_getaffinity(thread, sizeof before, &before) != 0) return;
    others = before;
    CPU_CLR(sched_getcpu(), &others);
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(thread, sizeof others, &others) == 0)
        sched_setaffinity(thread, sizeof before, &before);
}
#else
int this_thread() { return 0; }
void keep_off_this_core(int) {}
#endif

// Whether this thread is in a piece of the pool: what it runs in pieces there it does alone.
thread_local bool in_piece = false;

// For the pieces of this thread while OwnThreads lives, else 0.
thread_local int own_threads = 0;

class Pool {
    std::mutex in_use; // held by the thread whose work this is

    // The work. Only who has claimed a piece may read it, for the caller waits for that piece.
    int64_t count = 0;
    void (*body)(void *, int64_t) = nullptr;
    void *context = nullptr;

    std::atomic<int64_t> not_begun{0}, not_done{0}; // pieces
    std::atomic<int> helpers{0};                    // as many of the threads may claim pieces
    std::deque<std::atomic<int>> threads;           // the system's numbers of those that were started, 0 until known

    std::mutex mutex;
    std::condition_variable work, done; // not_begun > 0, not_done == 0
    std::atomic<int> asleep{0};         // threads that wait for `work`
    std::atomic<bool> caller_asleep{false};
    std::exception_ptr failure; // the first one; guarded by `mutex`

    // Does pieces until all have begun.
    void do_pieces() {
        int64_t left = not_begun;
        while (left > 0)
            if (not_begun.compare_exchange_weak(left, left - 1)) {
                do_piece(count - left);
                left = not_begun;
            }
    }

    void do_piece(int64_t piece) {
        try {
            body(context, piece);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(mutex);
            if (!failure) failure = std::current_exception();
        }
        if (--not_done == 0 && caller_asleep) {
            const std::lock_guard<std::mutex> lock(mutex);
            done.notify_one();
        }
    }

    void help(int number, std::atomic<int> &thread) {
        const OneThread one_thread;
        thread = this_thread();
        in_piece = true;
        const auto wanted = [&] { return not_begun > 0 && number < helpers; };
        for (;;) {
            if (wanted()) do_pieces();
            if (wait_awake(wanted)) continue;
            std::unique_lock<std::mutex> lock(mutex);
            ++asleep;
            work.wait(lock, wanted);
            --asleep;
        }
    }

    void wake(int others) {
        {
            const std::lock_guard<std::mutex> lock(mutex);
            work.notify_all();
        }
        for (int i = 0; i < others; ++i) keep_off_this_core(threads[i]);
    }

    void wait_until_done() {
        const auto is_done = [&] { return not_done == 0; };
        if (wait_awake(is_done)) return;
        std::unique_lock<std::mutex> lock(mutex);
        caller_asleep = true;
        while (!done.wait_for(lock, NAP, is_done)) {}
        caller_asleep = false;
    }

public:
    // Does the work on the caller and `others` more threads; false if another thread's work is being done.
    bool run(int others, int64_t pieces, void (*its_body)(void *, int64_t), void *its_context) {
        const std::unique_lock<std::mutex> lock(in_use, std::try_to_lock);
        if (!lock) return false;
        while (int(threads.size()) < others) {
            std::atomic<int> &thread = threads.emplace_back(0);
            std::thread(&Pool::help, this, int(threads.size()) - 1, std::ref(thread)).detach();
        }
        count = pieces, body = its_body, context = its_context;
        helpers = others;
        not_done = pieces;
        not_begun = pieces; // from here on helpers claim them
        if (asleep > 0) wake(others);
        in_piece = true;
        do_pieces();
        in_piece = false;
        wait_until_done();
        const std::lock_guard<std::mutex> failed(mutex);
        if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
        return true;
    }
};

} // namespace

OneThread::OneThread() {
    libtorch = at::get_num_threads(); // ATen tells MKL its number when it first runs on a thread: let that be before
    mkl = MKL_Set_Num_Threads_Local ? MKL_Set_Num_Threads_Local(1) : 0;
#ifdef _OPENMP
    omp_set_num_threads(1); // at::set_num_threads would also start another pool of threads
#endif
}

OneThread::~OneThread() {
#ifdef _OPENMP
    omp_set_num_threads(libtorch);
#endif
    if (MKL_Set_Num_Threads_Local) MKL_Set_Num_Threads_Local(mkl);
}

OwnThreads::OwnThreads() : before(std::exchange(own_threads, threads())) {}
OwnThreads::~OwnThreads() { own_threads = before; }

int threads() { return in_piece ? 1 : own_threads > 0 ? own_threads : at::get_num_threads(); }

void run(int64_t count, void (*body)(void *context, int64_t piece), void *context) {
    const auto some = [&](int64_t begin, int64_t end) {
        for (int64_t piece = begin; piece < end; ++piece) body(context, piece);
    };
    if (in_piece || own_threads == 1 || count < 2) return some(0, count);
    if (own_threads == 0) return at::parallel_for(0, count, 1, some);
    static Pool &pool = *new Pool; // never deleted: its threads wait for work until the program ends
    const int others = int(std::min<int64_t>(own_threads, count)) - 1;
    if (!pool.run(others, count, body, context)) some(0, count);
}

} // namespace pieces

extern "C" {

// OwnThreads, until tm_end_own_threads.
pieces::OwnThreads *tm_own_threads() { return new pieces::OwnThreads; }
void tm_end_own_threads(pieces::OwnThreads *threads) { delete threads; }

// Calls body(context, piece) for each piece from 0 to count - 1.
char *tm_run_pieces(int64_t count, void (*body)(void *context, int64_t piece), void *context) {
    return guarded([&] { pieces::run(count, body, context); });
}
}
