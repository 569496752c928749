// Products of unsigned 8-bit limbs by int8 weights with the VNNI instruction that does not saturate. Included into the namespace
// of an instruction set, behind product_kernels.h and immintrin.h.

namespace limbs {

constexpr std::int64_t kGroup = 4, kLimbBytes = 1;
constexpr std::int64_t kLimit = 255;         // largest limb
constexpr std::int64_t kSafeSteps = 16'577;  // of four limbs times weights of at most 127, below 2^31

static std::int64_t count_limbs(std::uint64_t q) { return (64 - __builtin_clzll(q) + 7) / 8; }

static inline __m512i low_halves(__m512i a, __m512i b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_epi32(a, even, b);
}
static inline __m512i high_halves(__m512i a, __m512i b) {
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return _mm512_permutex2var_epi32(a, odd, b);
}

// Four registers of 16 words of 32 bits -> byte l of all of them, the four beside each other, at out + l plane_bytes.
static inline void store_bytes(const __m512i w[4], std::int64_t bytes, std::uint8_t* out, std::size_t plane_bytes) {
  const __m512i low = _mm512_set1_epi32(0x00FF00FF), half = _mm512_set1_epi32(0xFFFF);
  // 0xCA: where the mask (first operand) is set the second operand, else the third
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

// One limb: 6 answers x 64 coefficients in 24 registers over groups [0, groups) and terms [0, terms).
__attribute__((noinline)) static void sum_limb(const std::uint8_t* x, std::size_t pitch, const std::int64_t* offsets,
                                               std::int64_t groups, std::int64_t terms, const std::int8_t* w, std::size_t w_pitch,
                                               std::int32_t* sums) {
  __m512i sum[kRows][4];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) sum[r][v] = _mm512_setzero_si512();
  for (std::int64_t g = 0; g < groups; g++, x += pitch, w += w_pitch) {
    const std::int8_t* each = w;
    for (std::int64_t t = 0; t < terms; t++, each += kRows * kGroup) {
      const std::uint8_t* p = x + offsets[t];
      const __m512i x0 = _mm512_loadu_si512(p), x1 = _mm512_loadu_si512(p + 64), x2 = _mm512_loadu_si512(p + 128),
                    x3 = _mm512_loadu_si512(p + 192);
      _mm_prefetch(reinterpret_cast<const char*>(p + pitch), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(p + pitch + 64), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(p + pitch + 128), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(p + pitch + 192), _MM_HINT_T0);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; r++) {
        int four;
        __builtin_memcpy(&four, each + kGroup * r, 4);
        const __m512i weight = _mm512_set1_epi32(four);
        sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], x0, weight);
        sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], x1, weight);
        sum[r][2] = _mm512_dpbusd_epi32(sum[r][2], x2, weight);
        sum[r][3] = _mm512_dpbusd_epi32(sum[r][3], x3, weight);
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) _mm512_storeu_si512(sums + kStrip * r + 16 * v, sum[r][v]);
}

// The same for twelve answers, whose second half of weights lies `next` bytes behind, x 32 coefficients, added to `sums` where
// `add`.
__attribute__((noinline)) static void sum_limb_pair(const std::uint8_t* x, std::size_t pitch, const std::int64_t* offsets,
                                                    std::int64_t groups, std::int64_t terms, const std::int8_t* w,
                                                    std::size_t w_pitch, std::size_t next, bool add, std::int32_t* sums) {
  __m512i sum[2 * kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < 2 * kRows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_si512();
  for (std::int64_t g = 0; g < groups; g++, x += pitch, w += w_pitch) {
    const std::int8_t* each = w;
    for (std::int64_t t = 0; t < terms; t++, each += kRows * kGroup) {
      const std::uint8_t* p = x + offsets[t];
      const __m512i x0 = _mm512_loadu_si512(p), x1 = _mm512_loadu_si512(p + 64);
      _mm_prefetch(reinterpret_cast<const char*>(p + pitch), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(p + pitch + 64), _MM_HINT_T0);
#pragma GCC unroll 12
      for (int r = 0; r < 2 * kRows; r++) {
        int four;
        __builtin_memcpy(&four, each + (r < kRows ? 0 : next) + kGroup * (r % kRows), 4);
        const __m512i weight = _mm512_set1_epi32(four);
        sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], x0, weight);
        sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], x1, weight);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < 2 * kRows; r++) {
    std::int32_t* to = sums + kStrip * r;
    if (add)
      sum[r][0] = _mm512_add_epi32(sum[r][0], _mm512_loadu_si512(to)),
      sum[r][1] = _mm512_add_epi32(sum[r][1], _mm512_loadu_si512(to + 16));
    _mm512_storeu_si512(to, sum[r][0]), _mm512_storeu_si512(to + 16, sum[r][1]);
  }
}

