// The client's own table of rings, so that no artifact can bring a modulus (docs/cryptography.md, section 1). It has the same
// numbers as hecompile/backends/bfv/rings.py.
#pragma once
#include <cstdint>

namespace hecompile {

// The table's prime of q_bits bits that is 1 modulo 2^max(16, t_bits), or 0 if it has none.
std::uint64_t table_prime(int q_bits, int t_bits);

}  // namespace hecompile
