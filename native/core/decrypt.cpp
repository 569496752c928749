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

constexpr i64 kMostReach = i64{1} << 40;  // largest offset and step of a tensor's entries
constexpr i64 kSlabAnswers = 16;          // most answers of one task
constexpr i64 kOver = 8;                  // how many values inner loops may write beyond the last one

std::size_t size(i64 count) { return static_cast<std::size_t>(count); }
// a / b, rounded up.
i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// One task: answers [answer, answer + answers) of blocks [block, block + blocks), all with the same `a`.
struct Slab {
  std::size_t layer;
  i64 block, blocks, answer, answers;
};

// Cuts the answers of a layer into about `wanted` tasks.
void add_slabs(const Layout& layout, std::size_t layer, i64 wanted, std::vector<Slab>& slabs) {
  const i64 answers = layout.answers;
  for (i64 seed = 0; seed < layout.seeds; seed++) {
    const i64 first = seed * kBlocksPerSeed, blocks = std::min<i64>(kBlocksPerSeed, layout.blocks - first);
    if (answers > 8) {  // a task has some answers of all blocks, so that every `a` is transformed once
      const i64 slab_answers = answers < 8 * wanted ? 8 : kSlabAnswers;
      for (i64 answer = 0; answer < answers; answer += slab_answers)
        slabs.push_back({layer, first, blocks, answer, std::min(slab_answers, answers - answer)});
    } else {
      const i64 pieces = std::clamp<i64>(wanted, 1, ceil_div(blocks * answers, 16)), slab_blocks = ceil_div(blocks, pieces);
      for (i64 block = 0; block < blocks; block += slab_blocks)
        slabs.push_back({layer, first + block, std::min(slab_blocks, blocks - block), 0, answers});
    }
  }
}

// The memory of one task, large enough for every layer. `gathered`: how many coefficients of an answer hold results.
struct Sizes {
  i64 n = 0, blocks = 0, gathered = 0;
  std::size_t total() const {
    return Scratch::size_of<u64>(size(kSlabAnswers * n)) + Scratch::size_of<u64>(size(n)) +
           Scratch::size_of<Cell>(size(blocks * n)) + 2 * Scratch::size_of<Cell>(size(8 * n)) +
           Scratch::size_of<u64>(size(std::max(8 * n, gathered + kOver))) + Scratch::size_of<double>(size(gathered + kOver)) +
           Scratch::size_of<float>(size(kSlabAnswers * (gathered + kOver)));
  }
};

// Writes the values of answers into the sink's tensors. The values of a token lie side by side in the tensor but come from
// different answers. So they are first collected in a stage, (answers, pitch) floats, and then written 8 or 16 at a time, as whole
// lines of the cache.
class ResultWriter {
 public:
  ResultWriter(const Decryption& layer, const ClientKernels& kernel, float* stage, i64 pitch)
      : layer_(layer), kernel_(kernel), stage_(stage), pitch_(pitch), staged_(layer.layout->shape.grid_width == 1) {}

  // Writes the values of one answer, (gathered) doubles with room for seven more, to the tensors, or to row `j` of the stage.
  void take(i64 block, i64 answer, i64 j, const double* values) const {
    const Layout& layout = *layer_.layout;
    const Shape& shape = layout.shape;
    if (layer_.integers != nullptr) {
      const i64 gathered = static_cast<i64>(layout.gather_indices.size());
      i64* to = layer_.integers + (block * layout.answers + answer) * gathered;
      for (i64 k = 0; k < gathered; k++) to[k] = static_cast<i64>(values[k]);
      return;
    }
    for (i64 output = 0; output < shape.p_out && answer * shape.p_out + output < shape.rows; output++) {
      const SinkRow& row = layer_.sink->rows[size(answer * shape.p_out + output)];
      for (i64 index = 0; index < shape.images_per_poly; index++) {
        i64 element, first;
        if (!image_position(block, index, element, first)) break;
        const i64 rows = std::min<i64>(shape.band_rows, row.height - first);
        if (rows <= 0 || row.width == 0) continue;
        const i64 at = (output * shape.images_per_poly + index) * shape.band_rows * shape.grid_width;
        const double scale = layer_.sink->value_scales[size(element)] * row.scale;
        if (staged_) kernel_.finish(values + at, 1, rows, 0, scale, row.bias, stage_ + j * pitch_ + at, 0, 1);
        else
          kernel_.finish(values + at, rows, row.width, shape.grid_width, scale, row.bias, place(row, element, first), row.row_step,
                         row.column_step);
      }
    }
  }

