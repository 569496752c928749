#include "core/scratch.h"

#include <string.h>

#include <algorithm>

namespace hecompile {
namespace {

using Memory = SecretBuffer<std::uint8_t>;

constexpr std::size_t kMostKept = std::size_t{64} << 20;

// Wiped memory of earlier calls. The lock is only tried, never waited for: after a fork it may be held by a thread that the child
// does not have.
struct Kept {
  std::mutex mutex;
  std::vector<Memory> idle;
  std::size_t bytes = 0;
};
Kept& kept() {
  static Kept* const one = new Kept;  // never freed: threads may outlive the end of main
  return *one;
}

// Memory of at least `bytes` bytes: some of an earlier call, or fresh.
Memory find(std::size_t bytes) {
  if (const std::unique_lock lock(kept().mutex, std::try_to_lock); lock.owns_lock()) {
    auto& idle = kept().idle;
    const auto large_enough = std::find_if(idle.begin(), idle.end(), [&](const Memory& memory) { return memory.size() >= bytes; });
    if (large_enough != idle.end()) {
      Memory memory = std::move(*large_enough);
      idle.erase(large_enough);
      kept().bytes -= memory.size();
      return memory;
    }
  }
  return Memory(bytes);
}

}  // namespace

Scratch::~Scratch() {
  for (Memory& memory : idle_) explicit_bzero(memory.data(), bytes_);
  const std::unique_lock lock(kept().mutex, std::try_to_lock);
  if (!lock.owns_lock()) return;
  for (Memory& memory : idle_) {
    if (kept().bytes + memory.size() > kMostKept) continue;
    try {
      const std::size_t size = memory.size();
      kept().idle.push_back(std::move(memory));
      kept().bytes += size;
    } catch (const std::bad_alloc&) {  // this memory is freed, not kept
    }
  }
}

Scratch::Room::Room(Scratch& owner) : owner_(owner) {
  {
    const std::lock_guard lock(owner.mutex_);
    owner.idle_.reserve(owner.idle_.size() + 1);
    if (!owner.idle_.empty()) {
      memory_ = std::move(owner.idle_.back());
      owner.idle_.pop_back();
    }
  }
  if (memory_.size() == 0) memory_ = find(owner.bytes_);
}

Scratch::Room::~Room() {
  const std::lock_guard lock(owner_.mutex_);
  try {
    owner_.idle_.push_back(std::move(memory_));
  } catch (const std::bad_alloc&) {  // this memory is wiped and freed, not kept
  }
}

}  // namespace hecompile
