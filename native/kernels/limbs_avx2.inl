// Products of limbs by weights, two uploads at a time. Limbs are signed digits of 16 bits, in [-2^15, 2^15), and weights are
// widened to 16 bits. Included into the namespace of an instruction set, behind product_kernels.h and immintrin.h.

namespace limbs {

constexpr std::int64_t kGroup = 2, kLimbBytes = 2, kLimit = 0, kRows = 6, kDepth = 1, kMostBlocks = 16;
// An int32 holds the sum of 256 pairs of digits (at most 2^15) times weights (at most 127).
constexpr std::int64_t kSteps = 256, kSafeSteps = kSteps;
constexpr std::int64_t kPart = 16;  // coefficients whose sums stay in registers

// How many digits words need: q/2 is at most the largest number, all of whose digits are 32767.
static std::int64_t count_limbs(std::uint64_t q) {
  std::int64_t digits = 1;
  for (std::uint64_t most = 32767; most < q / 2; most = (most << 16) + 32767) digits++;
  return digits;
}

// The low or the high 32 bits of eight words of 64, four in each register.
static inline __m256i low_halves(__m256i a, __m256i b) {
  const __m256 both = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88);
  return _mm256_permute4x64_epi64(_mm256_castps_si256(both), 0xD8);
}
static inline __m256i high_halves(__m256i a, __m256i b) {
  const __m256 both = _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0xDD);
  return _mm256_permute4x64_epi64(_mm256_castps_si256(both), 0xD8);
}

// The signed digits of x are the unsigned digits of x + 0x8000'8000..., less 0x8000 each, which is the same as to flip their
// highest bits.
static void split(const Split& s) {
  const std::uint64_t flip = 0x8000'8000'8000'8000, bias = s.limbs == 4 ? flip : flip & ((std::uint64_t{1} << (16 * s.limbs)) - 1);
  const __m256i q = _mm256_set1_epi64x(static_cast<long long>(s.q)), half = _mm256_set1_epi64x(static_cast<long long>(s.q / 2));
  const __m256i biases = _mm256_set1_epi64x(static_cast<long long>(bias)), flips = _mm256_set1_epi64x(static_cast<long long>(flip));
  std::int64_t c = 0;
  for (; c + 8 <= s.count; c += 8) {
    __m256i low[kGroup], high[kGroup];
    for (std::int64_t u = 0; u < kGroup; u++) {
      const std::uint64_t* from = s.words + static_cast<std::size_t>(u) * s.stride + c;
      __m256i words[2];
      for (int i = 0; i < 2; i++) {
        __m256i word = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 4 * i));
        word = _mm256_sub_epi64(word, _mm256_and_si256(_mm256_cmpgt_epi64(word, half), q));
        if (s.negate) word = _mm256_sub_epi64(_mm256_setzero_si256(), word);
        words[i] = _mm256_xor_si256(_mm256_add_epi64(word, biases), flips);
      }
      low[u] = low_halves(words[0], words[1]), high[u] = high_halves(words[0], words[1]);
    }
    std::uint8_t* out = s.planes + 4 * c;
    const auto store = [&](std::int64_t l, __m256i digits) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + static_cast<std::size_t>(l) * s.plane_bytes), digits);
    };
    store(0, _mm256_blend_epi16(low[0], _mm256_slli_epi32(low[1], 16), 0xAA));
    if (s.limbs > 1) store(1, _mm256_blend_epi16(_mm256_srli_epi32(low[0], 16), low[1], 0xAA));
    if (s.limbs > 2) store(2, _mm256_blend_epi16(high[0], _mm256_slli_epi32(high[1], 16), 0xAA));
    if (s.limbs > 3) store(3, _mm256_blend_epi16(_mm256_srli_epi32(high[0], 16), high[1], 0xAA));
  }
  for (; c < s.count; c++)
    for (std::int64_t u = 0; u < kGroup; u++) {
      std::uint64_t word = s.words[static_cast<std::size_t>(u) * s.stride + static_cast<std::size_t>(c)];
      if (word > s.q / 2) word -= s.q;  // wraps around: a negative number in two's complement
      if (s.negate) word = 0 - word;
      word = (word + bias) ^ flip;
      for (std::int64_t l = 0; l < s.limbs; l++, word >>= 16)
        __builtin_memcpy(s.planes + static_cast<std::size_t>(l) * s.plane_bytes + static_cast<std::size_t>(4 * c + 2 * u), &word,
                         2);
    }
}

// Sums one digit over at most kSteps groups times terms, for 6 answers at 16 coefficients, in 12 registers. sums: (6, 16).
__attribute__((noinline)) static void sum_digits(const std::uint8_t* x, std::size_t pitch, const std::int64_t* offsets,
                                                 std::int64_t groups, std::int64_t terms, const std::int16_t* w,
                                                 std::int32_t* sums) {
  __m256i sum[kRows][2];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) sum[r][v] = _mm256_setzero_si256();
  for (std::int64_t g = 0; g < groups; g++, x += pitch)
    for (std::int64_t t = 0; t < terms; t++, w += kRows * kGroup) {
      const std::uint8_t* p = x + offsets[t];
      const __m256i x0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
                    x1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32));
