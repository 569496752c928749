// The inner loops of the server's product: one table per instruction set, all with the same results.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/ring_view.h"

namespace hecompile {


inline constexpr std::int64_t kRows = 6;    // answers that are computed together
inline constexpr std::int64_t kStrip = 64;  // coefficients that are computed together
inline constexpr std::int64_t kMostLimbs = 7;

// Words of `group` uploads side by side, cut into limbs: limb l of word c of upload u goes to
// planes + l plane_bytes + (c group + u) limb_bytes.
struct Split {
  const std::uint64_t* words;  // of the first upload, below q
  std::size_t stride;          // words from one upload to the next
  std::int64_t count;          // words of each upload
  std::uint64_t q;
  bool negate;  // cut q - w instead: a representative of -w
  std::int64_t limbs;
  std::uint8_t* planes;
  std::size_t plane_bytes;
};

// Sums of kRows answers at kStrip coefficients: word (r, c) is the sum over upload groups g, terms t and uploads u of the group
// of weights[g][t][r][u] times the word at (g, c + offset t, u), modulo q.
struct LimbProduct {
  const std::uint8_t* planes;   // at the first group and the strip's first coefficient, for offset zero
  std::size_t plane_bytes;      // from one limb to the next
  std::size_t pitch;            // bytes from one group to the next
  const std::int64_t* offsets;  // (terms) in bytes
  std::int64_t groups, terms, limbs;
  const std::int8_t* weights;  // (groups, terms, kRows, group)
  std::int64_t most_steps;     // groups times terms whose sums of one limb fit the kernel's integers
  std::uint64_t q;
  std::uint64_t* words;  // out: (kRows, kStrip) below q
};

struct ProductKernels {
  std::int64_t group;       // uploads side by side in a plane
  std::int64_t limb_bytes;  // of one limb of one word
  std::int64_t safe_steps;  // `most_steps` that holds for all int8 weights but -128
  std::int64_t limb_limit;  // largest value of a limb, times the 1-norm of weights, must stay below 2^31; 0 where nothing must
  std::int64_t (*limbs)(std::uint64_t q);
  void (*split)(const Split&);
  void (*multiply)(const LimbProduct&);
  // Values of eight polynomials (8, N) in evaluation order -> coefficients, words below q both. cells: (N, 8) to work in.
  void (*to_coefficients)(const RingView&, std::uint64_t* words, std::uint64_t* cells);
};

extern const ProductKernels kPortableProduct;
#if defined(__x86_64__)
extern const ProductKernels kAvx2Product, kAvx512Product;
#endif

}  // namespace hecompile
