// Random bytes for the core, as docs/cryptography.md, section 2, says: seeds come from the operating system, keys of `a` from
// SHAKE-256, and streams from AES-256 in counter mode, as the Python package `cryptography` computes it.
#pragma once
#include <nanobind/nanobind.h>

#include <array>
#include <cstdint>
#include <vector>

#include "core/buffer.h"
#include "core/random.h"

namespace hecompile::python {

inline constexpr std::size_t kSeedBytes = 32;
using Seed = std::array<std::uint8_t, kSeedBytes>;

// 32 fresh bytes from the operating system's random generator. Throws std::runtime_error if that fails.
Seed draw_seed();

// The key K_a of one group of blocks: the first 32 bytes of SHAKE-256(context || group in 4 bytes || seed). `context` names
// artifact, region and layer. The caller must hold the GIL.
Seed public_key(const nanobind::bytes& context, std::uint32_t group, const std::uint8_t* seed);

// The random streams of one request and layer. The keys of secrets and errors are drawn in the constructor, wiped in the
// destructor, and never given out.
class CipherFill final : public Fill {
 public:
  explicit CipherFill(std::vector<Seed> public_keys, bool secret);
  void fill(Stream stream, int group, std::uint64_t position, std::uint8_t* out, std::size_t size) override;

 private:
  std::vector<Seed> public_keys_;
  SecretBuffer<std::uint8_t> keys_;  // the key of secrets, then that of errors; no bytes at a server
};

// Imports the classes of `cryptography` and allocates a block of zeros, once. Called when the module is loaded.
void prepare_randomness();

}  // namespace hecompile::python