  // Writes the values of `answers` neighbouring answers of one block from the stage, where they begin with row `j`, into the
  // tensors. Does nothing where the values were not staged.
  void flush(i64 block, i64 answer, i64 answers, i64 j) const {
    const Shape& shape = layer_.layout->shape;
    if (!staged_ || layer_.integers != nullptr) return;
    const i64 low = answer * shape.p_out, high = std::min((answer + answers) * shape.p_out, shape.rows);
    for (i64 index = 0; index < shape.images_per_poly; index++) {
      i64 element, first;
      if (!image_position(block, index, element, first)) break;
      const auto run = [&](i64 row) {
        return stage_ + (j + row / shape.p_out - answer) * pitch_ +
               (row % shape.p_out * shape.images_per_poly + index) * shape.band_rows;
      };
      for (i64 number = low; number < high;) {
        const SinkRow& row = layer_.sink->rows[size(number)];
        const i64 rows = std::min<i64>(shape.band_rows, row.height - first);
        const int octets = number + 16 <= high && side_by_side(number, 16) ? 2
                           : number + 8 <= high && side_by_side(number, 8) ? 1
                                                                           : 0;
        if (rows > 0 && row.width == 1 && octets != 0) {
          const float* from[16];
          for (i64 i = 0; i < 8 * octets; i++) from[i] = run(number + i);
          kernel_.interleave(from, octets, rows, place(row, element, first), row.row_step);
        } else if (row.width == 1 && octets == 0) {
          for (i64 y = 0; y < rows; y++) *place(row, element, first + y) = run(number)[y];
        }
        number += octets == 0 ? 1 : 8 * octets;
      }
    }
  }

 private:
  // Finds which element the image at position `index` of a block belongs to, and its first row in the result. Returns false for
  // positions that no element fills.
  bool image_position(i64 block, i64 index, i64& element, i64& first) const {
    const Layout& layout = *layer_.layout;
    const i64 number = block * layout.shape.images_per_poly + index;
    element = number / layout.row_bands, first = number % layout.row_bands * layout.shape.band_rows;
    return number < layout.shape.elements * layout.row_bands;
  }

  float* place(const SinkRow& row, i64 element, i64 y) const {
    return layer_.sink->parts[size(row.part)].data + element * row.element_step + row.offset + y * row.row_step;
  }

  // Whether the results of rows [number, number + count) lie side by side in one tensor.
  bool side_by_side(i64 number, i64 count) const {
    const SinkRow* rows = &layer_.sink->rows[size(number)];
    for (i64 i = 1; i < count; i++)
      if (rows[i].part != rows[0].part || rows[i].offset != rows[0].offset + i || rows[i].element_step != rows[0].element_step ||
          rows[i].row_step != rows[0].row_step || rows[i].height != rows[0].height || rows[i].width != rows[0].width)
        return false;
    return true;
  }

  const Decryption& layer_;
  const ClientKernels& kernel_;
  float* const stage_;
  const i64 pitch_;
  const bool staged_;  // whether values go through the stage: for grids of one column, which are tokens
};

