// Memory that the threads of one call work in. It holds secrets, so it is wiped when the call ends. After that it is kept for the
// next call, since getting fresh pages takes as long as the work on them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/buffer.h"

namespace hecompile {

// Memory of `bytes` bytes for each task of one call.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : bytes_(bytes) {}
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // The memory of one task. `take` gives it out in pieces, from its start on.
  class Room {
   public:
    explicit Room(Scratch& owner);
    ~Room();
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;

    // Returns room for `count` values, aligned to 64 bytes and followed by 64 bytes that may be overwritten. It is not initialised:
    // it holds what other tasks of the call left there.
    template <typename T>
    T* take(std::size_t count) {
      T* result = reinterpret_cast<T*>(memory_.data() + used_);
      used_ += size_of<T>(count);
      return result;
    }

   private:
    Scratch& owner_;
    SecretBuffer<std::uint8_t> memory_;
    std::size_t used_ = 0;
  };

  // How many bytes `take` uses for `count` values.
  template <typename T>
  static std::size_t size_of(std::size_t count) {
    return (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  }

 private:
  const std::size_t bytes_;
  std::mutex mutex_;
  std::vector<SecretBuffer<std::uint8_t>> idle_;
};

}  // namespace hecompile
