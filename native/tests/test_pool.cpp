// The thread pool runs every task once, also for several callers at a time, and throws a task's exception again.
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/pool.h"

namespace {

int failures = 0;

void check(bool holds, const char* fact) {
  if (holds) return;
  std::fprintf(stderr, "not true: %s\n", fact);
  failures++;
}

// Whether each of `count` tasks runs once.
bool each_once(std::size_t count) {
  std::vector<std::atomic<int>> runs(count);
  hecompile::parallel(count, [&](std::size_t task) { runs[task]++; });
  bool once = true;
  for (const auto& run : runs) once = once && run == 1;
  return once;
}

// Whether the exception of a task reaches the caller.
bool fails(std::size_t count) {
  try {
    hecompile::parallel(count, [](std::size_t task) {
      if (task == 3) throw std::runtime_error("three");
    });
  } catch (const std::runtime_error&) {
    return true;
  }
  return false;
}

}  // namespace

int main() {
  for (const int count : {1, 2, 5}) {
    hecompile::set_threads(count);
    check(hecompile::threads() == count, "the number of threads is the one that was set");
    for (const std::size_t tasks : {0, 1, 2, 1000}) check(each_once(tasks), "each task runs once");
    check(fails(100), "an exception arrives");
    check(each_once(100), "after an exception the pool goes on");
  }
  std::atomic<int> right = 0;
  std::vector<std::thread> callers;
  callers.reserve(4);
  for (int i = 0; i < 4; i++)
    callers.emplace_back([&] {
      for (int k = 0; k < 50; k++) right += each_once(20) ? 1 : 0;
    });
  for (auto& caller : callers) caller.join();
  check(right == 200, "several callers share the threads");
  for (const int count : {0, 257}) {
    bool refused = false;
    try {
      hecompile::set_threads(count);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    check(refused, "numbers of threads out of range are refused");
  }
  return failures == 0 ? 0 : 1;
}
