// Work in pieces, each done by whichever thread is free. All C++ here that runs on several threads runs on this.
//
// at::parallel_for gives each thread one fixed share and waits until all threads have come back. A thread that another
// program keeps off its core then holds up all others for as long as the system lets that program run. Here such a
// thread holds up the others only if it is within a piece: the caller does the pieces that nobody has begun.
#pragma once

#include <cstdint>

namespace pieces {

// While it lives, libtorch's and MKL's own operations keep to the calling thread.
class OneThread {
    int libtorch, mkl;

public:
    OneThread();
    ~OneThread();
    OneThread(const OneThread &) = delete;
};

// While it lives, the calling thread's pieces are done by threads of this program, and libtorch's own operations by the
// calling thread alone. Without it they are done by libtorch's threads: these wait awake for 5 ms after each operation,
// on cores that other threads would need.
class OwnThreads {
    int before;
    OneThread one_thread;

public:
    OwnThreads();
    ~OwnThreads();
};

// How many threads do the pieces of the calling thread: at::get_num_threads(), but for the guards above.
int threads();

// Calls body(context, piece) for each piece from 0 to count - 1, on so many threads, the caller among them, and returns
// when all are done. What a piece runs in pieces it does alone. Rethrows an exception of a piece.
void run(int64_t count, void (*body)(void *context, int64_t piece), void *context);

// Calls body(piece) likewise.
template <typename Body>
void each(int64_t count, Body body) {
    run(count, [](void *context, int64_t piece) { (*static_cast<Body *>(context))(piece); }, &body);
}

// Calls body(begin, end) for runs of `size` numbers of 0 to count - 1, the last one shorter.
template <typename Body>
void ranges(int64_t count, int64_t size, Body body) {
    each((count + size - 1) / size, [&](int64_t piece) {
        const int64_t begin = piece * size, end = begin + size;
        body(begin, end < count ? end : count);
    });
}

} // namespace pieces
