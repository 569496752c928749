// Products of unsigned 8-bit limbs by int8 weights: cutting words into limbs, and putting sums of limbs together. Included into the
// namespace of an instruction set, behind the file that sums limbs (limbs_avx512.inl, limbs_amx.inl).

namespace limbs {

constexpr std::int64_t kLimbBytes = 1;
constexpr std::int64_t kLimit = 255;         // largest limb
constexpr std::int64_t kSafeSteps = 16'577;  // a step adds four limbs times weights of at most 127: all sums are below 2^31

static std::int64_t count_limbs(std::uint64_t q) { return (64 - __builtin_clzll(q) + 7) / 8; }

// The low or the high 32 bits of sixteen words of 64, eight in each register.
static inline __m512i low_halves(__m512i a, __m512i b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_epi32(a, even, b);
}
static inline __m512i high_halves(__m512i a, __m512i b) {
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return _mm512_permutex2var_epi32(a, odd, b);
}

// w: words of 32 bits of four uploads, at 16 coefficients. Writes byte l of all of them, for l below `bytes`, to out + l
// plane_bytes, as (16 coefficients, 4 uploads).
static inline void store_bytes(const __m512i w[4], std::int64_t bytes, std::uint8_t* out, std::size_t plane_bytes) {
  const __m512i low = _mm512_set1_epi32(0x00FF00FF), half = _mm512_set1_epi32(0xFFFF);
  // 0xCA takes bits of the second operand where those of the first one, the mask, are set, and of the third one elsewhere.
  const __m512i even01 = _mm512_ternarylogic_epi32(low, w[0], _mm512_slli_epi32(w[1], 8), 0xCA);
  const __m512i odd01 = _mm512_ternarylogic_epi32(low, _mm512_srli_epi32(w[0], 8), w[1], 0xCA);
  const __m512i even23 = _mm512_ternarylogic_epi32(low, w[2], _mm512_slli_epi32(w[3], 8), 0xCA);
  const __m512i odd23 = _mm512_ternarylogic_epi32(low, _mm512_srli_epi32(w[2], 8), w[3], 0xCA);
  _mm512_storeu_si512(out, _mm512_ternarylogic_epi32(half, even01, _mm512_slli_epi32(even23, 16), 0xCA));
  if (bytes > 1) _mm512_storeu_si512(out + plane_bytes, _mm512_ternarylogic_epi32(half, odd01, _mm512_slli_epi32(odd23, 16), 0xCA));
  if (bytes > 2)
    _mm512_storeu_si512(out + 2 * plane_bytes, _mm512_ternarylogic_epi32(half, _mm512_srli_epi32(even01, 16), even23, 0xCA));
  if (bytes > 3)
    _mm512_storeu_si512(out + 3 * plane_bytes, _mm512_ternarylogic_epi32(half, _mm512_srli_epi32(odd01, 16), odd23, 0xCA));
}

static void split(const Split& s) {
  const __m512i q = _mm512_set1_epi64(static_cast<long long>(s.q));
  std::int64_t c = 0;
  for (; c + 16 <= s.count; c += 16) {
    __m512i low[kGroup], high[kGroup];
    for (std::int64_t u = 0; u < kGroup; u++) {
      const std::uint64_t* from = s.words + static_cast<std::size_t>(u) * s.stride + c;
      __m512i first = _mm512_loadu_si512(from), second = _mm512_loadu_si512(from + 8);
      if (s.negate) first = _mm512_sub_epi64(q, first), second = _mm512_sub_epi64(q, second);
      low[u] = low_halves(first, second), high[u] = high_halves(first, second);
    }
    std::uint8_t* out = s.planes + kGroup * c;
    store_bytes(low, 4, out, s.plane_bytes);
    if (s.limbs > 4) store_bytes(high, s.limbs - 4, out + 4 * s.plane_bytes, s.plane_bytes);
  }
  for (; c < s.count; c++)
    for (std::int64_t u = 0; u < kGroup; u++) {
      std::uint64_t word = s.words[static_cast<std::size_t>(u) * s.stride + static_cast<std::size_t>(c)];
      if (s.negate) word = s.q - word;
      for (std::int64_t l = 0; l < s.limbs; l++, word >>= 8)
        s.planes[static_cast<std::size_t>(l) * s.plane_bytes + static_cast<std::size_t>(kGroup * c + u)] =
            static_cast<std::uint8_t>(word);
    }
}

static inline __m512d rounded(__m512d x) { return _mm512_roundscale_pd(x, 0x08); }

// Makes words from the sums of limbs, which are below 2^36; the sum of limb l counts 2^(8 l) times. Limbs 0 to 2 are put together
// exactly, below 2^53, and so are limbs 3 to 5, which are then multiplied by 2^24 modulo q. That product is exact: h + l = a b by
// FMA, less round(a b / q) q (docs/cryptography.md, section 6).
template <typename Load>
static inline void join_limbs(std::int64_t count, std::int64_t limbs, std::uint64_t q, Load load, std::uint64_t* words) {
  const __m512d modulus = _mm512_set1_pd(static_cast<double>(q)), inverse = _mm512_set1_pd(1.0 / static_cast<double>(q));
  const __m512d two8 = _mm512_set1_pd(256.0), two16 = _mm512_set1_pd(65536.0), two24 = _mm512_set1_pd(16777216.0);
  const __m512d two48 = _mm512_set1_pd(281474976710656.0);
  const __m512i whole = _mm512_set1_epi64(static_cast<long long>(q));
  for (std::int64_t c = 0; c < count; c += 8) {
    const auto times = [&](__m512d a, __m512d b) {
      const __m512d h = _mm512_mul_pd(a, b), l = _mm512_fmsub_pd(a, b, h), k = rounded(_mm512_mul_pd(h, inverse));
      return _mm512_add_pd(_mm512_fnmadd_pd(k, modulus, h), l);
    };
    __m512d total = _mm512_fmadd_pd(load(2, c), two16, _mm512_fmadd_pd(load(1, c), two8, load(0, c)));
    __m512d high = load(3, c);
    if (limbs > 4) high = _mm512_fmadd_pd(load(4, c), two8, high);
    if (limbs > 5) high = _mm512_fmadd_pd(load(5, c), two16, high);
    if (limbs > 6) total = _mm512_add_pd(total, times(load(6, c), two48));
    total = _mm512_add_pd(total, times(high, two24));
    total = _mm512_fnmadd_pd(rounded(_mm512_mul_pd(total, inverse)), modulus, total);
    const __m512i word = _mm512_cvtpd_epi64(total);
    _mm512_storeu_si512(words + c, _mm512_mask_add_epi64(word, _mm512_movepi64_mask(word), word, whole));
  }
}

static void multiply(const LimbProduct& p) {
  alignas(64) std::int32_t sums[kMostLimbs][kMostSums];
  const std::int64_t count = p.blocks * kRows * kStrip;
  if (p.groups * p.terms <= p.most_steps) {
    sum_blocks(p, 0, p.groups, 0, p.terms, sums);
    join_limbs(
        count, p.limbs, p.q,
        [&](std::int64_t l, std::int64_t c) {
          return _mm512_cvtepi32_pd(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums[l] + place_of_sum(c))));
        },
        p.words);
    return;
  }
  alignas(64) double wide[kMostLimbs][kMostSums] = {};
  const std::int64_t most = p.most_steps / kDepth, terms = p.terms < most ? p.terms : most, groups = most / terms * kDepth;
  for (std::int64_t g = 0; g < p.groups; g += groups)
    for (std::int64_t t = 0; t < p.terms; t += terms) {
      sum_blocks(p, g, p.groups - g < groups ? p.groups - g : groups, t, p.terms - t < terms ? p.terms - t : terms, sums);
      for (std::int64_t l = 0; l < p.limbs; l++)
        for (std::int64_t c = 0; c < count; c += 8)
          _mm512_store_pd(wide[l] + c,
                          _mm512_add_pd(_mm512_load_pd(wide[l] + c),
                                        _mm512_cvtepi32_pd(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums[l] + c)))));
    }
  join_limbs(
      count, p.limbs, p.q, [&](std::int64_t l, std::int64_t c) { return _mm512_load_pd(wide[l] + place_of_sum(c)); }, p.words);
}

}  // namespace limbs

// Eight int8 weights as lanes.
static inline Lanes from_bytes(const std::int8_t* weights, std::uint64_t) {
  long long eight;
  __builtin_memcpy(&eight, weights, 8);
  return _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(eight)));
}
