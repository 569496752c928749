// Eight values modulo q in two registers of doubles. The functions and their arithmetic are those of ops_avx512.h, which describes
// them. Included by avx2.cpp only.
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
  return {_mm256_set1_pd(q), _mm256_set1_pd(ring.q_inverse), _mm256_set1_pd(6755399441055744.0)};
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

// Converts between integers of up to 51 bits and doubles: the low 52 bits of a double in [2^52, 2^53) are its distance from 2^52.
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
  for (const __m256d half : halves) {
    const __m256d beyond = _mm256_or_pd(_mm256_cmp_pd(half, most, _CMP_NLE_UQ), _mm256_cmp_pd(half, least, _CMP_NGE_UQ));
    if (_mm256_movemask_pd(beyond)) __builtin_trap();
  }
#endif
}

// ---- words of `whole` bytes: two words in each half of a register

struct Bytes {
  __m256i spread, gather;
  int whole;
};
static inline Bytes bytes_of(int whole) {
  alignas(32) std::uint8_t spread[32], gather[32];
  for (int i = 0; i < 32; i++) spread[i] = gather[i] = 0x80;  // zero
  for (int half = 0; half < 32; half += 16)
    for (int i = 0; i < 2; i++)
      for (int k = 0; k < whole; k++) {
        spread[half + 8 * i + k] = static_cast<std::uint8_t>(whole * i + k);
        gather[half + whole * i + k] = static_cast<std::uint8_t>(8 * i + k);
      }
  return {_mm256_load_si256(reinterpret_cast<const __m256i*>(spread)), _mm256_load_si256(reinterpret_cast<const __m256i*>(gather)),
          whole};
}
constexpr std::int64_t kReadsOver = 16;
static inline __m128i load_half(const std::uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
static inline Words load_packed(const std::uint8_t* from, const Bytes& b) {
  const std::int64_t pair = 2 * b.whole;
  return {_mm256_shuffle_epi8(_mm256_set_m128i(load_half(from + pair), load_half(from)), b.spread),
          _mm256_shuffle_epi8(_mm256_set_m128i(load_half(from + 3 * pair), load_half(from + 2 * pair)), b.spread)};
}
// Writes 8 `whole` bytes. Where `over`, up to 16 bytes behind them may be overwritten.
static inline void store_packed(std::uint8_t* to, Words x, const Bytes& b, int whole, bool over) {
  alignas(32) std::uint8_t room[80];
  std::uint8_t* at = over ? to : room;
  const __m256i low = _mm256_shuffle_epi8(x.low, b.gather), high = _mm256_shuffle_epi8(x.high, b.gather);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm256_castsi256_si128(low));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at + 2 * whole), _mm256_extracti128_si256(low, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at + 4 * whole), _mm256_castsi256_si128(high));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at + 6 * whole), _mm256_extracti128_si256(high, 1));
  if (!over) __builtin_memcpy(to, room, static_cast<unsigned long>(8 * whole));
}
static inline std::uint64_t octets(Words x, int whole) {
  alignas(32) std::uint64_t words[8];
  store_words(words, x);
  std::uint64_t result = 0;
  for (int i = 0; i < 8; i++) result |= (words[i] >> (8 * whole) & 0xff) << (8 * i);
  return result;
}
static inline Words spread_octets(std::uint64_t octets, int whole) {
  const __m128i bytes = _mm_cvtsi64_si128(static_cast<long long>(octets)), by = _mm_cvtsi32_si128(8 * whole);
  return {_mm256_sll_epi64(_mm256_cvtepu8_epi64(bytes), by), _mm256_sll_epi64(_mm256_cvtepu8_epi64(_mm_srli_si128(bytes, 4)), by)};
}
// squeeze puts the low `bits` bits of each of eight bytes side by side, unsqueeze puts them back.
struct Squeeze {
  std::uint64_t mask;
};
static inline Squeeze squeeze_of(int bits) { return {0x0101010101010101 * ((std::uint64_t{1} << bits) - 1)}; }
static inline std::uint64_t squeeze(std::uint64_t octets, Squeeze s) { return _pext_u64(octets, s.mask); }
static inline std::uint64_t unsqueeze(std::uint64_t squeezed, Squeeze s) { return _pdep_u64(squeezed, s.mask); }
static inline Words either(Words a, Words b) { return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)}; }
static inline Words both(Words a, Words b) { return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)}; }
static inline Words less(Words a, Words b) { return {_mm256_sub_epi64(a.low, b.low), _mm256_sub_epi64(a.high, b.high)}; }
static inline Words every_word(std::uint64_t x) {
  const __m256i word = _mm256_set1_epi64x(static_cast<long long>(x));
  return {word, word};
}
static inline bool any_negative(Words x) { return _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_or_si256(x.low, x.high))) != 0; }
static inline Lanes widened(Words x, int bits, const Modulus&) {
  const __m128i by = _mm_cvtsi32_si128(bits);
  return from_words({_mm256_sll_epi64(x.low, by), _mm256_sll_epi64(x.high, by)});
}

