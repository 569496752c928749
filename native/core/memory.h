// Large memory for values that are not secret. It is kept from call to call, since getting fresh pages from the system takes
// as long as the work on them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hecompile {

// `bytes` bytes that are not initialised, aligned to at least 64 bytes.
class MemoryBlock {
 public:
  explicit MemoryBlock(std::size_t bytes);
  ~MemoryBlock();
  MemoryBlock(const MemoryBlock&) = delete;
  MemoryBlock& operator=(const MemoryBlock&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
  std::size_t bytes_;
};

// `count` values that are not initialised.
template <typename T>
class Memory {
 public:
  explicit Memory(std::size_t count) : block_(count * sizeof(T)) {}
  T* data() { return static_cast<T*>(block_.data()); }
  const T* data() const { return static_cast<const T*>(block_.data()); }
  T& operator[](std::size_t index) { return data()[index]; }

 private:
  MemoryBlock block_;
};

}  // namespace hecompile
