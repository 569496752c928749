#include "core/memory.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace hecompile {
namespace {

constexpr std::size_t kMostKept = std::size_t{256} << 20, kHugePage = std::size_t{2} << 20;

// Only tried, never waited for: a child may find the lock taken by a thread that it does not have.
struct Kept {
  std::mutex mutex;
  std::multimap<std::size_t, void*> idle;  // by size
  std::size_t bytes = 0;
};
Kept& kept() {
  static Kept* const one = new Kept;  // threads may outlive the end of main
  return *one;
}

std::size_t rounded(std::size_t bytes) {
  const std::size_t step = bytes < kHugePage ? std::size_t{4096} : kHugePage;
  if (bytes > SIZE_MAX - step) throw std::bad_alloc();
  return (bytes + step - 1) / step * step;
}

}  // namespace

MemoryBlock::MemoryBlock(std::size_t bytes) : data_(nullptr), bytes_(rounded(bytes)) {
  if (const std::unique_lock lock(kept().mutex, std::try_to_lock); lock.owns_lock()) {
    const auto found = kept().idle.lower_bound(bytes_);
    if (found != kept().idle.end() && found->first / 2 <= bytes_) {
      bytes_ = found->first, data_ = found->second;
      kept().bytes -= bytes_;
      kept().idle.erase(found);
      return;
    }
  }
  data_ = std::aligned_alloc(bytes_ < kHugePage ? 4096 : kHugePage, bytes_);
  if (data_ == nullptr && bytes_ > 0) throw std::bad_alloc();
#if defined(__linux__)
  if (bytes_ >= kHugePage) madvise(data_, bytes_, MADV_HUGEPAGE);  // where it is refused, small pages do as well
#endif
}

MemoryBlock::~MemoryBlock() {
  const std::unique_lock lock(kept().mutex, std::try_to_lock);
  if (lock.owns_lock() && kept().bytes + bytes_ <= kMostKept) {
    try {
      kept().idle.emplace(bytes_, data_);
      kept().bytes += bytes_;
      return;
    } catch (const std::bad_alloc&) {  // then it is given back
    }
  }
  std::free(data_);
}

}  // namespace hecompile