#pragma GCC unroll 6
      for (int r = 0; r < kRows; r++) {
        int two;
        __builtin_memcpy(&two, w + kGroup * r, 4);
        const __m256i weight = _mm256_set1_epi32(two);
        sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(x0, weight));
        sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(x1, weight));
      }
    }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + kPart * r + 8 * v), sum[r][v]);
}

// Adds sums (6, 16) to 16 neighbouring columns of the sums of all coefficients, (6, 64) doubles.
static void widen(const std::int32_t* sums, double* wide) {
  for (std::int64_t r = 0; r < kRows; r++)
    for (std::int64_t c = 0; c < kPart; c += 4) {
      const __m256d more = _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(sums + kPart * r + c)));
      double* to = wide + kStrip * r + c;
      _mm256_storeu_pd(to, _mm256_add_pd(_mm256_loadu_pd(to), more));
    }
}

// Makes words from the sums of digits, which are below 2^44: the sum of digit l counts 2^(16 l) times. Modulo q, h = total 2^16
// becomes h - round(h / q) q, which one FMA computes exactly.
static void join_digits(const double (*wide)[kRows * kStrip], std::int64_t digits, std::uint64_t q, std::uint64_t* words) {
  const __m256d modulus = _mm256_set1_pd(static_cast<double>(q)), inverse = _mm256_set1_pd(1.0 / static_cast<double>(q));
  const __m256d two16 = _mm256_set1_pd(65536.0), two52 = _mm256_set1_pd(4503599627370496.0);
  for (std::int64_t c = 0; c < kRows * kStrip; c += 4) {
    __m256d total = _mm256_load_pd(wide[digits - 1] + c);
    for (std::int64_t l = digits - 2; l >= 0; l--) {
      const __m256d h = _mm256_mul_pd(total, two16);  // exact: a power of two
      const __m256d k = _mm256_round_pd(_mm256_mul_pd(h, inverse), 0x08);
      total = _mm256_add_pd(_mm256_fnmadd_pd(k, modulus, h), _mm256_load_pd(wide[l] + c));
    }
    total = _mm256_fnmadd_pd(_mm256_round_pd(_mm256_mul_pd(total, inverse), 0x08), modulus, total);
    total = _mm256_add_pd(total, _mm256_and_pd(_mm256_cmp_pd(total, _mm256_setzero_pd(), _CMP_LT_OQ), modulus));
    const __m256i word = _mm256_castpd_si256(_mm256_xor_pd(_mm256_add_pd(total, two52), two52));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + c), word);
  }
}

static void multiply_one(const LimbProduct& p) {
  alignas(64) double wide[4][kRows * kStrip] = {};
  alignas(64) std::int16_t weights[kSteps * kRows * kGroup];
  alignas(64) std::int32_t sums[kRows * kPart];
  const std::int64_t terms = p.terms < kSteps ? p.terms : kSteps, groups = kSteps / terms;
  for (std::int64_t g = 0; g < p.groups; g += groups)
    for (std::int64_t t = 0; t < p.terms; t += terms) {
      const std::int64_t some_groups = p.groups - g < groups ? p.groups - g : groups;
      const std::int64_t some_terms = p.terms - t < terms ? p.terms - t : terms;
      std::int16_t* to = weights;
      for (std::int64_t group = g; group < g + some_groups; group++) {
        const std::int8_t* from = p.weights + (group * p.terms + t) * kRows * kGroup;
        for (std::int64_t i = 0; i < some_terms * kRows * kGroup; i++) *to++ = from[i];
      }
      for (std::int64_t l = 0; l < p.limbs; l++)
        for (std::int64_t c = 0; c < kStrip; c += kPart) {
          const std::uint8_t* x = p.planes + static_cast<std::size_t>(l) * p.plane_bytes + static_cast<std::size_t>(g) * p.pitch +
                                  static_cast<std::size_t>(4 * c);
          sum_digits(x, p.pitch, p.offsets + t, some_groups, some_terms, weights, sums);
          widen(sums, wide[l] + c);
        }
    }
  join_digits(wide, p.limbs, p.q, p.words);
}

static void multiply(const LimbProduct& p) {
  LimbProduct block_product = p;
  for (std::int64_t block = 0; block < p.blocks; block++, block_product.weights += p.next, block_product.words += kRows * kStrip)
    multiply_one(block_product);
}

}  // namespace limbs

// Eight int8 weights as lanes.
static inline Lanes from_bytes(const std::int8_t* weights, std::uint64_t) {
  long long eight;
  __builtin_memcpy(&eight, weights, 8);
  const __m256i words = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(eight));
  return {_mm256_cvtepi32_pd(_mm256_castsi256_si128(words)), _mm256_cvtepi32_pd(_mm256_extracti128_si256(words, 1))};
}
