// Rings Z_q[X] / (X^N + 1) with q prime, q = 1 mod 2N and q = 1 mod t, q below 2^50.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/ring_view.h"

namespace hecompile {

// The numbers and tables of one ring. The powers of psi (twiddles) lie in the order in which the Cooley-Tukey transform reads them:
// entry i is psi^bitreverse(i), and the inverse of that in the inverse tables.
// psi is the smallest primitive 2N-th root of unity modulo q (a frozen part of the wire format).
struct Ring {
  std::int64_t n = 0;       // dimension N, a power of two from 1024 to 32768
  std::uint64_t q = 0;      // the ciphertext modulus
  int q_bits = 0;           // bits of q: 28 to 50
  int t_bits = 0;           // t = 2^t_bits, at most 38
  std::uint64_t delta = 0;  // (q - 1) / t: a message m is encoded as m delta
  std::uint64_t psi = 0;
  std::vector<std::uint64_t> roots, inverse_roots;                    // (N) words below q
  std::vector<double> centred_roots, centred_inverse_roots;           // (N) the same in (-q/2, q/2)
  std::vector<double> root_quotients, inverse_root_quotients;         // (N) centred root / q, rounded to a double
  std::vector<std::uint64_t> root_fractions, inverse_root_fractions;  // (N) floor(root 2^64 / q)
  std::uint64_t n_inverse = 0;                                        // 1 / N modulo q
  double centred_n_inverse = 0;                                       // the same in (-q/2, q/2)

  // The same numbers as plain values and pointers, for the inner loops. Valid as long as the ring.
  RingView view() const;
};

// The ring with these numbers. It is made at the first call with them and kept. Throws std::invalid_argument if q is not prime or
// does not fit n and t_bits.
std::shared_ptr<const Ring> ring_of(std::int64_t n, std::uint64_t q, int t_bits);

}  // namespace hecompile
