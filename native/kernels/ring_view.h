// What inner loops read of a ring: plain numbers and pointers, so that their object files hold no code of the standard library.
#pragma once
#include <cstdint>

namespace hecompile {

// How a value modulo q lies in scratch memory: a double in the vector kernels, a word below q in the portable one. Eight bytes each.
using Cell = std::uint64_t;

// Twiddles in the order of the transform, each with its quotient by q.
struct TwiddleView {
  const double* value;            // centred, in (-q/2, q/2)
  const double* quotient;         // value / q, rounded
  const std::uint64_t* word;      // the same below q
  const std::uint64_t* fraction;  // floor(word 2^64 / q)
};

struct RingView {
  std::int64_t n;
  int levels;  // n = 2^levels
  std::uint64_t q;
  double q_inverse;  // 1 / q, rounded
  int q_bits, t_bits;
  std::uint64_t delta;     // (q - 1) / t
  TwiddleView forward, backward;
  std::uint64_t n_inverse, n_inverse_fraction;
  double centred_n_inverse, n_inverse_quotient;
  std::uint64_t one_fraction;    // floor(2^64 / q)
  std::uint64_t barrett;         // floor(4^q_bits / q)
  std::uint64_t t_fraction;      // floor(t 2^64 / q)
};

}  // namespace hecompile
