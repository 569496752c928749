// Eight values modulo q in one register of doubles. Included by avx512.cpp and amx.cpp.
//
// Values are integers below 2^53, which doubles hold exactly. A product x w modulo q is exact too: h = fl(x w), l = x w - h by one
// FMA, c is an integer next to x w / q, and the result is (h - c q) + l. As h, l, c and q are integers and |h - c q| < 2^53, the
// last two steps are exact. c is rounded by adding and subtracting `magic`, 1.5 2^52, which is right for |x w / q| < 2^51. See
// docs/cryptography.md, section 6.
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
  return {_mm512_set1_pd(q), _mm512_set1_pd(ring.q_inverse), _mm512_set1_pd(6755399441055744.0),
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

// x w modulo q, at most q (1/2 + |x w / q| 2^-53) in absolute value, as c is the product x fl(w/q) rounded once.
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

// Words below 2^52 as values, and values in (-q, q) as words below q.
static inline Lanes from_words(Words x) { return _mm512_cvtepi64_pd(x); }
static inline Words to_words(Lanes x, const Modulus& m) {
  const Words v = _mm512_cvtpd_epi64(x);
  return _mm512_min_epu64(v, _mm512_add_epi64(v, m.word));  // of v and v + q: a negative number is large as an unsigned one
}
static inline Words load_words(const std::uint64_t* from) { return _mm512_loadu_si512(from); }
static inline void store_words(std::uint64_t* to, Words x) { _mm512_storeu_si512(to, x); }

// Transposes 8x8 values: rows of eight coefficients of one polynomial become lanes of one coefficient of eight polynomials, and
// back.
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

// Ends the program if a value is above bound q in absolute value, in builds that check the bounds of ntt.inl.
static inline void within([[maybe_unused]] Lanes x, [[maybe_unused]] double bound, [[maybe_unused]] const Modulus& m) {
#ifdef HECOMPILE_CHECK_BOUNDS
  if (_mm512_cmp_pd_mask(_mm512_abs_pd(x), _mm512_mul_pd(m.q, _mm512_set1_pd(bound)), _CMP_NLE_UQ)) __builtin_trap();
#endif
}

// ---- words of `whole` bytes

// The permutations between eight words in a register and their `whole` low bytes, packed into 8 `whole` bytes.
struct Bytes {
  Words spread, gather;
  __mmask64 spread_mask, byte_mask;
};
static inline Bytes bytes_of(int whole) {
  alignas(64) std::uint8_t spread[64] = {}, gather[64] = {};
  std::uint64_t mask = 0;
  for (int i = 0; i < 8; i++)
    for (int k = 0; k < whole; k++) {
      spread[8 * i + k] = static_cast<std::uint8_t>(whole * i + k), gather[whole * i + k] = static_cast<std::uint8_t>(8 * i + k);
      mask |= std::uint64_t{1} << (8 * i + k);
    }
  return {_mm512_load_si512(spread), _mm512_load_si512(gather), mask, (std::uint64_t{1} << (8 * whole)) - 1};
}
// load_packed reads and store_packed writes exactly 8 `whole` bytes. kReadsOver: how many bytes more a kernel may read.
constexpr std::int64_t kReadsOver = 0;
static inline Words load_packed(const std::uint8_t* from, const Bytes& b) {
  return _mm512_maskz_permutexvar_epi8(b.spread_mask, b.spread, _mm512_maskz_loadu_epi8(b.byte_mask, from));
}
static inline void store_packed(std::uint8_t* to, Words x, const Bytes& b, int, bool) {
  _mm512_mask_storeu_epi8(to, b.byte_mask, _mm512_permutexvar_epi8(b.gather, x));
}
// Byte `whole` of each of eight words, as one number of eight bytes; and the words that have only this byte.
static inline std::uint64_t octets(Words x, int whole) {
  const __m512i places = _mm512_add_epi8(_mm512_set1_epi64(0x3830282018100800), _mm512_set1_epi8(static_cast<char>(whole)));
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(_mm512_permutexvar_epi8(places, x))));
}
static inline Words spread_octets(std::uint64_t octets, int whole) {
  const Words bytes = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(static_cast<long long>(octets)));
  return _mm512_sll_epi64(bytes, _mm_cvtsi32_si128(8 * whole));
}
// squeeze puts the low `bits` bits of each of eight bytes side by side, unsqueeze puts them back.
struct Squeeze {
  std::uint64_t mask;
};
static inline Squeeze squeeze_of(int bits) { return {0x0101010101010101 * ((std::uint64_t{1} << bits) - 1)}; }
static inline std::uint64_t squeeze(std::uint64_t octets, Squeeze s) { return _pext_u64(octets, s.mask); }
static inline std::uint64_t unsqueeze(std::uint64_t squeezed, Squeeze s) { return _pdep_u64(squeezed, s.mask); }
static inline Words either(Words a, Words b) { return _mm512_or_si512(a, b); }
static inline Words both(Words a, Words b) { return _mm512_and_si512(a, b); }
static inline Words less(Words a, Words b) { return _mm512_sub_epi64(a, b); }
static inline Words every_word(std::uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
static inline bool any_negative(Words x) { return _mm512_movepi64_mask(x) != 0; }
// word 2^bits, not reduced. For a word of q_bits - bits bits it is below 2^q_bits, and so below 2 q.
static inline Lanes widened(Words x, int bits, const Modulus&) { return from_words(_mm512_sll_epi64(x, _mm_cvtsi32_si128(bits))); }

// ---- messages and errors

struct Encoder {
  Lanes delta, coins;
  Words bits, flip;
};
static inline Encoder encoder(const RingView& ring) {
  return {_mm512_set1_pd(static_cast<double>(ring.delta)), _mm512_set1_pd(21.0), _mm512_set1_epi64((1LL << 42) - 1),
          _mm512_set1_epi64(((1LL << 21) - 1) << 21)};
}
// m delta + e - z as words below q. The error e is the number of ones among bits 0 to 20 of `noise` less that among bits 21 to 41.
// This is the number of ones among all 42 bits after bits 21 to 41 were flipped, less 21. All sums are exact, since |m delta| < q/2
// and |z| <= 9 q, or 3 q in wide rings.
static inline Words encrypted(Lanes z, const std::int32_t* messages, Words noise, const Encoder& e, const Modulus& m) {
  const Words ones = _mm512_popcnt_epi64(_mm512_ternarylogic_epi64(noise, e.flip, e.bits, 0x28));  // (noise ^ flip) & bits
  const Lanes message = _mm512_cvtepi32_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(messages)));
  const Lanes sum = _mm512_fmadd_pd(message, e.delta, _mm512_cvtepi64_pd(ones));
  return to_words(reduced(_mm512_sub_pd(sum, _mm512_add_pd(z, e.coins)), m), m);
}

