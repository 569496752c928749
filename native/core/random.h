// Where random bytes come from: streams that can be read at any position, so that threads may draw in any order.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hecompile {

// The three streams of docs/cryptography.md, section 2: of `a`, from the public seed of a group of blocks; of secrets; of errors.
enum class Stream { kPublic, kSecrets, kErrors };

// The random streams of one request and layer. The Python binding implements it with AES-256-CTR of `cryptography`, tests in C++
// with generators of their own.
class Fill {
 public:
  virtual ~Fill() = default;
  // Writes bytes [position, position + size) of a stream. `position` is a multiple of 16. `group` numbers the seeds of kPublic,
  // from zero; it is zero for the other streams. Called from several threads at once.
  virtual void fill(Stream stream, int group, std::uint64_t position, std::uint8_t* out, std::size_t size) = 0;
};

inline constexpr int kBlocksPerSeed = 64;  // blocks of a request that share a public seed
inline constexpr int kSpareWords = 64;     // least number of spare words of `a`, which replace words that are not below q

// Spare words of a polynomial. With q of at least 2^12 t, fewer than one polynomial in 2^80 needs more; a test computes this.
inline constexpr std::int64_t spare_words(std::int64_t n) { return n / 32 < kSpareWords ? kSpareWords : n / 32; }

// Where the bytes of uploads, secrets and errors lie in their streams (docs/cryptography.md, section 2). No two of them overlap.
struct Positions {
  std::int64_t n;  // dimension
  std::int64_t uploads;
  int q_bits;

  std::uint64_t word_bytes() const { return static_cast<std::uint64_t>(q_bits + 7) / 8; }
  // Bytes of `a` of one upload: N words and the spare ones, in whole AES blocks.
  std::uint64_t public_bytes() const { return (static_cast<std::uint64_t>(n + spare_words(n)) * word_bytes() + 15) / 16 * 16; }
  std::uint64_t public_at(std::int64_t upload) const { return static_cast<std::uint64_t>(upload) * public_bytes(); }
  // Eight bytes for each coefficient of a block's secret.
  std::uint64_t secret_bytes() const { return static_cast<std::uint64_t>(n) * 8; }
  std::uint64_t secret_at(std::int64_t block) const { return static_cast<std::uint64_t>(block) * secret_bytes(); }
  // Six bytes (42 bits are used) for each coefficient of an upload's error.
  std::uint64_t error_bytes() const { return static_cast<std::uint64_t>(n) * 6; }
  std::uint64_t error_at(std::int64_t block, std::int64_t upload) const {
    return static_cast<std::uint64_t>(block * uploads + upload) * error_bytes();
  }
};

}  // namespace hecompile
