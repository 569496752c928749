// The inner loops of the server's product: one table per instruction set, all with the same results.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/ring_view.h"

namespace hecompile {

inline constexpr std::int64_t kStrip = 64;         // coefficients that are computed together
inline constexpr std::int64_t kMostAnswers = 192;  // most answers that any kernel computes together
inline constexpr std::int64_t kMostLimbs = 7;
inline constexpr std::int64_t kLanes = 8;  // polynomials that are transformed together
inline constexpr std::int64_t kBatch = 4;  // products that are added at a time

// The arguments of `split`, which cuts the words of `group` uploads into limbs. Limb l of word c of upload u is written to
// planes + l plane_bytes + (c group + u) limb_bytes.
struct Split {
  const std::uint64_t* words;  // of the first upload, below q
  std::size_t stride;          // words from one upload to the next
  std::int64_t count;          // words of each upload
  std::uint64_t q;
  bool negate;  // cut a number that is -w modulo q instead of w
  std::int64_t limbs;
  std::uint8_t* planes;
  std::size_t plane_bytes;
};

// The arguments of `multiply`, which computes blocks of `rows` answers at kStrip coefficients. Word (r, c) of a block is a sum
// modulo q over upload groups g, terms t and the uploads u of a group: of a weight times the word at (g, c + offset of t, u). The
// weights of a block lie as (groups / depth, terms, rows, depth, group), and are zero in groups beyond the last one.
struct LimbProduct {
  const std::uint8_t* planes;   // at the first group and the strip's first coefficient, for offset zero
  std::size_t plane_bytes;      // from one limb to the next
  std::size_t pitch;            // bytes from one group to the next
  const std::int64_t* offsets;  // (terms): by how many bytes each term moves the pointer into the planes
  std::int64_t groups, terms, limbs;
  const std::int8_t* weights;  // of the first block
  std::int64_t most_steps;     // sums of one limb over so many groups times terms fit the kernel's integers
  std::uint64_t q;
  std::uint64_t* words;  // out: (blocks, rows, kStrip) below q
  // How many neighbouring blocks of answers are computed, at most `most_blocks`. All read the same limbs. The weights of a block
  // lie `next` bytes behind those of the block before.
  std::int64_t blocks;
  std::size_t next;
  bool far;  // whether terms lie so far apart that they share few lines of the cache
};

inline constexpr std::int64_t kMostSparse = 6;  // levels of a SparsePlan

// How to transform polynomials that have few coefficients, all at the same places, as the weights of a layer do. The first levels
// are computed one column at a time. A column is the coefficients c, c + width, c + 2 width, ..., with width = N / 2^levels. A
// level computes only pairs whose values are not both zero.
struct SparsePlan {
  struct Term {
    std::int32_t term, place;  // a weight, and its index within the column
  };
  std::int64_t levels;
  std::int64_t column_count;
  const std::int32_t* columns;    // (column_count) c of the columns that are not zero
  const std::int32_t* term_ends;  // (column_count): where the terms of each column end in `terms`
  const Term* terms;
  // Each column and level has three lists of pairs, one behind the other in `pairs`, and `ends` says where each list ends. First
  // come the pairs whose upper value is zero, then those whose lower value is zero, then those with two values. A pair is given by
  // the place of its lower value in its block.
  const std::int32_t* ends;  // (column_count, levels, 3)
  const std::int32_t* pairs;
  std::int64_t empty_count;
  const std::int32_t* empty;  // c of the columns that are zero
};

// The server's inner loops for one set of instructions.
struct ProductKernels {
  std::int64_t group;        // uploads side by side in a plane
  std::int64_t limb_bytes;   // bytes of one limb of one word
  std::int64_t rows;         // answers of a block
  std::int64_t depth;        // upload groups that are multiplied in one step
  std::int64_t most_blocks;  // most answer blocks that are computed together
  std::int64_t safe_steps;   // a `most_steps` that is small enough for all weights from -127 to 127
  // The largest limb. While it times the 1-norm of the weights is below 2^31, sums of any length fit. 0 for kernels that cut all
  // sums into short ones by themselves.
  std::int64_t limb_limit;
  std::int64_t (*limbs)(std::uint64_t q);  // into how many limbs words below q are cut
  void (*split)(const Split&);
  void (*multiply)(const LimbProduct&);
  // Takes `drop` low bits off words below 2^q_bits, in place: `round_off` of product.h.
  void (*round)(std::uint64_t* words, std::int64_t count, int drop, int q_bits);
  // Values of eight polynomials (8, N) in evaluation order -> coefficients, words below q both. cells: (N, 8) to work in.
  void (*to_coefficients)(const RingView&, std::uint64_t* words, Cell* cells);
  // Coefficients of eight polynomials, words below q (8, N) -> values in evaluation order, cells (8, N). cells: (N, 8) to work in.
  void (*to_values)(const RingView&, const std::uint64_t* words, Cell* cells, Cell* values);
  // Values (count), words below q -> cells.
  void (*to_cells)(const RingView&, const std::uint64_t* words, std::int64_t count, Cell* cells);
  // int8 weights (terms, 8) of eight polynomials -> their values, cells (N, 8).
  void (*transform_weights)(const RingView&, const SparsePlan&, const std::int8_t* weights, Cell* cells);
  std::int64_t sum_cells;      // cells that one sum of products takes
  std::int64_t most_products;  // most products that are added before sums must be folded
  // Multiplies `batch` transformed weights, each (count, 8), by `batch` transformed uploads, each (count), and adds the products to
  // sums, (count, sum_cells, 8). `batch` is at most kBatch.
  void (*accumulate)(const RingView&, std::int64_t batch, const Cell* const* weights, const Cell* const* values, std::int64_t count,
                     Cell* sums);
  // Reduces sums modulo q, so that most_products more products may be added to them.
  void (*fold)(const RingView&, std::int64_t count, Cell* sums);
  // Adds folded sums `more` to folded sums. This may be done 2048 times.
  void (*join)(const RingView&, const Cell* more, std::int64_t count, Cell* sums);
  // Sums of eight polynomials (N, sum_cells, 8) -> coefficients, words below q (8, N). Overwrites the sums.
  void (*to_words)(const RingView&, Cell* sums, std::uint64_t* words);
  // A kernel with fewer rows and less depth that reads the same planes, for layers on which this one would mostly multiply zeros.
  // Null if there is none.
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