// ---- floats

using Doubles = __m512d;

static inline Doubles load_floats(const float* from, std::int64_t count) {
  const __mmask8 mask = static_cast<__mmask8>(count >= 8 ? 0xff : (1 << count) - 1);
  return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, from));
}
static inline void store_floats(float* to, Doubles x, float bias, std::int64_t count) {
  const __mmask8 mask = static_cast<__mmask8>(count >= 8 ? 0xff : (1 << count) - 1);
  const __m256 added = _mm256_set1_ps(bias);
  _mm256_mask_storeu_ps(to, mask, _mm256_add_ps(_mm512_cvtpd_ps(x), added));
}
static inline Doubles load_doubles(const double* from) { return _mm512_loadu_pd(from); }
static inline void store_doubles(double* to, Doubles x) { _mm512_storeu_pd(to, x); }
static inline Doubles load_cells(const Cell* from) { return _mm512_loadu_pd(from); }

struct Quantizing {
  Doubles scale, reciprocal, limit, negative_limit, magic;
};
static inline Quantizing quantizing(double scale, double reciprocal, double limit) {
  return {_mm512_set1_pd(scale), _mm512_set1_pd(reciprocal), _mm512_set1_pd(limit), _mm512_set1_pd(-limit),
          _mm512_set1_pd(6755399441055744.0)};
}
// clip(rint(x / scale), -limit, limit); client_kernels.inl proves the division. A quotient that is NaN is clipped to the limit.
static inline Doubles quantized(Doubles x, const Quantizing& q) {
  const Doubles large = _mm512_set1_pd(3.0e38);
  x = _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, x, _CMP_ORD_Q), x);
  const __mmask8 infinite = _mm512_cmp_pd_mask(_mm512_abs_pd(x), _mm512_set1_pd(3.4028234663852886e38), _CMP_GT_OQ);
  x = _mm512_mask_max_pd(x, infinite, _mm512_mask_min_pd(x, infinite, x, large), _mm512_sub_pd(_mm512_setzero_pd(), large));
  Doubles y = _mm512_mul_pd(x, q.reciprocal);
  y = _mm512_fmadd_pd(_mm512_fnmadd_pd(y, q.scale, x), q.reciprocal, y);
  y = _mm512_fmadd_pd(_mm512_fnmadd_pd(y, q.scale, x), q.reciprocal, y);
  y = _mm512_max_pd(_mm512_min_pd(y, q.limit), q.negative_limit);
  return _mm512_sub_pd(_mm512_add_pd(y, q.magic), q.magic);
}
static inline void store_ints(std::int32_t* to, Doubles x, std::int64_t count) {
  const __mmask8 mask = static_cast<__mmask8>(count >= 8 ? 0xff : (1 << count) - 1);
  _mm256_mask_storeu_epi32(to, mask, _mm512_cvtpd_epi32(x));
}
static inline void transpose_doubles(Doubles v[8]) { transpose(v); }