static inline __m512d rounded(__m512d x) { return _mm512_roundscale_pd(x, 0x08); }

// Limb sums below 2^36 -> words. Low and high ones are put together exactly: below 2^53. The high ones times 2^24 modulo q, exact
// as h + l = a b by FMA, minus round(a b / q) q.
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

constexpr std::int64_t kStepsAtOnce = 96;  // groups times terms whose limbs stay in the first cache for all blocks

// One limb of all blocks of a product, in pairs; the last one of an odd number alone.
static inline void sum_blocks(const LimbProduct& p, std::int64_t limb, std::int64_t first, std::int64_t groups, std::int64_t term,
                              std::int64_t terms, std::int32_t* sums) {
  const std::size_t w_pitch = static_cast<std::size_t>(p.terms * kRows * kGroup);
  const std::uint8_t* x = p.planes + static_cast<std::size_t>(limb) * p.plane_bytes + static_cast<std::size_t>(first) * p.pitch;
  const std::int8_t* w = p.weights + static_cast<std::size_t>(first) * w_pitch + term * kRows * kGroup;
  const std::int64_t pairs = p.blocks / 2, most = kStepsAtOnce / terms,
                     at_once = pairs < 2 || !p.far ? groups
                               : most < 1          ? 1
                                                   : most;
  for (std::int64_t g = 0; g < groups && pairs > 0; g += at_once) {
    const std::int64_t some = groups - g < at_once ? groups - g : at_once;
    const std::size_t down = static_cast<std::size_t>(g);
    for (std::int64_t pair = 0; pair < pairs; pair++)
      for (std::int64_t half = 0; half < kStrip; half += 32)
        sum_limb_pair(x + down * p.pitch + kGroup * half, p.pitch, p.offsets + term, some, terms,
                      w + down * w_pitch + static_cast<std::size_t>(2 * pair) * p.next, w_pitch, p.next, g > 0,
                      sums + 2 * pair * kRows * kStrip + half);
  }
  if (p.blocks % 2 != 0)
    sum_limb(x, p.pitch, p.offsets + term, groups, terms, w + static_cast<std::size_t>(2 * pairs) * p.next, w_pitch,
             sums + 2 * pairs * kRows * kStrip);
}

static void multiply(const LimbProduct& p) {
  alignas(64) std::int32_t sums[kMostLimbs][kMostBlocks * kRows * kStrip];
  const std::int64_t count = p.blocks * kRows * kStrip;
  if (p.groups * p.terms <= p.most_steps) {
    for (std::int64_t l = 0; l < p.limbs; l++) sum_blocks(p, l, 0, p.groups, 0, p.terms, sums[l]);
    join_limbs(
        count, p.limbs, p.q,
        [&](std::int64_t l, std::int64_t c) {
          return _mm512_cvtepi32_pd(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums[l] + c)));
        },
        p.words);
    return;
  }
  alignas(64) double wide[kMostLimbs][kMostBlocks * kRows * kStrip] = {};
  const std::int64_t terms = p.terms < p.most_steps ? p.terms : p.most_steps, groups = p.most_steps / terms;
  for (std::int64_t g = 0; g < p.groups; g += groups)
    for (std::int64_t t = 0; t < p.terms; t += terms)
      for (std::int64_t l = 0; l < p.limbs; l++) {
        sum_blocks(p, l, g, p.groups - g < groups ? p.groups - g : groups, t, p.terms - t < terms ? p.terms - t : terms, sums[0]);
        for (std::int64_t c = 0; c < count; c += 8)
          _mm512_store_pd(wide[l] + c,
                          _mm512_add_pd(_mm512_load_pd(wide[l] + c),
                                        _mm512_cvtepi32_pd(_mm256_load_si256(reinterpret_cast<const __m256i*>(sums[0] + c)))));
      }
  join_limbs(count, p.limbs, p.q, [&](std::int64_t l, std::int64_t c) { return _mm512_load_pd(wide[l] + c); }, p.words);
}

}  // namespace limbs

// Eight weights as lanes.
static inline Lanes from_bytes(const std::int8_t* weights, std::uint64_t) {
  long long eight;
  __builtin_memcpy(&eight, weights, 8);
  return _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(eight)));
}
