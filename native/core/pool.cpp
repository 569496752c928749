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

// One call of `parallel`. Every thread that is free takes the next index.
struct Job {
  std::size_t count;
  const std::function<void(std::size_t)>* task;
  std::atomic<std::size_t> next{0};
  std::size_t done = 0;  // guarded by the pool's mutex
  std::exception_ptr failure;

  // Calls the task until no index is left, and returns how many calls it made. The first exception of them becomes `failed`.
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

  // Asks the threads to end once they have nothing more to do. The last one that ends frees the pool.
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
    pthread_sigmask(SIG_BLOCK, &all, nullptr);  // so that the threads of Python get all signals
    std::unique_lock lock(mutex_);
    while (!closed_) {
      const auto unfinished =
          std::find_if(jobs_.begin(), jobs_.end(), [](const auto& job) { return job->next.load() < job->count; });
      if (unfinished == jobs_.end()) {
        wake_.wait(lock);
        continue;
      }
      const std::shared_ptr<Job> job = *unfinished;  // NOLINT(performance-unnecessary-copy-initialization): outlives the lock
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

std::mutex pool_mutex;  // guards the three variables below

// HECOMPILE_THREADS if set, else OMP_NUM_THREADS as in other libraries, else the number of processors that this process may use.
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

int thread_count = usual_threads();  // of the next pool, the calling thread among them
std::shared_ptr<Pool> current_pool;
pid_t pool_process = 0;  // the process that made the pool

// The pool of this process. A forked child has none of its parent's threads, so it gets a pool of its own. The copy of its parent's
// pool is never used again, and never freed, as its mutex may be locked by a thread that the child does not have.
std::shared_ptr<Pool> pool() {
  const std::lock_guard lock(pool_mutex);
  if (current_pool && pool_process != getpid()) new std::shared_ptr<Pool>(std::move(current_pool));
  if (!current_pool) current_pool = Pool::make(thread_count), pool_process = getpid();
  return current_pool;
}

// A fork waits for the lock, so that the child finds the variables in order and the mutex free.
const bool handlers = [] {
  pthread_atfork([] { pool_mutex.lock(); }, [] { pool_mutex.unlock(); }, [] { pool_mutex.unlock(); });
  return true;
}();

}  // namespace

void set_threads(int count) {
  if (count < 1 || count > 256) throw std::invalid_argument("the number of threads must be from 1 to 256");
  const std::lock_guard lock(pool_mutex);
  if (count == thread_count) return;
  thread_count = count;
  if (current_pool && pool_process == getpid()) Pool::leave(current_pool);
  if (current_pool && pool_process != getpid()) new std::shared_ptr<Pool>(std::move(current_pool));
  current_pool.reset();
}

int threads() {
  const std::lock_guard lock(pool_mutex);
  return thread_count;
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
