// A forked child runs tasks on a thread pool of its own, even though its parent had a pool. The parent's pool goes on as well.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdio>

#include "core/pool.h"

namespace {

// Whether all of 100 tasks ran.
bool all_run() {
  std::atomic<std::size_t> runs = 0;
  hecompile::parallel(100, [&](std::size_t) { runs++; });
  return runs == 100;
}

}  // namespace

int main() {
  hecompile::set_threads(4);
  bool right = all_run();
  for (int i = 0; i < 20; i++) {
    const pid_t child = fork();
    if (child == 0) _exit(all_run() ? 0 : 1);
    int status = 1;
    right = waitpid(child, &status, 0) == child && status == 0 && all_run() && right;
  }
  if (!right) std::fputs("a child's or its parent's tasks did not all run\n", stderr);
  return right ? 0 : 1;
}
