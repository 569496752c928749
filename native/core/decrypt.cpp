#include <algorithm>
#include <cfenv>
#include <cmath>
#include <stdexcept>

#include "core/encrypt.h"
#include "core/kernels.h"
#include "core/pool.h"
#include "core/scratch.h"
#include "core/wire.h"
#include "kernels/client_kernels.h"

namespace hecompile {
namespace {

using i64 = std::int64_t;
using u64 = std::uint64_t;

constexpr i64 kMostReach = i64{1} << 40;
constexpr i64 kSlabAnswers = 16;  // of one task
constexpr i64 kOver = 8;          // values that inner loops write beyond the last

std::size_t size(i64 count) { return static_cast<std::size_t>(count); }
i64 up(i64 a, i64 b) { return (a + b - 1) / b; }

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// Answers [answer, answer + answers) of blocks [block, block + blocks), all with the same `a`.
struct Slab {
  std::size_t layer;
  i64 block, blocks, answer, answers;
};

void add_slabs(const Layout& layout, std::size_t layer, i64 wanted, std::vector<Slab>& slabs) {
  const i64 answers = layout.answers;
  for (i64 seed = 0; seed < layout.seeds; seed++) {
    const i64 first = seed * kBlocksPerSeed, blocks = std::min<i64>(kBlocksPerSeed, layout.blocks - first);
    if (answers > 8) {  // cut by answers: `a` is transformed once
      const i64 each = answers <= 8 * wanted ? 8 : kSlabAnswers;
      for (i64 answer = 0; answer < answers; answer += each)
        slabs.push_back({layer, first, blocks, answer, std::min(each, answers - answer)});
    } else {
      const i64 pieces = std::clamp<i64>(wanted, 1, up(blocks * answers, 16)), each = up(blocks, pieces);
      for (i64 block = 0; block < blocks; block += each)
        slabs.push_back({layer, first + block, std::min(each, blocks - block), 0, answers});
    }
  }
}

struct Sizes {
  i64 n = 0, blocks = 0, reads = 0;
  std::size_t total() const {
    return Scratch::size_of<u64>(size(8 * n)) + Scratch::size_of<u64>(size(n)) + Scratch::size_of<Cell>(size(blocks * n)) +
           2 * Scratch::size_of<Cell>(size(8 * n)) + Scratch::size_of<u64>(size(std::max(8 * n, reads + kOver))) +
           Scratch::size_of<double>(size(8 * (reads + kOver)));
  }
};

// Values of some neighbouring answers of one block, (answers, pitch) doubles -> the tensors of the sink.
class Sinking {
 public:
  Sinking(const Decryption& layer, const ClientKernels& kernel, i64 pitch) : layer_(layer), kernel_(kernel), pitch_(pitch) {}

  void operator()(i64 block, i64 answer, i64 answers, const double* values) const {
    const Layout& layout = *layer_.layout;
    const Shape& shape = layout.shape;
    if (layer_.integers != nullptr) {
      const i64 reads = static_cast<i64>(layout.reads.size());
      for (i64 i = 0; i < answers; i++) {
        i64* to = layer_.integers + (block * layout.answers + answer + i) * reads;
        for (i64 k = 0; k < reads; k++) to[k] = static_cast<i64>(values[i * pitch_ + k]);
      }
      return;
    }
    const i64 low = answer * shape.p_out, high = std::min((answer + answers) * shape.p_out, shape.rows);
    for (i64 index = 0; index < shape.share; index++) {
      const i64 number = block * shape.share + index;
      if (number >= shape.elements * layout.tiles) break;
      const i64 element = number / layout.tiles, first = number % layout.tiles * shape.tile_rows;
      const auto run = [&](i64 row) {
        return values + (row / shape.p_out - answer) * pitch_ +
               (row % shape.p_out * shape.share + index) * shape.tile_rows * shape.grid_width;
      };
      for (i64 row = low; row < high;) {
        if (row + 8 <= high && finish_tokens(row, element, first, run))
          row += 8;
        else
          finish_image(row, element, first, run(row)), row++;
      }
    }
  }

 private:
  float* place(const SinkRow& row, i64 element, i64 y) const {
    return layer_.sink->parts[size(row.part)].data + element * row.element_step + row.offset + y * row.row_step;
  }

  void finish_image(i64 number, i64 element, i64 first, const double* values) const {
    const Shape& shape = layer_.layout->shape;
    const SinkRow& row = layer_.sink->rows[size(number)];
    const i64 rows = std::min<i64>(shape.tile_rows, row.height - first);
    if (rows <= 0 || row.width == 0) return;
    const double scale = layer_.sink->value_scales[size(element)] * row.scale;
    float* to = place(row, element, first);
    if (shape.grid_width == 1)
      kernel_.finish(values, 1, rows, 0, scale, row.bias, to, 0, row.row_step);
    else
      kernel_.finish(values, rows, row.width, shape.grid_width, scale, row.bias, to, row.row_step, row.column_step);
  }

