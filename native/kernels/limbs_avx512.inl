// Sums of unsigned 8-bit limbs times int8 weights by the VNNI instruction that wraps and does not saturate. Included into the
// namespace of an instruction set, behind product_kernels.h and immintrin.h and before limbs_bytes.inl.

namespace limbs {

constexpr std::int64_t kGroup = 4, kRows = 6, kDepth = 1, kMostBlocks = 16;
constexpr std::int64_t kMostSums = kMostBlocks * kRows * kStrip;  // sums of one limb

// Sums one limb over groups [0, groups) and terms [0, terms), for 6 answers at 64 coefficients, in 24 registers. sums: (6, 64).
__attribute__((noinline)) static void sum_limb(const std::uint8_t* x, std::size_t pitch, const std::int64_t* offsets,
                                               std::int64_t groups, std::int64_t terms, const std::int8_t* w, std::size_t w_pitch,
                                               std::int32_t* sums) {
  __m512i sum[kRows][4];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) sum[r][v] = _mm512_setzero_si512();
  for (std::int64_t g = 0; g < groups; g++, x += pitch, w += w_pitch) {
    const std::int8_t* weights = w;
    for (std::int64_t t = 0; t < terms; t++, weights += kRows * kGroup) {
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
        __builtin_memcpy(&four, weights + kGroup * r, 4);
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

// The same for 12 answers at 32 of 64 coefficients, added to `sums` where `add`. The weights of the last six answers lie `next`
// bytes behind those of the first six. sums: (12, 64).
__attribute__((noinline)) static void sum_limb_pair(const std::uint8_t* x, std::size_t pitch, const std::int64_t* offsets,
                                                    std::int64_t groups, std::int64_t terms, const std::int8_t* w,
                                                    std::size_t w_pitch, std::size_t next, bool add, std::int32_t* sums) {
  __m512i sum[2 * kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < 2 * kRows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_si512();
  for (std::int64_t g = 0; g < groups; g++, x += pitch, w += w_pitch) {
    const std::int8_t* weights = w;
    for (std::int64_t t = 0; t < terms; t++, weights += kRows * kGroup) {
      const std::uint8_t* p = x + offsets[t];
      const __m512i x0 = _mm512_loadu_si512(p), x1 = _mm512_loadu_si512(p + 64);
      _mm_prefetch(reinterpret_cast<const char*>(p + pitch), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(p + pitch + 64), _MM_HINT_T0);
#pragma GCC unroll 12
      for (int r = 0; r < 2 * kRows; r++) {
        int four;
        __builtin_memcpy(&four, weights + (r < kRows ? 0 : next) + kGroup * (r % kRows), 4);
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

// For so many groups times terms, limbs stay in the first cache while all blocks of answers read them.
constexpr std::int64_t kStepsAtOnce = 96;

// Sums all limbs over groups [first, first + groups) and terms [term, term + terms), for all blocks of a product: two blocks at a
// time, and the last one of an odd number by itself.
static inline void sum_blocks(const LimbProduct& p, std::int64_t first, std::int64_t groups, std::int64_t term, std::int64_t terms,
                              std::int32_t (*sums)[kMostSums]) {
  const std::size_t w_pitch = static_cast<std::size_t>(p.terms * kRows * kGroup);
  const std::int8_t* w = p.weights + static_cast<std::size_t>(first) * w_pitch + term * kRows * kGroup;
  const std::int64_t pairs = p.blocks / 2, most = kStepsAtOnce / terms,
                     at_once = pairs < 2 || !p.far ? groups
                               : most < 1          ? 1
                                                   : most;
  for (std::int64_t limb = 0; limb < p.limbs; limb++) {
    const std::uint8_t* x = p.planes + static_cast<std::size_t>(limb) * p.plane_bytes + static_cast<std::size_t>(first) * p.pitch;
    for (std::int64_t g = 0; g < groups && pairs > 0; g += at_once) {
      const std::int64_t some = groups - g < at_once ? groups - g : at_once;
      const std::size_t down = static_cast<std::size_t>(g);
      for (std::int64_t pair = 0; pair < pairs; pair++)
        for (std::int64_t half = 0; half < kStrip; half += 32)
          sum_limb_pair(x + down * p.pitch + kGroup * half, p.pitch, p.offsets + term, some, terms,
                        w + down * w_pitch + static_cast<std::size_t>(2 * pair) * p.next, w_pitch, p.next, g > 0,
                        sums[limb] + 2 * pair * kRows * kStrip + half);
    }
    if (p.blocks % 2 != 0)
      sum_limb(x, p.pitch, p.offsets + term, groups, terms, w + static_cast<std::size_t>(2 * pairs) * p.next, w_pitch,
               sums[limb] + 2 * pairs * kRows * kStrip);
  }
}

// The index of a word's sum: sums lie as words do, (blocks, kRows, kStrip).
static inline std::int64_t place_of_sum(std::int64_t word) { return word; }

}  // namespace limbs
