// The server's inner loops as one table. Included once into the namespace of each instruction set, behind product_kernels.h, its
// ops_*.h, ntt.inl, its limbs_*.inl and a sums_*.inl.

#include "kernels/transform.inl"

static void round_words(std::uint64_t* words, std::int64_t count, int drop, int q_bits) {
  if (drop == 0) return;
  const std::uint64_t half = std::uint64_t{1} << (drop - 1), mask = (std::uint64_t{1} << (q_bits - drop)) - 1;
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int k = 0; k < 8; k++) words[i + k] = ((words[i + k] + half) >> drop) & mask;
  for (; i < count; i++) words[i] = ((words[i] + half) >> drop) & mask;
}

static constexpr ProductKernels kProduct = {
    limbs::kGroup,      limbs::kLimbBytes, limbs::kRows,    limbs::kDepth,    limbs::kMostBlocks, limbs::kSafeSteps, limbs::kLimit,
    limbs::count_limbs, limbs::split,      limbs::multiply, round_words,      to_coefficients,    words_to_values,   words_to_cells,
    transform_weights,  sums::kCells,      sums::kMost,     sums::accumulate, sums::fold,         sums::join,        sums_to_words};
