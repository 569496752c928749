// Products of 25-bit limbs by weights in doubles, which are exact below 2^53, for processors without the other kernels. Included
// into the namespace of an instruction set, behind product_kernels.h.

namespace limbs {

constexpr std::int64_t kGroup = 1, kLimbBytes = 8, kLimit = 0, kRows = 6, kDepth = 1, kMostBlocks = 16;
constexpr std::int64_t kSteps = 256, kSafeSteps = kSteps;
constexpr int kLimbBits = 25;

typedef double Pair __attribute__((vector_size(16), may_alias));
typedef double LoosePair __attribute__((vector_size(16), aligned(8), may_alias));

static std::int64_t count_limbs(std::uint64_t) { return 2; }

static void split(const Split& s) {
  double* low = reinterpret_cast<double*>(s.planes);
  double* high = reinterpret_cast<double*>(s.planes + s.plane_bytes);
  for (std::int64_t c = 0; c < s.count; c++) {
    const std::uint64_t word = s.negate ? s.q - s.words[c] : s.words[c];
    low[c] = static_cast<double>(static_cast<std::int32_t>(word & ((1U << kLimbBits) - 1)));
    high[c] = static_cast<double>(static_cast<std::int32_t>(word >> kLimbBits));
  }
}

// Adds the products of one limb over groups and terms to the sums of 6 answers at 4 coefficients. sums: 4 columns of (6, 64).
__attribute__((noinline)) static void sum_limb(const std::uint8_t* x, std::size_t pitch, const std::int64_t* offsets,
                                               std::int64_t groups, std::int64_t terms, const double* w, double* sums) {
  Pair sum[kRows][2];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) sum[r][v] = *reinterpret_cast<const LoosePair*>(sums + kStrip * r + 2 * v);
  for (std::int64_t g = 0; g < groups; g++, x += pitch)
    for (std::int64_t t = 0; t < terms; t++, w += kRows) {
      const LoosePair* p = reinterpret_cast<const LoosePair*>(x + offsets[t]);
      const Pair x0 = p[0], x1 = p[1];
#pragma GCC unroll 6
      for (int r = 0; r < kRows; r++) {
        const Pair weight = {w[r], w[r]};
        sum[r][0] += x0 * weight;
        sum[r][1] += x1 * weight;
      }
    }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) *reinterpret_cast<LoosePair*>(sums + kStrip * r + 2 * v) = sum[r][v];
}

static void multiply_one(const LimbProduct& p) {
  alignas(64) double sums[2][kRows * kStrip] = {};
  alignas(64) double weights[kSteps * kRows];
  const std::int64_t terms = p.terms < kSteps ? p.terms : kSteps, groups = kSteps / terms;
  for (std::int64_t g = 0; g < p.groups; g += groups)
    for (std::int64_t t = 0; t < p.terms; t += terms) {
      const std::int64_t some_groups = p.groups - g < groups ? p.groups - g : groups;
      const std::int64_t some_terms = p.terms - t < terms ? p.terms - t : terms;
      double* to = weights;
      for (std::int64_t group = g; group < g + some_groups; group++) {
        const std::int8_t* from = p.weights + (group * p.terms + t) * kRows;
        for (std::int64_t i = 0; i < some_terms * kRows; i++) *to++ = from[i];
      }
      for (std::int64_t l = 0; l < 2; l++)
        for (std::int64_t c = 0; c < kStrip; c += 4)
          sum_limb(p.planes + static_cast<std::size_t>(l) * p.plane_bytes + static_cast<std::size_t>(g) * p.pitch + 8 * c, p.pitch,
                   p.offsets + t, some_groups, some_terms, weights, sums[l] + c);
    }
  // A word is the sum of the low limb plus 2^25 times that of the high one, less a quotient times q. Integers that wrap around give
  // the low 64 bits of this exactly. The quotient, computed in doubles, is wrong by at most one.
  const double modulus = static_cast<double>(p.q);
  for (std::int64_t c = 0; c < kRows * kStrip; c++) {
    const double quotient = (sums[1][c] * static_cast<double>(1 << kLimbBits) + sums[0][c]) / modulus;
    const std::int64_t whole = static_cast<std::int64_t>(quotient);
    std::uint64_t word = (static_cast<std::uint64_t>(static_cast<std::int64_t>(sums[1][c])) << kLimbBits) +
                         static_cast<std::uint64_t>(static_cast<std::int64_t>(sums[0][c])) -
                         static_cast<std::uint64_t>(whole) * p.q;
    word += p.q & (0 - (word >> 63));  // it was between -2 q and 2 q
    word += p.q & (0 - (word >> 63));
    if (word >= p.q) word -= p.q;
    p.words[c] = word;
  }
}

static void multiply(const LimbProduct& p) {
  LimbProduct block_product = p;
  for (std::int64_t block = 0; block < p.blocks; block++, block_product.weights += p.next, block_product.words += kRows * kStrip)
    multiply_one(block_product);
}

}  // namespace limbs

// Eight int8 weights as lanes.
static inline Lanes from_bytes(const std::int8_t* weights, std::uint64_t q) {
  Lanes lanes;
  for (int i = 0; i < 8; i++)
    lanes.v[i] = static_cast<std::uint64_t>(static_cast<std::int64_t>(weights[i])) + (weights[i] < 0 ? q : 0);
  return lanes;
}