void decrypt_slab(const Decryption& layer, const Slab& slab, const ClientKernels& kernel, Scratch& scratch, const Sizes& sizes) {
  const Layout& layout = *layer.layout;
  const Shape& shape = layout.shape;
  const RingView ring = layout.ring->view();
  const i64 n = ring.n, gathered = static_cast<i64>(layout.gather_indices.size()), pitch = sizes.gathered + kOver;
  const i64 count_a = layout.down_a_words(), count_b = layout.down_b_words();
  const int bits_a = ring.q_bits - shape.drop_a, bits_b = ring.q_bits - shape.drop_b;
  Scratch::Room room(scratch);
  u64* const a = room.take<u64>(size(kSlabAnswers * n));
  u64* const spare = room.take<u64>(size(n));
  Cell* const secrets = room.take<Cell>(size(sizes.blocks * n));
  Cell* const lanes = room.take<Cell>(size(8 * n));
  Cell* const products = room.take<Cell>(size(8 * n));
  u64* const words = room.take<u64>(size(std::max(8 * n, sizes.gathered + kOver)));
  double* const values = room.take<double>(size(pitch));
  float* const stage = room.take<float>(size(kSlabAnswers * pitch));

  const i64 seed = slab.block / kBlocksPerSeed;
  const ResultWriter writer(layer, kernel, stage, pitch);
  for (i64 j = 0; j < slab.blocks; j++) kernel.spectrum(ring, layer.secrets->data() + (slab.block + j) * n, secrets + j * n);
  const auto read_a = [&](i64 first, i64 count, const u64* rows[8]) {
    kernel.unpack(layer.a, count_a, bits_a, (seed * layout.answers + slab.answer + first) * n, count * n, words);
    for (i64 j = 0; j < 8; j++) rows[j] = words + (j < count ? j : 0) * n;
  };
  // Decodes an answer from product `j`, (N) cells, and writes its values, by way of row `place` of the stage if they are staged.
  const bool merged = layout.row_stride == shape.grid_width;
  const i64 rows = merged ? 1 : shape.band_rows, width = merged ? shape.band_rows * shape.grid_width : shape.grid_width;
  const auto decode = [&](i64 block, i64 answer, i64 j, i64 place) {
    kernel.unpack(layer.b, count_b, bits_b, (block * layout.answers + answer) * gathered, gathered, words);
    for (i64 run = 0; run < shape.p_out * shape.images_per_poly; run++) {
      const i64 at = run / shape.images_per_poly * layout.output_stride + run % shape.images_per_poly * layout.image_stride,
                done = run * rows * width;
      kernel.decode(ring, products + j * n + at, rows, width, layout.row_stride, words + done, shape.drop_b, values + done);
    }
    writer.take(block, answer, place, values);
  };

  if (slab.answers >= 8) {  // the eight lanes are eight answers, whose transformed `a` serves all blocks
    for (i64 first = 0; first < slab.answers; first += 8) {
      const u64* from[8];
      read_a(first, std::min<i64>(8, slab.answers - first), from);
      kernel.transform_lanes(ring, from, shape.drop_a, a + first * n);
    }
    for (i64 block = 0; block < slab.blocks; block++) {
      for (i64 first = 0; first < slab.answers; first += 8) {
        const i64 count = std::min<i64>(8, slab.answers - first);
        kernel.multiply_lanes(ring, a + first * n, secrets + block * n, static_cast<int>(count), products, lanes);
        for (i64 j = 0; j < count; j++) decode(slab.block + block, slab.answer + first + j, j, first + j);
      }
      writer.flush(slab.block + block, slab.answer, slab.answers, 0);
    }
    return;
  }
  // There are few answers, so the eight lanes are pairs of a block and an answer, and no lane is idle.
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
    DecryptRow eight[8];
    for (i64 j = 0; j < 8; j++) {
      const i64 at = first + (j < count ? j : 0);
      eight[j] = {a + at % slab.answers * n, secrets + at / slab.answers * n, products + j * n};
    }
    kernel.multiply(ring, eight, static_cast<int>(count), lanes);
    for (i64 j = 0; j < count; j++) decode(slab.block + (first + j) / slab.answers, slab.answer + (first + j) % slab.answers, j, j);
    for (i64 j = 0; j < count;) {
      const i64 block = (first + j) / slab.answers, answer = (first + j) % slab.answers;
      const i64 run = std::min(count - j, slab.answers - answer);
      writer.flush(slab.block + block, slab.answer + answer, run, j);
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
    require(row.part >= 0 && static_cast<std::size_t>(row.part) < parts.size(), "sink: a row whose part does not exist");
    require(row.height >= 0 && row.height <= shape.grid_height && row.width >= 0 && row.width <= shape.grid_width,
            "sink: a row larger than the result");
    for (i64 step : {row.offset, row.element_step, row.row_step, row.column_step})
      require(step >= -kMostReach && step <= kMostReach, "sink: a step out of range");
    if (row.height == 0 || row.width == 0) continue;
    // Heights and widths are at most 2^20, and a step between more than 2^20 elements is at most 2^30: products are at most 2^61.
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
    add_slabs(layout, l, ceil_div(wanted, static_cast<i64>(layers.size())), slabs);
    sizes.n = std::max(sizes.n, layout.ring->n);
    sizes.gathered = std::max(sizes.gathered, static_cast<i64>(layout.gather_indices.size()));
  }
  for (const Slab& slab : slabs) sizes.blocks = std::max(sizes.blocks, slab.blocks);
  Scratch scratch(sizes.total());
  parallel(slabs.size(), [&](std::size_t i) { decrypt_slab(layers[slabs[i].layer], slabs[i], kernel, scratch, sizes); });
}

}  // namespace hecompile
