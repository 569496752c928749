#include "core/layout.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <stdexcept>

namespace hecompile {
namespace {

using i64 = std::int64_t;

// Bounds on the numbers of a document, so that no product of sizes below overflows 64 bits.
constexpr i64 kMostSide = i64{1} << 20, kMostEntries = i64{1} << 31, kMostTaps = i64{1} << 14;

// a / b, rounded up.
i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace

Layout::Layout(std::shared_ptr<const Ring> given, Shape from) : ring(std::move(given)), shape(std::move(from)) {
  const Shape& s = shape;
  for (i64 side : {s.channels, s.height, s.width, s.rows, s.grid_height, s.grid_width})
    require(side >= 1 && side <= kMostSide, "layout: a side out of range");
  for (i64 number : {s.elements, s.images_per_poly, s.band_rows, s.p_in, s.p_out})
    require(number >= 1 && number <= kMostEntries, "layout: a number out of range");
  require(!s.taps.empty() && static_cast<i64>(s.taps.size()) <= kMostTaps, "layout: taps out of range");
  require(s.band_rows <= s.grid_height && s.p_in <= s.channels && s.p_out <= s.rows, "layout: a packing larger than the picture");
  i64 low_y = s.taps[0].dy, high_y = low_y, low_x = s.taps[0].dx, high_x = low_x;
  for (const Tap& tap : s.taps) {
    require(std::abs(i64{tap.dy}) <= kMostSide && std::abs(i64{tap.dx}) <= kMostSide, "layout: a tap out of range");
    low_y = std::min<i64>(low_y, tap.dy), high_y = std::max<i64>(high_y, tap.dy);
    low_x = std::min<i64>(low_x, tap.dx), high_x = std::max<i64>(high_x, tap.dx);
  }
  const i64 n = ring->n;
  row_bands = ceil_div(s.grid_height, s.band_rows);
  const bool banded = row_bands > 1;
  in_rows = banded ? s.band_rows + high_y - low_y : s.height;
  low_row = banded ? low_y : 0;
  row_stride = std::max(s.width + std::max<i64>({0, -low_x, s.grid_width + high_x - s.width}), s.grid_width);
  image_rows = banded ? in_rows : std::max(s.height + std::max<i64>({0, -low_y, s.grid_height + high_y - s.height}), s.grid_height);
  require(row_stride <= n && image_rows <= n, "layout: a row does not fit");
  image_stride = image_rows * row_stride;
  require(image_stride <= n && s.images_per_poly <= n && s.p_in <= n && s.p_out <= n, "layout: an image does not fit");
  channel_stride = s.images_per_poly * image_stride;
  coefficient_groups = static_cast<i64>(std::bit_ceil(static_cast<std::uint64_t>(s.p_out)));
  require(coefficient_groups <= n, "layout: too many outputs in an answer");
  output_stride = n / coefficient_groups;
  require(channel_stride <= n && s.p_in * channel_stride <= output_stride, "layout: channels do not fit beside each other");
  blocks = ceil_div(s.elements * row_bands, s.images_per_poly);
  uploads = ceil_div(s.channels, s.p_in);
  answers = ceil_div(s.rows, s.p_out);
  seeds = ceil_div(blocks, kBlocksPerSeed);
  require(s.drop_b >= 0 && s.drop_a >= 0 && s.drop_b < ring->q_bits && s.drop_a < ring->q_bits,
          "layout: dropped bits out of range");
  require(blocks <= kMostEntries && uploads <= kMostEntries && answers <= kMostEntries, "layout: too many polynomials");
  require(blocks * std::max(uploads, answers) <= kMostEntries / 16, "layout: too many polynomials");
  // The results of an image must end before the next image begins.
  require((s.band_rows - 1) * row_stride + s.grid_width <= image_stride, "layout: the results of an image do not fit in its rows");
  gather_indices.reserve(static_cast<std::size_t>(s.p_out * s.images_per_poly * s.band_rows * s.grid_width));
  for (i64 j = 0; j < s.p_out; j++)
    for (i64 e = 0; e < s.images_per_poly; e++)
      for (i64 y = 0; y < s.band_rows; y++)
        for (i64 x = 0; x < s.grid_width; x++)
          gather_indices.push_back(static_cast<std::int32_t>(j * output_stride + e * image_stride + y * row_stride + x));
  for (i64 j = 0; j < s.p_out; j++)
    for (i64 i = 0; i < s.p_in; i++)
      for (const Tap& tap : s.taps) {
        const i64 offset = i * channel_stride + (tap.dy - low_row) * row_stride + tap.dx - j * output_stride;
        require(offset > -2 * n && offset < 2 * n, "layout: a tap reaches beyond the polynomial");
        offsets.push_back(static_cast<std::int32_t>(offset >= n ? offset - 2 * n : offset < -n ? offset + 2 * n : offset));
      }
}

}  // namespace hecompile
