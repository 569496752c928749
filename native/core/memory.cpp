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

// The most bytes that are kept for later calls, and the size of a huge page.
constexpr std::size_t kMostKept = std::size_t{256} << 20, kHugePage = std::size_t{2} << 20;

// The lock is only tried, never waited for: after a fork it may be held by a thread that the child does not have.
struct Kept {
  std::mutex mutex;
  std::multimap<std::size_t, void*> idle;  // by size
  std::size_t bytes = 0;
};
Kept& kept() {
  static Kept* const one = new Kept;  // never freed: threads may outlive the end of main
  return *one;
}

// `bytes` rounded up to whole pages.
std::size_t rounded(std::size_t bytes) {
  const std::size_t step = bytes < kHugePage ? std::size_t{4096} : kHugePage;
  if (bytes > SIZE_MAX - step) throw std::bad_alloc();
  return (bytes + step - 1) / step * step;
}

}  // namespace

MemoryBlock::MemoryBlock(std::size_t bytes) : data_(nullptr), bytes_(rounded(bytes)) {
  if (const std::unique_lock lock(kept().mutex, std::try_to_lock); lock.owns_lock()) {
    const auto smallest = kept().idle.lower_bound(bytes_);
    if (smallest != kept().idle.end() && smallest->first / 2 <= bytes_) {
      bytes_ = smallest->first, data_ = smallest->second;
      kept().bytes -= bytes_;
      kept().idle.erase(smallest);
      return;
    }
  }
  data_ = std::aligned_alloc(bytes_ < kHugePage ? 4096 : kHugePage, bytes_);
  if (data_ == nullptr && bytes_ > 0) throw std::bad_alloc();
#if defined(__linux__)
  if (bytes_ >= kHugePage) madvise(data_, bytes_, MADV_HUGEPAGE);  // only a hint: small pages work too
#endif
}

MemoryBlock::~MemoryBlock() {
  const std::unique_lock lock(kept().mutex, std::try_to_lock);
  if (lock.owns_lock() && kept().bytes + bytes_ <= kMostKept) {
    try {
      kept().idle.emplace(bytes_, data_);
      kept().bytes += bytes_;
      return;
    } catch (const std::bad_alloc&) {  // the memory is freed below
    }
  }
  std::free(data_);
}

}  // namespace hecompile
