// Eight values modulo q in one register of doubles. Included by avx512.cpp only.
//
// Values are integers, held exactly: all of them stay below 2^53. A product x w modulo q is exact: h = fl(x w) and
// l = x w - h (one FMA), c an integer next to x w / q, then (h - c q) + l. h, l, c, q are integers and |h - c q| < 2^53, so both
// last steps are exact. c is rounded by adding and taking away 1.5 2^52, which is right for |x w / q| < 2^51.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "kernels/ring_view.h"

namespace hecompile::avx512 {

using Lanes = __m512d;
using Words = __m512i;

struct Modulus {
  Lanes q, inverse, magic;
  Words word;
};
struct Factor {
  Lanes value, quotient;
};

static inline Modulus modulus(const RingView& ring) {
  const double q = static_cast<double>(ring.q);
  return {_mm512_set1_pd(q), _mm512_set1_pd(1.0 / q), _mm512_set1_pd(6755399441055744.0),
          _mm512_set1_epi64(static_cast<long long>(ring.q))};
}
static inline Factor factor(const TwiddleView& table, std::int64_t i) {
  return {_mm512_set1_pd(table.value[i]), _mm512_set1_pd(table.quotient[i])};
}
static inline Factor n_inverse(const RingView& ring) {
  return {_mm512_set1_pd(ring.centred_n_inverse), _mm512_set1_pd(ring.n_inverse_quotient)};
}

static inline Lanes load(const Cell* from) { return _mm512_load_pd(from); }
static inline void store(Cell* to, Lanes x) { _mm512_store_pd(to, x); }
static inline Lanes every(const Cell* one) {  // eight times the same value
  return _mm512_castsi512_pd(_mm512_set1_epi64(static_cast<long long>(*one)));
}

static inline Lanes add(Lanes a, Lanes b, const Modulus&) { return _mm512_add_pd(a, b); }
static inline Lanes sub(Lanes a, Lanes b, const Modulus&) { return _mm512_sub_pd(a, b); }

// x w modulo q, at most q (1/2 + |x w / q| 2^-53) in absolute value: c is the exact product x fl(w/q), rounded once.
static inline Lanes times(Lanes x, Factor w, const Modulus& m) {
  const Lanes h = _mm512_mul_pd(x, w.value), l = _mm512_fmsub_pd(x, w.value, h);
  const Lanes c = _mm512_sub_pd(_mm512_fmadd_pd(x, w.quotient, m.magic), m.magic);
  return _mm512_add_pd(_mm512_fnmadd_pd(c, m.q, h), l);
}
// a b modulo q, at most q (1/2 + |a b / q| 2^-52).
static inline Lanes product(Lanes a, Lanes b, const Modulus& m) {
  const Lanes h = _mm512_mul_pd(a, b), l = _mm512_fmsub_pd(a, b, h);
  const Lanes c = _mm512_sub_pd(_mm512_fmadd_pd(h, m.inverse, m.magic), m.magic);
  return _mm512_add_pd(_mm512_fnmadd_pd(c, m.q, h), l);
}
// x modulo q, at most q (1/2 + |x / q| 2^-53).
static inline Lanes reduced(Lanes x, const Modulus& m) {
  return _mm512_fnmadd_pd(_mm512_sub_pd(_mm512_fmadd_pd(x, m.inverse, m.magic), m.magic), m.q, x);
}

// Words below q (or below 2^52) as values, and values in (-q, q) as words below q.
static inline Lanes from_words(Words x) { return _mm512_cvtepi64_pd(x); }
static inline Words to_words(Lanes x, const Modulus& m) {
  const Words v = _mm512_cvtpd_epi64(x);
  return _mm512_min_epu64(v, _mm512_add_epi64(v, m.word));  // as unsigned numbers, negative ones are the larger
}
static inline Words load_words(const std::uint64_t* from) { return _mm512_loadu_si512(from); }
static inline void store_words(std::uint64_t* to, Words x) { _mm512_storeu_si512(to, x); }

// Rows become columns: eight values of each of eight polynomials <-> lanes of eight coefficients.
static inline void transpose(Lanes v[8]) {
  const Lanes a0 = _mm512_unpacklo_pd(v[0], v[1]), a1 = _mm512_unpackhi_pd(v[0], v[1]);
  const Lanes a2 = _mm512_unpacklo_pd(v[2], v[3]), a3 = _mm512_unpackhi_pd(v[2], v[3]);
  const Lanes a4 = _mm512_unpacklo_pd(v[4], v[5]), a5 = _mm512_unpackhi_pd(v[4], v[5]);
  const Lanes a6 = _mm512_unpacklo_pd(v[6], v[7]), a7 = _mm512_unpackhi_pd(v[6], v[7]);
  const Lanes b0 = _mm512_shuffle_f64x2(a0, a2, 0x88), b1 = _mm512_shuffle_f64x2(a1, a3, 0x88);
  const Lanes b2 = _mm512_shuffle_f64x2(a0, a2, 0xdd), b3 = _mm512_shuffle_f64x2(a1, a3, 0xdd);
  const Lanes b4 = _mm512_shuffle_f64x2(a4, a6, 0x88), b5 = _mm512_shuffle_f64x2(a5, a7, 0x88);
  const Lanes b6 = _mm512_shuffle_f64x2(a4, a6, 0xdd), b7 = _mm512_shuffle_f64x2(a5, a7, 0xdd);
  v[0] = _mm512_shuffle_f64x2(b0, b4, 0x88), v[1] = _mm512_shuffle_f64x2(b1, b5, 0x88);
  v[2] = _mm512_shuffle_f64x2(b2, b6, 0x88), v[3] = _mm512_shuffle_f64x2(b3, b7, 0x88);
  v[4] = _mm512_shuffle_f64x2(b0, b4, 0xdd), v[5] = _mm512_shuffle_f64x2(b1, b5, 0xdd);
  v[6] = _mm512_shuffle_f64x2(b2, b6, 0xdd), v[7] = _mm512_shuffle_f64x2(b3, b7, 0xdd);
}

// Stops where a value is beyond bound * q, in builds that check the bounds derived in ntt.inl.
static inline void within([[maybe_unused]] Lanes x, [[maybe_unused]] double bound, [[maybe_unused]] const Modulus& m) {
#ifdef HECOMPILE_CHECK_BOUNDS
  if (_mm512_cmp_pd_mask(_mm512_abs_pd(x), _mm512_mul_pd(m.q, _mm512_set1_pd(bound)), _CMP_NLE_UQ)) __builtin_trap();
#endif
}

}  // namespace hecompile::avx512
