// Rings have the roots of tests/native/vectors.json, their tables agree with each other, and numbers that make no ring are refused.
#include <cstdint>
#include <cstdio>
#include <stdexcept>

#include "core/ring.h"

namespace {

using hecompile::Ring;
using u64 = std::uint64_t;
__extension__ using u128 = unsigned __int128;

int failures = 0;

void check(bool holds, const char* fact) {
  if (holds) return;
  std::fprintf(stderr, "not true: %s\n", fact);
  failures++;
}

u64 times(u64 a, u64 b, u64 q) { return static_cast<u64>(static_cast<u128>(a) * b % q); }

void check_ring(u64 q, int t_bits, u64 psi) {
  constexpr std::int64_t n = 2048;
  const auto ring = hecompile::ring_of(n, q, t_bits);
  check(ring == hecompile::ring_of(n, q, t_bits), "a ring is made once");
  check(ring->psi == psi, "psi is the smallest root");
  check(ring->delta << t_bits == q - 1, "delta t = q - 1");
  check(ring->roots.size() == n && ring->inverse_roots.size() == n, "there are N roots");
  check(ring->roots[0] == 1 && ring->roots[n / 2] == psi, "roots lie in reversed order");
  check(times(ring->roots[1], ring->roots[1], q) == q - 1, "psi^(N/2) is a root of -1");
  bool inverse = true, centred = true;
  for (std::size_t i = 0; i < n; i++) {
    inverse = inverse && times(ring->roots[i], ring->inverse_roots[i], q) == 1;
    const double value = ring->centred_roots[i];
    centred = centred && 2 * value < static_cast<double>(q) && -2 * value < static_cast<double>(q) &&
              (value < 0 ? value + static_cast<double>(q) : value) == static_cast<double>(ring->roots[i]);
  }
  check(inverse, "each root times its inverse is 1");
  check(centred, "centred roots are the roots");
  check(times(ring->n_inverse, n, q) == 1, "N times its inverse is 1");
}

void check_refused(std::int64_t n, u64 q, int t_bits, const char* fact) {
  try {
    hecompile::ring_of(n, q, t_bits);
  } catch (const std::invalid_argument&) {
    return;
  }
  check(false, fact);
}

}  // namespace

int main() {
  check_ring(281470631411713, 24, 40839590105);
  check_ring(8537505793, 21, 2518402);
  check_ring(1125625028935681, 33, 1694597720223);
  check_refused(2048, 281470631411713 + 2, 24, "a modulus that is not 1 modulo 2N is refused");
  check_refused(2048, 281470631411713 - (u64{1} << 24), 24, "a modulus that is no prime is refused");
  check_refused(2048, 281470631411713, 34, "a plaintext modulus that does not divide q - 1 is refused");
  check_refused(512, 281470631411713, 24, "a small dimension is refused");
  check_refused(3000, 281470631411713, 24, "a dimension that is no power of two is refused");
  check_refused(2048, (u64{1} << 50) + 1, 16, "a modulus of 51 bits is refused");
  return failures == 0 ? 0 : 1;
}