  // Eight rows that lie side by side in a grid of one column. Returns false for others.
  template <typename Run>
  bool finish_tokens(i64 number, i64 element, i64 first, const Run& run) const {
    const Shape& shape = layer_.layout->shape;
    if (shape.grid_width != 1) return false;
    const SinkRow* rows = &layer_.sink->rows[size(number)];
    for (i64 i = 0; i < 8; i++)
      if (rows[i].part != rows[0].part || rows[i].offset != rows[0].offset + i || rows[i].element_step != rows[0].element_step ||
          rows[i].row_step != rows[0].row_step || rows[i].height != rows[0].height || rows[i].width != 1)
        return false;
    const i64 count = std::min<i64>(shape.tile_rows, rows[0].height - first);
    if (count <= 0) return true;
    const double* values[8];
    double scales[8];
    float biases[8];
    for (i64 i = 0; i < 8; i++) {
      values[i] = run(number + i), biases[i] = rows[i].bias;
      scales[i] = layer_.sink->value_scales[size(element)] * rows[i].scale;
    }
    kernel_.finish_tokens(values, count, scales, biases, place(rows[0], element, first), rows[0].row_step);
    return true;
  }

  const Decryption& layer_;
  const ClientKernels& kernel_;
  const i64 pitch_;
};

void decrypt_slab(const Decryption& layer, const Slab& slab, const ClientKernels& kernel, Scratch& scratch, const Sizes& sizes) {
  const Layout& layout = *layer.layout;
  const Shape& shape = layout.shape;
  const RingView ring = layout.ring->view();
  const i64 n = ring.n, reads = static_cast<i64>(layout.reads.size()), pitch = sizes.reads + kOver;
  const i64 count_a = layout.down_a_words(), count_b = layout.down_b_words();
  const int bits_a = ring.q_bits - shape.drop_a, bits_b = ring.q_bits - shape.drop_b;
  Scratch::Room room(scratch);
  u64* const a = room.take<u64>(size(8 * n));
  u64* const spare = room.take<u64>(size(n));
  Cell* const secrets = room.take<Cell>(size(sizes.blocks * n));
  Cell* const lanes = room.take<Cell>(size(8 * n));
  Cell* const products = room.take<Cell>(size(8 * n));
  u64* const words = room.take<u64>(size(std::max(8 * n, sizes.reads + kOver)));
  double* const values = room.take<double>(size(8 * pitch));

  const i64 seed = slab.block / kBlocksPerSeed;
  const Sinking sink(layer, kernel, pitch);
  for (i64 j = 0; j < slab.blocks; j++) kernel.spectrum(ring, layer.secrets->data() + (slab.block + j) * n, secrets + j * n);
  const auto read_a = [&](i64 first, i64 count, const u64* rows[8]) {
    kernel.unpack(layer.a, count_a, bits_a, (seed * layout.answers + slab.answer + first) * n, count * n, words);
    for (i64 j = 0; j < 8; j++) rows[j] = words + (j < count ? j : 0) * n;
  };
  // one product, (N) cells, to the values of one answer
  const bool merged = layout.stride == shape.grid_width;
  const i64 rows = merged ? 1 : shape.tile_rows, width = merged ? shape.tile_rows * shape.grid_width : shape.grid_width;
  const auto decode = [&](i64 block, i64 answer, i64 j) {
    kernel.unpack(layer.b, count_b, bits_b, (block * layout.answers + answer) * reads, reads, words);
    for (i64 run = 0; run < shape.p_out * shape.share; run++) {
      const i64 at = run / shape.share * layout.jump + run % shape.share * layout.slot, done = run * rows * width;
      kernel.decode(ring, products + j * n + at, rows, width, layout.stride, words + done, shape.drop_b, values + j * pitch + done);
    }
  };

  if (slab.answers >= 8) {  // lanes are answers, which stay as they are for all blocks
    for (i64 first = 0; first < slab.answers; first += 8) {
      const i64 count = std::min<i64>(8, slab.answers - first);
      const u64* from[8];
      read_a(first, count, from);
      kernel.transform_lanes(ring, from, shape.drop_a, a);
      for (i64 block = 0; block < slab.blocks; block++) {
        kernel.multiply_lanes(ring, a, secrets + block * n, static_cast<int>(count), products, lanes);
        for (i64 j = 0; j < count; j++) decode(slab.block + block, slab.answer + first + j, j);
        sink(slab.block + block, slab.answer + first, count, values);
      }
    }
    return;
  }
  // few answers: lanes are any pairs of a block and an answer, so that none is idle
  {
    const u64* from[8];
    u64* to[8];
    read_a(0, slab.answers, from);
    for (i64 j = 0; j < 8; j++) to[j] = j < slab.answers ? a + j * n : spare;
    kernel.transform(ring, from, shape.drop_a, to, lanes);
  }
  const i64 total = slab.blocks * slab.answers;
  for (i64 first = 0; first < total; first += 8) {
    const i64 count = std::min<i64>(8, total - first);
    DecryptRow each[8];
    for (i64 j = 0; j < 8; j++) {
      const i64 at = first + (j < count ? j : 0);
      each[j] = {a + at % slab.answers * n, secrets + at / slab.answers * n, products + j * n};
    }
    kernel.multiply(ring, each, static_cast<int>(count), lanes);
    for (i64 j = 0; j < count; j++) decode(slab.block + (first + j) / slab.answers, slab.answer + (first + j) % slab.answers, j);
    for (i64 j = 0; j < count;) {
      const i64 block = (first + j) / slab.answers, answer = (first + j) % slab.answers;
      const i64 run = std::min(count - j, slab.answers - answer);
      sink(slab.block + block, slab.answer + answer, run, values + j * pitch);
      j += run;
    }
  }
}

}  // namespace

void Sink::check(const Layout& layout) const {
  const Shape& shape = layout.shape;
  require(rows.size() == size(shape.rows) && value_scales.size() == size(shape.elements), "sink: one entry per row and element");
  for (const Part& part : parts) require(part.data != nullptr && part.count <= SIZE_MAX / sizeof(float), "sink: no tensor");
  for (const SinkRow& row : rows) {
    require(row.part >= 0 && static_cast<std::size_t>(row.part) < parts.size(), "sink: a row of no part");
    require(row.height >= 0 && row.height <= shape.grid_height && row.width >= 0 && row.width <= shape.grid_width,
            "sink: a row larger than the result");
    for (i64 step : {row.offset, row.element_step, row.row_step, row.column_step})
      require(step >= -kMostReach && step <= kMostReach, "sink: a step out of range");
    if (row.height == 0 || row.width == 0) continue;
    // heights and widths are at most 2^20, elements are counted down so that products stay below 2^62
    require(shape.elements <= (i64{1} << 20) || std::abs(row.element_step) <= (i64{1} << 30), "sink: a step out of range");
    const i64 down = (row.height - 1) * row.row_step, right = (row.width - 1) * row.column_step;
    const i64 on = (shape.elements - 1) * row.element_step;
    const i64 low = row.offset + std::min<i64>(0, down) + std::min<i64>(0, right) + std::min<i64>(0, on);
    const i64 high = row.offset + std::max<i64>(0, down) + std::max<i64>(0, right) + std::max<i64>(0, on);
    require(low >= 0 && high < static_cast<i64>(parts[size(row.part)].count), "sink: a value outside its tensor");
  }
}

void decrypt(const std::vector<Decryption>& layers) {
  if (std::fegetround() != FE_TONEAREST) throw std::runtime_error("the processor does not round to nearest");
  const ClientKernels& kernel = *kernels().client;
  const i64 wanted = 2 * threads();
  std::vector<Slab> slabs;
  Sizes sizes;
  for (std::size_t l = 0; l < layers.size(); l++) {
    const Decryption& layer = layers[l];
    require(layer.layout != nullptr && layer.secrets != nullptr && layer.a != nullptr && layer.b != nullptr,
            "decrypt: a layer that is not filled in");
    require((layer.sink != nullptr) != (layer.integers != nullptr), "decrypt: a sink or integers, one of them");
    const Layout& layout = *layer.layout;
    require(layer.secrets->size() == size(layout.blocks * layout.ring->n), "decrypt: secrets of another request");
    if (layer.sink != nullptr) layer.sink->check(layout);
    add_slabs(layout, l, up(wanted, static_cast<i64>(layers.size())), slabs);
    sizes.n = std::max(sizes.n, layout.ring->n);
    sizes.reads = std::max(sizes.reads, static_cast<i64>(layout.reads.size()));
  }
  for (const Slab& slab : slabs) sizes.blocks = std::max(sizes.blocks, slab.blocks);
  Scratch scratch(sizes.total());
  parallel(slabs.size(), [&](std::size_t i) { decrypt_slab(layers[slabs[i].layer], slabs[i], kernel, scratch, sizes); });
}

}  // namespace hecompile
