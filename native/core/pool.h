// One pool of threads per process. The calling thread works too; several callers may use the threads at once.
#pragma once
#include <cstddef>
#include <functional>

namespace hecompile {

// Sets how many threads `parallel` uses from now on, the caller among them. Results are the same bits for any number. Throws
// std::invalid_argument for a number that is not from 1 to 256.
void set_threads(int count);
int threads();

// Calls task(0) .. task(count - 1), each once, on the pool's threads and this one, and returns when all are done. The first
// exception is thrown again here. Safe to call from several threads, and in a child after a fork (which starts with a pool of its
// own).
void parallel(std::size_t count, const std::function<void(std::size_t)>& task);

}  // namespace hecompile
