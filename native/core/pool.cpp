#include "core/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace hecompile {
namespace {

// One call of `parallel`: whoever has time takes the next index.
struct Job {
  std::size_t count;
  const std::function<void(std::size_t)>* task;
  std::atomic<std::size_t> next{0};
  std::size_t done = 0;  // under the pool's mutex
  std::exception_ptr failure;

  // Works until no index is left. Returns how many it did.
  std::size_t work(std::exception_ptr& failed) {
    std::size_t finished = 0;
    for (std::size_t index = next.fetch_add(1); index < count; index = next.fetch_add(1), finished++) {
      try {
        (*task)(index);
      } catch (...) {
        if (!failed) failed = std::current_exception();
      }
    }
    return finished;
  }
};

class Pool {
 public:
  void run(const std::shared_ptr<Job>& job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(job);
    }
    wake_.notify_all();
    finish(*job);
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [&] { return job->done == job->count; });
    std::erase(jobs_, job);
    if (job->failure) std::rethrow_exception(job->failure);
  }

  // Its threads end when they have nothing more to do; the last one gives the memory back.
  static void leave(const std::shared_ptr<Pool>& pool) {
    const std::lock_guard lock(pool->mutex_);
    pool->closed_ = true;
    pool->wake_.notify_all();
  }

  static std::shared_ptr<Pool> make(int threads) {
    auto pool = std::make_shared<Pool>();
    for (int i = 1; i < threads; i++) std::thread([pool] { pool->serve(); }).detach();
    return pool;
  }

 private:
  void serve() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);  // signals are for the threads of Python
    std::unique_lock lock(mutex_);
    while (!closed_) {
      const auto found = std::find_if(jobs_.begin(), jobs_.end(), [](const auto& job) { return job->next.load() < job->count; });
      if (found == jobs_.end()) {
        wake_.wait(lock);
        continue;
      }
      const std::shared_ptr<Job> job = *found;  // NOLINT(performance-unnecessary-copy-initialization): outlives the lock
      lock.unlock();
      finish(*job);
      lock.lock();
    }
  }

  void finish(Job& job) {
    std::exception_ptr failed;
    const std::size_t finished = job.work(failed);
    const std::lock_guard lock(mutex_);
    if (failed && !job.failure) job.failure = failed;
    job.done += finished;
    if (job.done == job.count) finished_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::deque<std::shared_ptr<Job>> jobs_;
  bool closed_ = false;
};

std::mutex choosing;

// HECOMPILE_THREADS, or OMP_NUM_THREADS as other libraries, or the processors that this process may use.
int usual_threads() {
  for (const char* name : {"HECOMPILE_THREADS", "OMP_NUM_THREADS"}) {
    const char* text = std::getenv(name);
    const int count = text != nullptr ? std::atoi(text) : 0;
    if (count >= 1) return std::min(count, 256);
  }
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::clamp(CPU_COUNT(&allowed), 1, 256);
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 256U));
}

int wanted = usual_threads();
std::shared_ptr<Pool> current;
pid_t owner = 0;

// The pool of this process. A child has none of its parent's threads: its parent's pool is left as it is, unreachable.
std::shared_ptr<Pool> pool() {
  const std::lock_guard lock(choosing);
  if (current && owner != getpid()) new std::shared_ptr<Pool>(std::move(current));
  if (!current) current = Pool::make(wanted), owner = getpid();
  return current;
}

const bool handlers = [] {
  pthread_atfork([] { choosing.lock(); }, [] { choosing.unlock(); }, [] { choosing.unlock(); });
  return true;
}();

}  // namespace

void set_threads(int count) {
  if (count < 1 || count > 256) throw std::invalid_argument("threads: 1 to 256");
  const std::lock_guard lock(choosing);
  if (count == wanted) return;
  wanted = count;
  if (current && owner == getpid()) Pool::leave(current);
  if (current && owner != getpid()) new std::shared_ptr<Pool>(std::move(current));
  current.reset();
}

int threads() {
  const std::lock_guard lock(choosing);
  return wanted;
}

void parallel(std::size_t count, const std::function<void(std::size_t)>& task) {
  if (count == 0) return;
  auto job = std::make_shared<Job>();
  job->count = count, job->task = &task;
  if (count == 1 || threads() == 1) {
    std::exception_ptr failed;
    job->work(failed);
    if (failed) std::rethrow_exception(failed);
    return;
  }
  pool()->run(job);
}

}  // namespace hecompile