// ---- messages and errors

struct Encoder {
  __m256d delta, coins;
  __m256i bits, flip;
};
static inline Encoder encoder(const RingView& ring) {
  return {_mm256_set1_pd(static_cast<double>(ring.delta)), _mm256_set1_pd(21.0), _mm256_set1_epi64x((1LL << 42) - 1),
          _mm256_set1_epi64x(((1LL << 21) - 1) << 21)};
}
// The number of ones in each word, by shifts and masks.
static inline __m256i ones_of(__m256i x) {
  const __m256i one = _mm256_set1_epi8(0x55), two = _mm256_set1_epi8(0x33), four = _mm256_set1_epi8(0x0f);
  x = _mm256_sub_epi8(x, _mm256_and_si256(_mm256_srli_epi64(x, 1), one));
  x = _mm256_add_epi8(_mm256_and_si256(x, two), _mm256_and_si256(_mm256_srli_epi64(x, 2), two));
  x = _mm256_and_si256(_mm256_add_epi8(x, _mm256_srli_epi64(x, 4)), four);
  return _mm256_sad_epu8(x, _mm256_setzero_si256());
}
static inline __m256i encrypted(__m256d z, const std::int32_t* messages, __m256i noise, const Encoder& e, const Modulus& m) {
  const __m256i ones = ones_of(_mm256_and_si256(_mm256_xor_si256(noise, e.flip), e.bits));
  const __m256d message = _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(messages)));
  const __m256d sum = _mm256_fmadd_pd(message, e.delta, from_words(ones));
  return to_words(reduced(_mm256_sub_pd(sum, _mm256_add_pd(z, e.coins)), m), m);
}
static inline Words encrypted(Lanes z, const std::int32_t* messages, Words noise, const Encoder& e, const Modulus& m) {
  return {encrypted(z.low, messages, noise.low, e, m), encrypted(z.high, messages + 4, noise.high, e, m)};
}

// ---- floats

using Doubles = Lanes;

static inline __m256i first_of(std::int64_t count) {
  const int most = static_cast<int>(count < 8 ? count : 8);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(most), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline Doubles load_floats(const float* from, std::int64_t count) {
  const __m256 x = count >= 8 ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, first_of(count));
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
static inline void store_floats(float* to, Doubles x, float bias, std::int64_t count) {
  const __m256 added = _mm256_set1_ps(bias);
  const __m256 result = _mm256_add_ps(_mm256_set_m128(_mm256_cvtpd_ps(x.high), _mm256_cvtpd_ps(x.low)), added);
  if (count >= 8) _mm256_storeu_ps(to, result);
  else _mm256_maskstore_ps(to, first_of(count), result);
}
static inline Doubles load_doubles(const double* from) { return {_mm256_loadu_pd(from), _mm256_loadu_pd(from + 4)}; }
static inline void store_doubles(double* to, Doubles x) { _mm256_storeu_pd(to, x.low), _mm256_storeu_pd(to + 4, x.high); }
static inline Doubles load_cells(const Cell* from) { return load_doubles(reinterpret_cast<const double*>(from)); }

struct Quantizing {
  __m256d scale, reciprocal, limit, negative_limit, magic;
};
static inline Quantizing quantizing(double scale, double reciprocal, double limit) {
  return {_mm256_set1_pd(scale), _mm256_set1_pd(reciprocal), _mm256_set1_pd(limit), _mm256_set1_pd(-limit),
          _mm256_set1_pd(6755399441055744.0)};
}
static inline __m256d quantized(__m256d x, const Quantizing& q) {
  const __m256d sign = _mm256_set1_pd(-0.0);
  x = _mm256_and_pd(x, _mm256_cmp_pd(x, x, _CMP_ORD_Q));
  const __m256d infinite = _mm256_cmp_pd(_mm256_andnot_pd(sign, x), _mm256_set1_pd(3.4028234663852886e38), _CMP_GT_OQ);
  x = _mm256_blendv_pd(x, _mm256_or_pd(_mm256_and_pd(x, sign), _mm256_set1_pd(3.0e38)), infinite);
  __m256d y = _mm256_mul_pd(x, q.reciprocal);
  y = _mm256_fmadd_pd(_mm256_fnmadd_pd(y, q.scale, x), q.reciprocal, y);
  y = _mm256_fmadd_pd(_mm256_fnmadd_pd(y, q.scale, x), q.reciprocal, y);
  y = _mm256_max_pd(_mm256_min_pd(y, q.limit), q.negative_limit);
  return _mm256_sub_pd(_mm256_add_pd(y, q.magic), q.magic);
}
static inline Doubles quantized(Doubles x, const Quantizing& q) { return {quantized(x.low, q), quantized(x.high, q)}; }
static inline void store_ints(std::int32_t* to, Doubles x, std::int64_t count) {
  const __m256i result = _mm256_set_m128i(_mm256_cvtpd_epi32(x.high), _mm256_cvtpd_epi32(x.low));
  if (count >= 8) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), result);
  else _mm256_maskstore_epi32(to, first_of(count), result);
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