// Transposes eight floats, from index `at` on, of each of eight runs: float k of all runs goes to to + k step, for k below `count`.
static inline void interleave8(const float* const rows[8], std::int64_t at, float* to, std::int64_t step, std::int64_t count) {
  __m256 a[8], b[8];
  for (int j = 0; j < 8; j++) a[j] = _mm256_loadu_ps(rows[j] + at);
  for (int j = 0; j < 8; j += 2) b[j] = _mm256_unpacklo_ps(a[j], a[j + 1]), b[j + 1] = _mm256_unpackhi_ps(a[j], a[j + 1]);
  for (int j = 0; j < 8; j += 4) {
    a[j] = _mm256_shuffle_ps(b[j], b[j + 2], 0x44), a[j + 1] = _mm256_shuffle_ps(b[j], b[j + 2], 0xee);
    a[j + 2] = _mm256_shuffle_ps(b[j + 1], b[j + 3], 0x44), a[j + 3] = _mm256_shuffle_ps(b[j + 1], b[j + 3], 0xee);
  }
  for (int j = 0; j < 4; j++) {
    b[j] = _mm256_permute2f128_ps(a[j], a[j + 4], 0x20), b[j + 4] = _mm256_permute2f128_ps(a[j], a[j + 4], 0x31);
  }
  for (std::int64_t k = 0; k < 8 && k < count; k++) _mm256_storeu_ps(to + k * step, b[k]);
}

// The largest absolute value of `count` floats, as the bits of a float, without infinities and NaN; and a number that is not zero
// if there are infinities.
struct Peak {
  std::int32_t finite, infinite;
};
static inline Peak peak_of(const float* from, std::int64_t count) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff), infinity = _mm512_set1_epi32(0x7f800000);
  __m512i finite = _mm512_setzero_si512(), infinite = finite;
  for (std::int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = static_cast<__mmask16>(count - i >= 16 ? 0xffff : (1 << (count - i)) - 1);
    const __m512i x = _mm512_and_si512(_mm512_maskz_loadu_epi32(mask, from + i), magnitude);
    finite = _mm512_mask_max_epi32(finite, _mm512_cmplt_epi32_mask(x, infinity), finite, x);
    infinite = _mm512_or_si512(infinite, _mm512_maskz_mov_epi32(_mm512_cmpeq_epi32_mask(x, infinity), magnitude));
  }
  return {_mm512_reduce_max_epi32(finite), static_cast<std::int32_t>(_mm512_reduce_or_epi32(infinite))};
}

// ---- decoding

struct Decoder {
  Lanes t, half_t, half_q, negative_half_q, one;
};
static inline Decoder decoder(const RingView& ring) {
  const double t = static_cast<double>(std::int64_t{1} << ring.t_bits), half = static_cast<double>(ring.q / 2);
  return {_mm512_set1_pd(t), _mm512_set1_pd(t / 2), _mm512_set1_pd(half), _mm512_set1_pd(-half), _mm512_set1_pd(1.0)};
}
// round(t x / q) modulo t, in [-t/2, t/2), exact for every x. h = t x is exact, and g is an integer next to h / q. So the remainder
// h - g q is an integer below q in absolute value, and exact. Where it is beyond q/2, g is corrected by one. (t x / q is never half
// an odd integer, since q is odd and t a power of two.)
static inline Doubles decoded(Lanes x, const Decoder& d, const Modulus& m) {
  x = reduced(x, m);
  const Lanes h = _mm512_mul_pd(x, d.t);
  Lanes g = _mm512_sub_pd(_mm512_fmadd_pd(h, m.inverse, m.magic), m.magic);
  const Lanes rest = _mm512_fnmadd_pd(g, m.q, h);
  g = _mm512_mask_add_pd(g, _mm512_cmp_pd_mask(rest, d.half_q, _CMP_GT_OQ), g, d.one);
  g = _mm512_mask_sub_pd(g, _mm512_cmp_pd_mask(rest, d.negative_half_q, _CMP_LT_OQ), g, d.one);
  g = _mm512_mask_sub_pd(g, _mm512_cmp_pd_mask(g, d.half_t, _CMP_GE_OQ), g, d.t);
  return _mm512_add_pd(g, _mm512_setzero_pd());  // no negative zero
}
// x scale, clipped to +-3.0e38; NaN stays NaN.
static inline Doubles scaled(Doubles x, Doubles scale) {
  const Doubles large = _mm512_set1_pd(3.0e38), small = _mm512_set1_pd(-3.0e38);
  return _mm512_min_pd(large, _mm512_max_pd(small, _mm512_mul_pd(x, scale)));
}
static inline Doubles every_double(double x) { return _mm512_set1_pd(x); }

// Eight coefficients of a secret, floor(3 r / 2^64) - 1, from eight words r of 64 random bits. With r = u 2^32 + v, floor(3 r /
// 2^64) is floor((3 u + floor(3 v / 2^32)) / 2^32).
static inline Lanes ternary(const std::uint8_t* random, const Modulus&) {
  const Words r = _mm512_loadu_si512(random), three = _mm512_set1_epi64(3);
  const Words low = _mm512_srli_epi64(_mm512_mul_epu32(r, three), 32), high = _mm512_mul_epu32(_mm512_srli_epi64(r, 32), three);
  return _mm512_cvtepi64_pd(_mm512_sub_epi64(_mm512_srli_epi64(_mm512_add_epi64(low, high), 32), _mm512_set1_epi64(1)));
}

}  // namespace hecompile::avx512
