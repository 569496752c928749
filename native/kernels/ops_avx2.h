// Eight values modulo q in two registers of doubles: the same arithmetic as ops_avx512.h. Included by avx2.cpp only.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "kernels/ring_view.h"

namespace hecompile::avx2 {

struct Lanes {
  __m256d low, high;
};
struct Words {
  __m256i low, high;
};

struct Modulus {
  __m256d q, inverse, magic;
};
struct Factor {
  __m256d value, quotient;
};

static inline Modulus modulus(const RingView& ring) {
  const double q = static_cast<double>(ring.q);
  return {_mm256_set1_pd(q), _mm256_set1_pd(1.0 / q), _mm256_set1_pd(6755399441055744.0)};
}
static inline Factor factor(const TwiddleView& table, std::int64_t i) {
  return {_mm256_set1_pd(table.value[i]), _mm256_set1_pd(table.quotient[i])};
}
static inline Factor n_inverse(const RingView& ring) {
  return {_mm256_set1_pd(ring.centred_n_inverse), _mm256_set1_pd(ring.n_inverse_quotient)};
}

static inline Lanes load(const Cell* from) {
  const double* at = reinterpret_cast<const double*>(from);
  return {_mm256_load_pd(at), _mm256_load_pd(at + 4)};
}
static inline void store(Cell* to, Lanes x) {
  double* at = reinterpret_cast<double*>(to);
  _mm256_store_pd(at, x.low), _mm256_store_pd(at + 4, x.high);
}
static inline Lanes every(const Cell* one) {
  const __m256d value = _mm256_castsi256_pd(_mm256_set1_epi64x(static_cast<long long>(*one)));
  return {value, value};
}

static inline Lanes add(Lanes a, Lanes b, const Modulus&) { return {_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)}; }
static inline Lanes sub(Lanes a, Lanes b, const Modulus&) { return {_mm256_sub_pd(a.low, b.low), _mm256_sub_pd(a.high, b.high)}; }

static inline __m256d times(__m256d x, Factor w, const Modulus& m) {
  const __m256d h = _mm256_mul_pd(x, w.value), l = _mm256_fmsub_pd(x, w.value, h);
  const __m256d c = _mm256_sub_pd(_mm256_fmadd_pd(x, w.quotient, m.magic), m.magic);
  return _mm256_add_pd(_mm256_fnmadd_pd(c, m.q, h), l);
}
static inline __m256d product(__m256d a, __m256d b, const Modulus& m) {
  const __m256d h = _mm256_mul_pd(a, b), l = _mm256_fmsub_pd(a, b, h);
  const __m256d c = _mm256_sub_pd(_mm256_fmadd_pd(h, m.inverse, m.magic), m.magic);
  return _mm256_add_pd(_mm256_fnmadd_pd(c, m.q, h), l);
}
static inline __m256d reduced(__m256d x, const Modulus& m) {
  return _mm256_fnmadd_pd(_mm256_sub_pd(_mm256_fmadd_pd(x, m.inverse, m.magic), m.magic), m.q, x);
}
static inline Lanes times(Lanes x, Factor w, const Modulus& m) { return {times(x.low, w, m), times(x.high, w, m)}; }
static inline Lanes product(Lanes a, Lanes b, const Modulus& m) { return {product(a.low, b.low, m), product(a.high, b.high, m)}; }
static inline Lanes reduced(Lanes x, const Modulus& m) { return {reduced(x.low, m), reduced(x.high, m)}; }

// Integers of up to 51 bits and doubles: in [2^52, 2^53) the bits of a double are its integer.
static inline __m256d from_words(__m256i x) {
  const __m256d two52 = _mm256_set1_pd(4503599627370496.0);
  return _mm256_sub_pd(_mm256_or_pd(_mm256_castsi256_pd(x), two52), two52);
}
static inline __m256i to_words(__m256d x, const Modulus& m) {
  const __m256d two52 = _mm256_set1_pd(4503599627370496.0);
  const __m256d positive = _mm256_add_pd(x, _mm256_and_pd(m.q, _mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_LT_OQ)));
  return _mm256_castpd_si256(_mm256_xor_pd(_mm256_add_pd(positive, two52), two52));
}
static inline Lanes from_words(Words x) { return {from_words(x.low), from_words(x.high)}; }
static inline Words to_words(Lanes x, const Modulus& m) { return {to_words(x.low, m), to_words(x.high, m)}; }
static inline Words load_words(const std::uint64_t* from) {
  const __m256i* at = reinterpret_cast<const __m256i*>(from);
  return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}
static inline void store_words(std::uint64_t* to, Words x) {
  __m256i* at = reinterpret_cast<__m256i*>(to);
  _mm256_storeu_si256(at, x.low), _mm256_storeu_si256(at + 1, x.high);
}

static inline void transpose4(__m256d& a, __m256d& b, __m256d& c, __m256d& d) {
  const __m256d e = _mm256_unpacklo_pd(a, b), f = _mm256_unpackhi_pd(a, b);
  const __m256d g = _mm256_unpacklo_pd(c, d), h = _mm256_unpackhi_pd(c, d);
  a = _mm256_permute2f128_pd(e, g, 0x20), b = _mm256_permute2f128_pd(f, h, 0x20);
  c = _mm256_permute2f128_pd(e, g, 0x31), d = _mm256_permute2f128_pd(f, h, 0x31);
}
static inline void transpose(Lanes v[8]) {
  transpose4(v[0].low, v[1].low, v[2].low, v[3].low);
  transpose4(v[4].high, v[5].high, v[6].high, v[7].high);
  transpose4(v[0].high, v[1].high, v[2].high, v[3].high);
  transpose4(v[4].low, v[5].low, v[6].low, v[7].low);
  for (int i = 0; i < 4; i++) {
    const __m256d other = v[i].high;
    v[i].high = v[i + 4].low, v[i + 4].low = other;
  }
}

static inline void within([[maybe_unused]] Lanes x, [[maybe_unused]] double bound, [[maybe_unused]] const Modulus& m) {
#ifdef HECOMPILE_CHECK_BOUNDS
  const __m256d most = _mm256_mul_pd(m.q, _mm256_set1_pd(bound)), least = _mm256_sub_pd(_mm256_setzero_pd(), most);
  const __m256d halves[] = {x.low, x.high};
  for (const __m256d each : halves) {
    const __m256d beyond = _mm256_or_pd(_mm256_cmp_pd(each, most, _CMP_NLE_UQ), _mm256_cmp_pd(each, least, _CMP_NGE_UQ));
    if (_mm256_movemask_pd(beyond)) __builtin_trap();
  }
#endif
}

}  // namespace hecompile::avx2
