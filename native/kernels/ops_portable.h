// Eight values modulo q as words below q: 64-bit integers for any processor. Included by portable.cpp only.
#pragma once
#include <cstdint>

#include "kernels/ring_view.h"

namespace hecompile::portable {

using u64 = std::uint64_t;
__extension__ using u128 = unsigned __int128;

struct Lanes {
  u64 v[8];
};
using Words = Lanes;

struct Modulus {
  u64 q, one_fraction, barrett;
  int bits;
};
struct Factor {
  u64 value, fraction;
};

static inline Modulus modulus(const RingView& ring) { return {ring.q, ring.one_fraction, ring.barrett, ring.q_bits}; }
static inline Factor factor(const TwiddleView& table, std::int64_t i) { return {table.word[i], table.fraction[i]}; }
static inline Factor n_inverse(const RingView& ring) { return {ring.n_inverse, ring.n_inverse_fraction}; }

// x - q where x >= q, for x below 2^63: the sign of the difference chooses, not a branch.
static inline u64 below(u64 x, u64 q) {
  const u64 less = x - q;
  return less + (q & (0 - (less >> 63)));
}
// x w modulo q for any x (Shoup): the quotient by the fraction is right or one too small.
static inline u64 times(u64 x, u64 word, u64 fraction, u64 q) {
  const u64 quotient = static_cast<u64>(static_cast<u128>(x) * fraction >> 64);
  return below(x * word - quotient * q, q);
}
// x modulo q for any x: times one.
static inline u64 reduced(u64 x, const Modulus& m) { return times(x, 1, m.one_fraction, m.q); }
// a b modulo q for a, b below q (Barrett): with k = q_bits and mu = floor(4^k / q), the quotient floor(floor(a b / 2^(k-1)) mu /
// 2^(k+1)) is right or at most two too small. All products stay below 2^102.
static inline u64 product(u64 a, u64 b, const Modulus& m) {
  const u128 whole = static_cast<u128>(a) * b;
  const u64 quotient = static_cast<u64>(static_cast<u128>(static_cast<u64>(whole >> (m.bits - 1))) * m.barrett >> (m.bits + 1));
  return below(below(static_cast<u64>(whole) - quotient * m.q, m.q), m.q);
}

static inline Lanes load(const Cell* from) {
  Lanes x;
  for (int i = 0; i < 8; i++) x.v[i] = from[i];
  return x;
}
static inline void store(Cell* to, Lanes x) {
  for (int i = 0; i < 8; i++) to[i] = x.v[i];
}
static inline Lanes every(const Cell* one) {
  Lanes x;
  for (int i = 0; i < 8; i++) x.v[i] = *one;
  return x;
}
static inline Lanes add(Lanes a, const Lanes& b, const Modulus& m) {
  for (int i = 0; i < 8; i++) a.v[i] = below(a.v[i] + b.v[i], m.q);
  return a;
}
static inline Lanes sub(Lanes a, const Lanes& b, const Modulus& m) {
  for (int i = 0; i < 8; i++) a.v[i] = below(a.v[i] + m.q - b.v[i], m.q);
  return a;
}
static inline Lanes times(Lanes x, Factor w, const Modulus& m) {
  for (int i = 0; i < 8; i++) x.v[i] = times(x.v[i], w.value, w.fraction, m.q);
  return x;
}
static inline Lanes product(Lanes a, const Lanes& b, const Modulus& m) {
  for (int i = 0; i < 8; i++) a.v[i] = product(a.v[i], b.v[i], m);
  return a;
}
static inline Lanes reduced(Lanes x, const Modulus&) { return x; }

static inline Lanes from_words(Words x) { return x; }
static inline Words to_words(Lanes x, const Modulus&) { return x; }
static inline Words load_words(const u64* from) { return load(from); }
static inline void store_words(u64* to, const Words& x) { store(to, x); }

static inline void transpose(Lanes v[8]) {
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < i; j++) {
      const u64 other = v[i].v[j];
      v[i].v[j] = v[j].v[i], v[j].v[i] = other;
    }
}

static inline void within(const Lanes& x, double, const Modulus& m) {
#ifdef HECOMPILE_CHECK_BOUNDS
  for (int i = 0; i < 8; i++)
    if (x.v[i] >= m.q) __builtin_trap();
#else
  (void)x, (void)m;
#endif
}

}  // namespace hecompile::portable
