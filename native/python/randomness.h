// Random bytes for the core: seeds from the operating system, streams by AES-256-CTR of `cryptography`, keys of `a` by SHAKE-256.
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

// 32 fresh bytes of the operating system's generator. Throws std::runtime_error if it gives none.
Seed draw_seed();

// K_a of one group of blocks: SHAKE-256(context || u32 group || seed)[0:32]. `context` names artifact, region and layer. Holds the
// GIL.
Seed public_key(const nanobind::bytes& context, std::uint32_t group, const std::uint8_t* seed);

// Streams of one request and layer. The keys of secrets and errors are drawn here, wiped when this goes, and never told.
class CipherFill final : public Fill {
 public:
  explicit CipherFill(std::vector<Seed> public_keys, bool secret);
  void fill(Stream stream, int group, std::uint64_t position, std::uint8_t* out, std::size_t size) override;

 private:
  std::vector<Seed> public_keys_;
  SecretBuffer<std::uint8_t> keys_;  // of secrets, then of errors; empty at a server
};

// Takes the classes of `cryptography`, and memory of zeros, once. Called when the module is loaded.
void prepare_randomness();

}  // namespace hecompile::python
