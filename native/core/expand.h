// The public half of fresh ciphertexts, from bytes of a stream (wire format, frozen with known answers).
#pragma once
#include <cstdint>

#include "core/layout.h"
#include "core/random.h"

namespace hecompile {

// Words of `a` of one upload: little-endian words of word_bytes() bytes, masked to q_bits, those that are not below q skipped, the
// first N kept, in evaluation order (value k at psi^(2 bitreverse(k) + 1)). `bytes` are Positions::public_bytes() of them. Returns
// false if there are fewer than N.
bool expand(const Ring& ring, const std::uint8_t* bytes, std::uint64_t* words);

}  // namespace hecompile
