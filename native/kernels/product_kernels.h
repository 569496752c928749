// The inner loops of the server's product: one table per instruction set, all with the same results.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/ring_view.h"

namespace hecompile {

inline constexpr std::int64_t kStrip = 64;         // coefficients that are computed together
inline constexpr std::int64_t kMostAnswers = 192;  // that are computed together, of any kernel
inline constexpr std::int64_t kMostLimbs = 7;
inline constexpr std::int64_t kLanes = 8;  // polynomials that are transformed together
inline constexpr std::int64_t kBatch = 4;  // products that are added at a time

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

// Sums of blocks of `rows` answers at kStrip coefficients: word (r, c) is the sum over upload groups g, terms t and uploads u of
// the group of a weight times the word at (g, c + offset t, u), modulo q. Weights of a block lie as (groups / depth, terms, rows,
// depth, group), zero in groups beyond the last one.
struct LimbProduct {
  const std::uint8_t* planes;   // at the first group and the strip's first coefficient, for offset zero
  std::size_t plane_bytes;      // from one limb to the next
  std::size_t pitch;            // bytes from one group to the next
  const std::int64_t* offsets;  // (terms) in bytes
  std::int64_t groups, terms, limbs;
  const std::int8_t* weights;  // of the first block
  std::int64_t most_steps;     // groups times terms whose sums of one limb fit the kernel's integers
  std::uint64_t q;
  std::uint64_t* words;  // out: (blocks, rows, kStrip) below q
  // Neighbouring blocks of answers, at most `most_blocks`, which read limbs together: each one's weights lie `next` bytes behind
  // those of the one before.
  std::int64_t blocks;
  std::size_t next;
  bool far;  // whether terms lie so far apart that they share few lines of the cache
};

inline constexpr std::int64_t kMostSparse = 6;  // levels of a SparsePlan

// How polynomials with few coefficients, all at the same places, are transformed. The first levels are done for one column at a
// time: the coefficients c, c + width, c + 2 width, ..., with width = N / 2^levels. At each level only pairs with something are
// touched.
struct SparsePlan {
  struct Term {
    std::int32_t term, place;  // a weight, and its place in the column
  };
  std::int64_t levels;
  std::int64_t column_count;
  const std::int32_t* columns;    // (column_count) c of those with something
  const std::int32_t* term_ends;  // (column_count) in `terms`
  const Term* terms;
  // For each column and level the ends, in `pairs`, of three runs of lower places of pairs, counted from a block's start: those
  // with something at the lower place only, the upper one only, both.
  const std::int32_t* ends;  // (column_count, levels, 3)
  const std::int32_t* pairs;
  std::int64_t empty_count;
  const std::int32_t* empty;  // c of columns with nothing
};

struct ProductKernels {
  std::int64_t group;        // uploads side by side in a plane
  std::int64_t limb_bytes;   // of one limb of one word
  std::int64_t rows;         // answers of a block
  std::int64_t depth;        // upload groups that are multiplied in one step
  std::int64_t most_blocks;  // that are computed together
  std::int64_t safe_steps;   // `most_steps` that holds for all int8 weights but -128
  std::int64_t limb_limit;   // largest value of a limb, times the 1-norm of weights, must stay below 2^31; 0 where nothing must
  std::int64_t (*limbs)(std::uint64_t q);
  void (*split)(const Split&);
  void (*multiply)(const LimbProduct&);
  // Words below 2^q_bits without their `drop` low bits, rounded: `round_off` of product.h on each.
  void (*round)(std::uint64_t* words, std::int64_t count, int drop, int q_bits);
  // Values of eight polynomials (8, N) in evaluation order -> coefficients, words below q both. cells: (N, 8) to work in.
  void (*to_coefficients)(const RingView&, std::uint64_t* words, Cell* cells);
  // Coefficients (8, N) of eight polynomials -> values in evaluation order, cells (8, N). cells: (N, 8) to work in.
  void (*to_values)(const RingView&, const std::uint64_t* words, Cell* cells, Cell* values);
  // Values (count), words below q -> cells.
  void (*to_cells)(const RingView&, const std::uint64_t* words, std::int64_t count, Cell* cells);
  // int8 weights (terms, 8) of eight polynomials -> their values, cells (N, 8).
  void (*transform_weights)(const RingView&, const SparsePlan&, const std::int8_t* weights, Cell* cells);
  std::int64_t sum_cells;      // of one sum of products
  std::int64_t most_products;  // that are added before sums are folded
  // Adds at `count` coefficients the products of up to kBatch weights (count, 8) by values (count). sums: (count, sum_cells, 8).
  void (*accumulate)(const RingView&, std::int64_t batch, const Cell* const* weights, const Cell* const* values, std::int64_t count,
                     Cell* sums);
  void (*fold)(const RingView&, std::int64_t count, Cell* sums);                    // reduces them
  void (*join)(const RingView&, const Cell* more, std::int64_t count, Cell* sums);  // adds folded ones, at most 2048 times
  // Sums of eight polynomials (N, sum_cells, 8) -> coefficients, words below q (8, N). The sums are lost.
  void (*to_words)(const RingView&, Cell* sums, std::uint64_t* words);
  // Planes of the same kind, fewer rows and less depth: for layers that would fill this kernel's with zeros. Or none.
  const ProductKernels* narrow = nullptr;
};

extern const ProductKernels kPortableProduct;
#if defined(__x86_64__)
extern const ProductKernels kAvx2Product, kAvx512Product;
#if defined(HECOMPILE_AMX)
extern const ProductKernels kAmxProduct;
#endif
#endif

}  // namespace hecompile
