// Memory that the threads of one call work in. It holds secrets, so it is wiped when the call ends; then it is kept for the next
// one, since fresh pages cost as much as the work on them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/buffer.h"

namespace hecompile {

class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : bytes_(bytes) {}
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Memory for one task at a time, cut into pieces from its start.
  class Room {
   public:
    explicit Room(Scratch& owner);
    ~Room();
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;

    // `count` values on a 64-byte border, with 64 bytes to spare. What they hold is left from other tasks of the call.
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
