// Where the entries of pictures lie in polynomials: the same formulas as hecompile/backends/bfv/packing.py, which explains them.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/random.h"
#include "core/ring.h"

namespace hecompile {

struct Tap {
  std::int32_t dy, dx;
};

// What a program says of a layer at one batch size. Pictures are of the encrypted channels.
struct Shape {
  std::int64_t elements;                       // pictures of the whole batch
  std::int64_t channels, height, width;        // of a picture
  std::int64_t rows, grid_height, grid_width;  // of the result: rows are output channels
  std::vector<Tap> taps;
  std::int64_t share, tile_rows, p_in, p_out;  // the packing
  int drop_b, drop_a;                          // low bits that answers leave away
};

// A shape in a ring, with all sizes. Throws std::invalid_argument for what does not fit or is out of range.
class Layout {
 public:
  Layout(std::shared_ptr<const Ring> ring, Shape shape);

  std::shared_ptr<const Ring> ring;
  Shape shape;
  std::int64_t tiles, in_rows, stride, slot_rows, slot, area, groups, jump;
  std::int64_t low_row;  // of the first row of a tile, against the tile's first output row; 0 for whole pictures
  std::int64_t blocks;   // secrets; each has `uploads` polynomials up and `answers` down
  std::int64_t uploads, answers;
  std::int64_t seeds;               // groups of up to 64 blocks, each with a public seed and an `a`
  std::vector<std::int32_t> reads;  // (p_out * share * tile_rows * grid_width) coefficients of an answer that are read, in order
  // For output j of an answer, channel i of an upload and tap k, at (j * p_in + i) * taps + k: answers are sums of w X^-offset P,
  // offset = i area + tap - j jump, in (-N, N).
  std::vector<std::int32_t> offsets;

  Positions positions() const { return {ring->n, uploads, ring->q_bits}; }
  std::int64_t up_words() const { return blocks * uploads * ring->n; }                                      // of b, q_bits each
  std::int64_t down_b_words() const { return blocks * answers * static_cast<std::int64_t>(reads.size()); }  // q_bits - drop_b each
  std::int64_t down_a_words() const { return seeds * answers * ring->n; }                                   // q_bits - drop_a each
};

}  // namespace hecompile
