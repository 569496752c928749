// Eight values modulo q as words below q, with 64-bit integers, for any processor. The functions are those of ops_avx512.h, which
// describes them. Included by portable.cpp only.
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

// x, less q if x >= q, for x below 2^63. There is no branch: the sign of the difference makes a mask.
static inline u64 below(u64 x, u64 q) {
  const u64 less = x - q;
  return less + (q & (0 - (less >> 63)));
}
// x w modulo q for any x (Shoup's method), with fraction = floor(w 2^64 / q). The quotient is right or too small by one.
static inline u64 times(u64 x, u64 word, u64 fraction, u64 q) {
  const u64 quotient = static_cast<u64>(static_cast<u128>(x) * fraction >> 64);
  return below(x * word - quotient * q, q);
}
// x modulo q for any x: x times one.
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

// ---- words of `whole` bytes

struct Bytes {
  int whole;
};
static inline Bytes bytes_of(int whole) { return {whole}; }
constexpr std::int64_t kReadsOver = 0;
static inline Words load_packed(const std::uint8_t* from, const Bytes& b) {
  Words x;
  for (int i = 0; i < 8; i++) {
    x.v[i] = 0;
    for (int k = 0; k < b.whole; k++) x.v[i] |= static_cast<u64>(from[i * b.whole + k]) << (8 * k);
  }
  return x;
}
static inline void store_packed(std::uint8_t* to, const Words& x, const Bytes&, int whole, bool) {
  for (int i = 0; i < 8; i++)
    for (int k = 0; k < whole; k++) to[i * whole + k] = static_cast<std::uint8_t>(x.v[i] >> (8 * k));
}
static inline u64 octets(const Words& x, int whole) {
  u64 result = 0;
  for (int i = 0; i < 8; i++) result |= (x.v[i] >> (8 * whole) & 0xff) << (8 * i);
  return result;
}
static inline Words spread_octets(u64 octets, int whole) {
  Words x;
  for (int i = 0; i < 8; i++) x.v[i] = (octets >> (8 * i) & 0xff) << (8 * whole);
  return x;
}
// squeeze puts the low `bits` bits of each of eight bytes side by side, unsqueeze puts them back.
struct Squeeze {
  int bits;
};
static inline Squeeze squeeze_of(int bits) { return {bits}; }
static inline u64 squeeze(u64 octets, Squeeze s) {
  u64 result = 0;
  for (int i = 0; i < 8; i++) result |= (octets >> (8 * i) & ((u64{1} << s.bits) - 1)) << (s.bits * i);
  return result;
}
static inline u64 unsqueeze(u64 squeezed, Squeeze s) {
  u64 result = 0;
  for (int i = 0; i < 8; i++) result |= (squeezed >> (s.bits * i) & ((u64{1} << s.bits) - 1)) << (8 * i);
  return result;
}
static inline Words either(Words a, const Words& b) {
  for (int i = 0; i < 8; i++) a.v[i] |= b.v[i];
  return a;
}
static inline Words both(Words a, const Words& b) {
  for (int i = 0; i < 8; i++) a.v[i] &= b.v[i];
  return a;
}
static inline Words less(Words a, const Words& b) {
  for (int i = 0; i < 8; i++) a.v[i] -= b.v[i];
  return a;
}
static inline Words every_word(u64 x) {
  Words all;
  for (int i = 0; i < 8; i++) all.v[i] = x;
  return all;
}
static inline bool any_negative(const Words& x) {
  u64 all = 0;
  for (int i = 0; i < 8; i++) all |= x.v[i];
  return all >> 63 != 0;
}
static inline Lanes widened(Words x, int bits, const Modulus& m) {
  for (int i = 0; i < 8; i++) x.v[i] = below(x.v[i] << bits, m.q);
  return x;
}

// ---- messages and errors

struct Encoder {
  u64 delta;
};
static inline Encoder encoder(const RingView& ring) { return {ring.delta}; }
// The number of ones in a word, by shifts and masks.
static inline u64 ones_of(u64 x) {
  x -= x >> 1 & 0x5555555555555555;
  x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
  return x * 0x0101010101010101 >> 56;
}
static inline Words encrypted(Lanes z, const std::int32_t* messages, const Words& noise, const Encoder& e, const Modulus& m) {
  constexpr u64 kBits = (u64{1} << 42) - 1, kFlip = ((u64{1} << 21) - 1) << 21;
  for (int i = 0; i < 8; i++) {
    const u64 error = ones_of((noise.v[i] ^ kFlip) & kBits) - 21;
    const u64 value = static_cast<u64>(std::int64_t{messages[i]}) * e.delta + error;  // in (-q, q), modulo 2^64
    z.v[i] = below(below(value + m.q, m.q) + m.q - z.v[i], m.q);
  }
  return z;
}

// ---- floats

struct Doubles {
  double v[8];
};

