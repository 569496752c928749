// Where the pixels of images lie in polynomials. hecompile/backends/bfv/packing.py has the same formulas, with a drawing, a table
// of the symbols and the proof that they give convolutions.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/random.h"
#include "core/ring.h"

namespace hecompile {

// One entry of a convolution's kernel: the result at (y, x) reads the picture at (y + dy, x + dx).
struct Tap {
  std::int32_t dy, dx;
};

// The sizes of one layer at one batch size, as the region's document states them. Only encrypted channels are counted.
struct Shape {
  std::int64_t elements;                       // pictures of the whole batch
  std::int64_t channels, height, width;        // the input picture of an element
  std::int64_t rows, grid_height, grid_width;  // the result of an element; rows are output channels
  std::vector<Tap> taps;
  std::int64_t images_per_poly, band_rows, p_in, p_out;  // the packing, as in packing.py
  int drop_b, drop_a;                                    // how many low bits of an answer's words of b and of a are rounded off
};

// A shape in a ring, with all sizes that follow from the two. The constructor throws std::invalid_argument for a shape that does
// not fit the ring or has numbers out of range.
class Layout {
 public:
  Layout(std::shared_ptr<const Ring> ring, Shape shape);

  std::shared_ptr<const Ring> ring;
  Shape shape;
  std::int64_t row_bands;  // row bands of a picture; 1 where pictures are not cut
  std::int64_t in_rows;    // input rows of an image, which is a picture or a row band
  std::int64_t image_rows, row_stride, image_stride, channel_stride, coefficient_groups, output_stride;  // as in packing.py
  std::int64_t low_row;           // first input row of a row band, relative to its first output row; 0 for whole pictures
  std::int64_t blocks;            // every block is encrypted under a secret of its own
  std::int64_t uploads, answers;  // polynomials of a block in the request, and in the reply
  std::int64_t seeds;             // public seeds; up to 64 blocks share a seed, and with it the `a` of every answer
  // Which coefficients of an answer hold results, by output, image, row and column:
  // (p_out * images_per_poly * band_rows * grid_width).
  std::vector<std::int32_t> gather_indices;
  // By how many coefficients each term shifts its upload: (p_out * p_in * taps), by output j of an answer, channel i of an upload
  // and tap. An answer is the sum of w X^-offset P over all terms of all uploads P, where w is a weight and
  // offset = i channel_stride + tap - j output_stride. Offsets are brought into [-N, N), since X^(2 N) = 1.
  std::vector<std::int32_t> offsets;

  Positions positions() const { return {ring->n, uploads, ring->q_bits}; }
  // Words of b in a request, of q_bits each.
  std::int64_t up_words() const { return blocks * uploads * ring->n; }
  // Words of b in a reply, of q_bits - drop_b each.
  std::int64_t down_b_words() const { return blocks * answers * static_cast<std::int64_t>(gather_indices.size()); }
  // Words of a in a reply, of q_bits - drop_a each.
  std::int64_t down_a_words() const { return seeds * answers * ring->n; }
};

}  // namespace hecompile
