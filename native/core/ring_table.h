// The client's own table of rings: no artifact chooses a modulus (the same numbers as hecompile/backends/bfv/rings.py).
#pragma once
#include <cstdint>

namespace hecompile {

// The prime of q_bits bits that is 1 modulo 2^t_bits (below 16 bits: modulo 2^16); 0 if the table has none.
std::uint64_t table_prime(int q_bits, int t_bits);

}  // namespace hecompile