static inline Doubles load_floats(const float* from, std::int64_t count) {
  Doubles x;
  for (int i = 0; i < 8; i++) x.v[i] = i < count ? static_cast<double>(from[i]) : 0.0;
  return x;
}
static inline void store_floats(float* to, const Doubles& x, float bias, std::int64_t count) {
  for (int i = 0; i < 8 && i < count; i++) to[i] = static_cast<float>(x.v[i]) + bias;
}
static inline Doubles load_doubles(const double* from) {
  Doubles x;
  for (int i = 0; i < 8; i++) x.v[i] = from[i];
  return x;
}
static inline void store_doubles(double* to, const Doubles& x) {
  for (int i = 0; i < 8; i++) to[i] = x.v[i];
}
static inline Lanes load_cells(const Cell* from) { return load(from); }

struct Quantizing {
  double scale, limit;
};
static inline Quantizing quantizing(double scale, double, double limit) { return {scale, limit}; }
static inline Doubles quantized(Doubles x, const Quantizing& q) {
  constexpr u64 kSign = u64{1} << 63, kInfinity = u64{0x7ff} << 52;
  for (int i = 0; i < 8; i++) {
    u64 bits = __builtin_bit_cast(u64, x.v[i]);
    const u64 magnitude = bits & ~kSign;
    const u64 number = 0 - ((magnitude - kInfinity - 1) >> 63);  // all ones unless NaN
    const u64 finite = 0 - ((magnitude - kInfinity) >> 63);
    bits = (bits & finite) | (number & ~finite & ((bits & kSign) | __builtin_bit_cast(u64, 3.0e38)));
    double y = __builtin_bit_cast(double, bits) / q.scale;
    y = y < q.limit ? y : q.limit;
    y = y > -q.limit ? y : -q.limit;
    x.v[i] = (y + 6755399441055744.0) - 6755399441055744.0;
  }
  return x;
}
static inline void store_ints(std::int32_t* to, const Doubles& x, std::int64_t count) {
  for (int i = 0; i < 8 && i < count; i++) to[i] = static_cast<std::int32_t>(x.v[i]);
}
static inline void transpose_doubles(Doubles v[8]) {
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < i; j++) {
      const double other = v[i].v[j];
      v[i].v[j] = v[j].v[i], v[j].v[i] = other;
    }
}

static inline void interleave8(const float* const rows[8], std::int64_t at, float* to, std::int64_t step, std::int64_t count) {
  for (std::int64_t k = 0; k < 8 && k < count; k++)
    for (int j = 0; j < 8; j++) to[k * step + j] = rows[j][at + k];
}

struct Peak {
  std::int32_t finite, infinite;
};
static inline Peak peak_of(const float* from, std::int64_t count) {
  Peak peak{0, 0};
  for (std::int64_t i = 0; i < count; i++) {
    const std::int32_t magnitude = static_cast<std::int32_t>(__builtin_bit_cast(std::uint32_t, from[i]) & 0x7fffffff);
    const std::int32_t beyond = magnitude - 0x7f800000, finite = beyond >> 31;  // all ones where finite
    const std::int32_t gap = (magnitude & finite) - peak.finite;
    peak.finite += gap & ~(gap >> 31), peak.infinite |= ~finite & ~((-beyond) >> 31);
  }
  return peak;
}

// ---- decoding

struct Decoder {
  u64 t_fraction;
  int t_bits;
};
static inline Decoder decoder(const RingView& ring) { return {ring.t_fraction, ring.t_bits}; }
// round(t x / q) modulo t, in [-t/2, t/2). With f = floor(2^64 t / q), floor(x f / 2^64) is floor(t x / q) or one less, as x <
// 2^64.
static inline Doubles decoded(const Lanes& x, const Decoder& d, const Modulus& m) {
  Doubles result;
  for (int i = 0; i < 8; i++) {
    u64 g = static_cast<u64>(static_cast<u128>(x.v[i]) * d.t_fraction >> 64);
    u64 rest = (x.v[i] << d.t_bits) - g * m.q;  // below 2 q, the true difference modulo 2^64
    const u64 more = 1 - ((rest - m.q) >> 63);
    g += more, rest -= m.q & (0 - more);
    g += (m.q / 2 - rest) >> 63;  // rest > q/2
    g -= (1 - ((g - (u64{1} << (d.t_bits - 1))) >> 63)) << d.t_bits;
    result.v[i] = static_cast<double>(static_cast<std::int64_t>(g));
  }
  return result;
}
static inline Doubles scaled(Doubles x, const Doubles& scale) {
  for (int i = 0; i < 8; i++) {
    double y = x.v[i] * scale.v[i];
    y = -3.0e38 > y ? -3.0e38 : y;
    x.v[i] = 3.0e38 < y ? 3.0e38 : y;
  }
  return x;
}
static inline Doubles every_double(double x) {
  Doubles all;
  for (int i = 0; i < 8; i++) all.v[i] = x;
  return all;
}

static inline Lanes ternary(const std::uint8_t* random, const Modulus& m) {
  Lanes x;
  for (int i = 0; i < 8; i++) {
    u64 r = 0;
    for (int k = 0; k < 8; k++) r |= static_cast<u64>(random[8 * i + k]) << (8 * k);
    x.v[i] = below(m.q - 1 + static_cast<u64>(static_cast<u128>(r) * 3 >> 64), m.q);
  }
  return x;
}

}  // namespace hecompile::portable
