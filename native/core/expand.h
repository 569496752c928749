// The public half of fresh ciphertexts, from bytes of a stream (wire format, frozen with known answers).
#pragma once
#include <cstdint>

#include "core/layout.h"
#include "core/random.h"

namespace hecompile {

// Expands `a` of one upload from `bytes`, Positions::public_bytes() of a stream. They are read as little-endian words of
// word_bytes() bytes and masked to q_bits; words that are not below q are skipped. The first N words left are the values of `a` in
// evaluation order: value k at psi^(2 bitreverse(k) + 1). Returns false if fewer than N are left.
bool expand(const Ring& ring, const std::uint8_t* bytes, std::uint64_t* words);

}  // namespace hecompile
