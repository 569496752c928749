// One pool of threads per process. Whoever calls works along; several callers share the threads.
#pragma once
#include <cstddef>
#include <functional>

namespace hecompile {

// Threads that `parallel` uses from now on, the caller among them: 1 to 256. Results are the same bits for any number.
void set_threads(int count);
int threads();

// Calls task(0) .. task(count - 1), each once, on the pool's threads and this one, and returns when all are done. The first
// exception is thrown again here. Safe to call from several threads, and in a child after a fork (which starts with a pool of its
// own).
void parallel(std::size_t count, const std::function<void(std::size_t)>& task);

}  // namespace hecompile