struct Peak {
  std::int32_t finite, infinite;
};
static inline Peak peak_of(const float* from, std::int64_t count) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff), infinity = _mm256_set1_epi32(0x7f800000);
  __m256i finite = _mm256_setzero_si256(), infinite = finite;
  for (std::int64_t i = 0; i < count; i += 8) {
    const __m256 loaded = count - i >= 8 ? _mm256_loadu_ps(from + i) : _mm256_maskload_ps(from + i, first_of(count - i));
    const __m256i x = _mm256_and_si256(_mm256_castps_si256(loaded), magnitude);
    finite = _mm256_max_epi32(finite, _mm256_and_si256(x, _mm256_cmpgt_epi32(infinity, x)));
    infinite = _mm256_or_si256(infinite, _mm256_cmpeq_epi32(infinity, x));
  }
  alignas(32) std::int32_t most[8], seen[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(most), finite), _mm256_store_si256(reinterpret_cast<__m256i*>(seen), infinite);
  Peak peak{0, 0};
  for (int i = 0; i < 8; i++) {
    const std::int32_t gap = most[i] - peak.finite;  // cannot overflow: both are from 0 to 2^31 - 1
    peak.finite += gap & ~(gap >> 31), peak.infinite |= seen[i];
  }
  return peak;
}

// ---- decoding

struct Decoder {
  __m256d t, half_t, half_q, negative_half_q, one;
};
static inline Decoder decoder(const RingView& ring) {
  const double t = static_cast<double>(std::int64_t{1} << ring.t_bits), half = static_cast<double>(ring.q / 2);
  return {_mm256_set1_pd(t), _mm256_set1_pd(t / 2), _mm256_set1_pd(half), _mm256_set1_pd(-half), _mm256_set1_pd(1.0)};
}
static inline __m256d decoded(__m256d x, const Decoder& d, const Modulus& m) {
  x = reduced(x, m);
  const __m256d h = _mm256_mul_pd(x, d.t);
  __m256d g = _mm256_sub_pd(_mm256_fmadd_pd(h, m.inverse, m.magic), m.magic);
  const __m256d rest = _mm256_fnmadd_pd(g, m.q, h);
  g = _mm256_add_pd(g, _mm256_and_pd(d.one, _mm256_cmp_pd(rest, d.half_q, _CMP_GT_OQ)));
  g = _mm256_sub_pd(g, _mm256_and_pd(d.one, _mm256_cmp_pd(rest, d.negative_half_q, _CMP_LT_OQ)));
  g = _mm256_sub_pd(g, _mm256_and_pd(d.t, _mm256_cmp_pd(g, d.half_t, _CMP_GE_OQ)));
  return _mm256_add_pd(g, _mm256_setzero_pd());
}
static inline Doubles decoded(Lanes x, const Decoder& d, const Modulus& m) { return {decoded(x.low, d, m), decoded(x.high, d, m)}; }
static inline __m256d scaled(__m256d x, __m256d scale) {
  const __m256d large = _mm256_set1_pd(3.0e38), small = _mm256_set1_pd(-3.0e38);
  return _mm256_min_pd(large, _mm256_max_pd(small, _mm256_mul_pd(x, scale)));
}
static inline Doubles scaled(Doubles x, Doubles scale) { return {scaled(x.low, scale.low), scaled(x.high, scale.high)}; }
static inline Doubles every_double(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }

static inline __m256d ternary(__m256i r) {
  const __m256i three = _mm256_set1_epi64x(3);
  const __m256i low = _mm256_srli_epi64(_mm256_mul_epu32(r, three), 32), high = _mm256_mul_epu32(_mm256_srli_epi64(r, 32), three);
  return _mm256_sub_pd(from_words(_mm256_srli_epi64(_mm256_add_epi64(low, high), 32)), _mm256_set1_pd(1.0));
}
static inline Lanes ternary(const std::uint8_t* random, const Modulus&) {
  const __m256i* at = reinterpret_cast<const __m256i*>(random);
  return {ternary(_mm256_loadu_si256(at)), ternary(_mm256_loadu_si256(at + 1))};
}

}  // namespace hecompile::avx2
