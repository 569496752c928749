// What inner loops read of a ring: plain numbers and pointers, so that their object files hold no code of the standard library.
#pragma once
#include <cstdint>

namespace hecompile {

// Eight bytes that hold one value modulo q while a kernel works: a double in the vector kernels, a word below q in the portable
// one.
using Cell = std::uint64_t;

// The powers of psi (twiddles) in the order in which the transform reads them, and their quotients by q. All are of (N).
struct TwiddleView {
  const double* value;            // centred, in (-q/2, q/2)
  const double* quotient;         // value / q, rounded
  const std::uint64_t* word;      // the same value, as a word below q
  const std::uint64_t* fraction;  // floor(word 2^64 / q)
};

// One ring, see core/ring.h.
struct RingView {
  std::int64_t n;
  int levels;  // n = 2^levels
  std::uint64_t q;
  double q_inverse;  // 1 / q, rounded
  int q_bits, t_bits;
  std::uint64_t delta;                           // (q - 1) / t
  TwiddleView forward, backward;                 // powers of psi, and their inverses
  std::uint64_t n_inverse, n_inverse_fraction;   // 1 / N modulo q, and floor(it 2^64 / q)
  double centred_n_inverse, n_inverse_quotient;  // the same in (-q/2, q/2), and that over q
  std::uint64_t one_fraction;                    // floor(2^64 / q)
  std::uint64_t barrett;                         // floor(4^q_bits / q)
  std::uint64_t t_fraction;                      // floor(t 2^64 / q)
};

}  // namespace hecompile
