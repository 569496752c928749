#include "core/encrypt.h"

#include <algorithm>
#include <bit>
#include <cfenv>
#include <stdexcept>
#include <string>

#include "core/expand.h"
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
constexpr i64 kSlabUploads = 32;          // most uploads of one task: random bytes are then drawn about half a megabyte at a time
constexpr i64 kPackedRows = 16;           // polynomials that are packed at once: tokens are then read by whole lines of the cache
constexpr i64 kNoiseRows = 48;            // polynomials whose errors are drawn at once

std::size_t size(i64 count) { return static_cast<std::size_t>(count); }
// a / b, rounded up.
i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

// Throws std::runtime_error unless doubles are rounded to nearest, which the proofs of exactness need.
void check_rounding() {
  if (std::fegetround() != FE_TONEAREST) throw std::runtime_error("the processor does not round to nearest");
}

// Which image lies at a position of a block: a picture, or a row band of one.
struct ImagePosition {
  i64 element, first_row;  // first_row: the row of the picture that is row 0 of the image
};

// Finds the image at position `index` of a block. Returns false for positions that no element fills.
bool image_position(const Layout& layout, i64 block, i64 index, ImagePosition& position) {
  const i64 number = block * layout.shape.images_per_poly + index;
  if (number >= layout.shape.elements * layout.row_bands) return false;
  position.element = number / layout.row_bands;
  position.first_row = number % layout.row_bands * layout.shape.band_rows + layout.low_row;
  return true;
}

// Quantises the messages of uploads [first, first + count) of one block. They are written to their coefficients in `rows`,
// (count, N) integers that were zero before.
class Packer {
 public:
  Packer(const Encryption& layer, const ClientKernels& kernel) : layer_(layer), kernel_(kernel) {
    if (layer.source == nullptr) return;
    quantizers_.reserve(size(layer.layout->shape.elements));  // growing would leave a copy of secret scales behind
    for (i64 e = 0; e < layer.layout->shape.elements; e++) {
      const double scale = layer.scales[layer.source->scale_of[size(e)]];
      quantizers_.push_back({scale, 1.0 / scale, layer.limit});
    }
  }
  ~Packer() {
    if (!quantizers_.empty()) explicit_bzero(static_cast<void*>(quantizers_.data()), quantizers_.size() * sizeof(Quantizer));
  }
  Packer(const Packer&) = delete;
  Packer& operator=(const Packer&) = delete;

  void operator()(i64 block, i64 first, i64 count, std::int32_t* rows) const {
    const Layout& layout = *layer_.layout;
    const Shape& shape = layout.shape;
    const i64 n = layout.ring->n;
    if (layer_.integers != nullptr) {
      const i64* from = layer_.integers + (block * layout.uploads + first) * n;
      for (i64 i = 0; i < count * n; i++) rows[i] = static_cast<std::int32_t>(from[i]);
      return;
    }
    const i64 low = first * shape.p_in, high = std::min((first + count) * shape.p_in, shape.channels);
    const auto start = [&](i64 channel) {
      return rows + (channel / shape.p_in - first) * n + channel % shape.p_in * layout.channel_stride;
    };
    for (i64 index = 0; index < shape.images_per_poly; index++) {
      ImagePosition position;
      if (!image_position(layout, block, index, position)) break;
      for (i64 channel = low; channel < high;) {
        if (channel + 16 <= high && pack_tokens(position, channel, 2, index * layout.image_stride, start))
          channel += 16;  // 16 floats are a line of the cache
        else if (channel + 8 <= high && pack_tokens(position, channel, 1, index * layout.image_stride, start)) channel += 8;
        else pack_image(position, channel, start(channel) + index * layout.image_stride), channel++;
      }
    }
  }

 private:
  // The rows [begin, end) of the image that lie within a picture of `height` rows.
  void rows_of(const ImagePosition& position, i64 height, i64& begin, i64& end) const {
    begin = std::max<i64>(0, -position.first_row), end = std::min(layer_.layout->in_rows, height - position.first_row);
  }

  void pack_image(const ImagePosition& position, i64 channel, std::int32_t* to) const {
    const Source& source = *layer_.source;
    const i64 stride = layer_.layout->row_stride, width = source.widths[size(channel)];
    i64 begin, end;
    rows_of(position, source.heights[size(channel)], begin, end);
    if (begin >= end || width == 0) return;
    const Quantizer& how = quantizers_[size(position.element)];
    const float* from = source.data + source.elements[size(position.element)] + source.channels[size(channel)];
    from += (position.first_row + begin) * source.row_step;
    to += begin * stride;
    if (width == 1 && stride == 1)  // a column is a row of entries that lie row_step apart
      kernel_.quantize(from, 1, end - begin, 0, source.row_step, how, to, 0);
    else if (width == stride && source.column_step == 1 && source.row_step == width)
      kernel_.quantize(from, 1, (end - begin) * width, 0, 1, how, to, 0);
    else kernel_.quantize(from, end - begin, width, source.row_step, source.column_step, how, to, stride);
  }

  // Packs 8 or 16 channels whose values lie side by side in a picture of one column. Returns false for other channels.
  template <typename Start>
  bool pack_tokens(const ImagePosition& position, i64 channel, int octets, i64 offset, const Start& start) const {
    const Source& source = *layer_.source;
    if (layer_.layout->row_stride != 1) return false;
    const std::int32_t height = source.heights[size(channel)];
    for (i64 i = 0; i < 8 * octets; i++)
      if (source.channels[size(channel + i)] != source.channels[size(channel)] + i || source.heights[size(channel + i)] != height ||
          source.widths[size(channel + i)] != 1)
        return false;
    i64 begin, end;
    rows_of(position, height, begin, end);
    if (begin >= end) return true;
    std::int32_t* to[16];
    for (i64 i = 0; i < 8 * octets; i++) to[i] = start(channel + i) + offset + begin;
    const float* from = source.data + source.elements[size(position.element)] + source.channels[size(channel)];
    kernel_.quantize_tokens(from + (position.first_row + begin) * source.row_step, octets, end - begin, source.row_step,
                            quantizers_[size(position.element)], to);
    return true;
  }

  const Encryption& layer_;
  const ClientKernels& kernel_;
  std::vector<Quantizer> quantizers_;  // (elements)
};

// One task: uploads [upload, upload + uploads) of blocks [block, block + blocks), all under one public seed.
struct Slab {
  std::size_t layer;
  i64 block, blocks, upload, uploads;
};

// Cuts the uploads of a layer into about `wanted` tasks.
void add_slabs(const Layout& layout, std::size_t layer, i64 wanted, std::vector<Slab>& slabs) {
  const i64 uploads = layout.uploads;
  for (i64 seed = 0; seed < layout.seeds; seed++) {
    const i64 first = seed * kBlocksPerSeed, blocks = std::min<i64>(kBlocksPerSeed, layout.blocks - first);
    if (uploads > 8) {  // a task has some uploads of all blocks, so that every `a` is expanded once
      const i64 pieces = std::max(ceil_div(uploads, kSlabUploads), std::min(wanted, ceil_div(uploads, 8)));
      const i64 slab_uploads = std::min(kSlabUploads, ceil_div(ceil_div(uploads, pieces), 8) * 8);
      for (i64 upload = 0; upload < uploads; upload += slab_uploads)
        slabs.push_back({layer, first, blocks, upload, std::min(slab_uploads, uploads - upload)});
    } else {
      const i64 pieces = std::clamp<i64>(wanted, 1, ceil_div(blocks * uploads, 16)), slab_blocks = ceil_div(blocks, pieces);
      for (i64 block = 0; block < blocks; block += slab_blocks)
        slabs.push_back({layer, first + block, std::min(slab_blocks, blocks - block), 0, uploads});
    }
  }
}

// The memory of one task, large enough for every layer.
struct Sizes {
  i64 n = 0, bytes = 0, blocks = 0;
  std::size_t total() const {
    return Scratch::size_of<std::uint8_t>(size(bytes)) + Scratch::size_of<u64>(size(kSlabUploads * n)) +
           Scratch::size_of<Cell>(size(blocks * n)) + Scratch::size_of<Cell>(size(8 * n)) +
           Scratch::size_of<std::int32_t>(size(kPackedRows * n));
  }
};

// Draws the secrets of up to eight blocks, from block `first` on.
void draw_secrets(const Encryption& layer, i64 first, const ClientKernels& kernel, Scratch& scratch) {
  const Layout& layout = *layer.layout;
  const i64 n = layout.ring->n, count = std::min<i64>(8, layout.blocks - first);
  const Positions positions = layout.positions();
  Scratch::Room room(scratch);
  std::uint8_t* const random = room.take<std::uint8_t>(size(8 * 8 * n));
  u64* const spare = room.take<u64>(size(n));
  Cell* const lanes = room.take<Cell>(size(8 * n));
  layer.fill->fill(Stream::kSecrets, 0, positions.secret_at(first), random, size(count) * positions.secret_bytes());
  const std::uint8_t* from[8];
  u64* to[8];
  for (i64 j = 0; j < 8; j++) {
    from[j] = random + (j < count ? j : 0) * 8 * n;
    to[j] = j < count ? layer.secrets->data() + (first + j) * n : spare;
  }
  kernel.draw_secrets(layout.ring->view(), from, to, lanes);
}

// Encrypts the uploads of one task, with secrets that were drawn before.
void encrypt_slab(const Encryption& layer, const Slab& slab, const ClientKernels& kernel, Scratch& scratch, const Sizes& sizes) {
  const Layout& layout = *layer.layout;
  const RingView ring = layout.ring->view();
  const i64 n = ring.n, rows = slab.blocks * slab.uploads;
  const Positions positions = layout.positions();
  const int group = static_cast<int>(slab.block / kBlocksPerSeed);
  const Packer place(layer, kernel);
  Scratch::Room room(scratch);
  std::uint8_t* const bytes = room.take<std::uint8_t>(size(sizes.bytes));
  u64* const a = room.take<u64>(size(kSlabUploads * n));
  Cell* const secrets = room.take<Cell>(size(sizes.blocks * n));
  Cell* const lanes = room.take<Cell>(size(8 * n));
  std::int32_t* const messages = room.take<std::int32_t>(size(kPackedRows * n));

  const i64 public_bytes = static_cast<i64>(positions.public_bytes()), error_bytes = static_cast<i64>(positions.error_bytes());
  layer.fill->fill(Stream::kPublic, group, positions.public_at(slab.upload), bytes, size(slab.uploads * public_bytes));
  for (i64 i = 0; i < slab.uploads; i++)
    if (!expand(*layout.ring, bytes + i * public_bytes, a + i * n))
      throw std::runtime_error("a public seed gives too few words below the modulus");
  for (i64 j = 0; j < slab.blocks; j++) kernel.spectrum(ring, layer.secrets->data() + (slab.block + j) * n, secrets + j * n);

  // How many polynomials' errors are drawn at once. Where the uploads of a block fill all lanes these are whole blocks, since fewer
  // calls draw the random bytes of whole blocks.
  const i64 chunk = slab.uploads % 8 == 0 ? kNoiseRows / slab.uploads * slab.uploads : kNoiseRows;
  for (i64 first = 0; first < rows; first += chunk) {
    const i64 last = std::min(rows, first + chunk);
    // One call draws for uploads of one block, or for all blocks where a task has all uploads, as their bytes follow each other.
    for (i64 row = first; row < last;) {
      const i64 block = row / slab.uploads, upload = row % slab.uploads;
      const i64 count = slab.uploads == layout.uploads ? last - row : std::min(last - row, slab.uploads - upload);
      layer.fill->fill(Stream::kErrors, 0, positions.error_at(slab.block + block, slab.upload + upload),
                       bytes + (row - first) * error_bytes, size(count * error_bytes));
      row += count;
    }
    for (i64 row = first; row < last; row += kPackedRows) {
      const i64 placed = std::min(kPackedRows, last - row);
      if (layer.integers == nullptr) std::memset(messages, 0, sizeof(std::int32_t) * size(placed * n));
      for (i64 j = 0; j < placed;) {
        const i64 block = (row + j) / slab.uploads, upload = (row + j) % slab.uploads;
        const i64 run = std::min(placed - j, slab.uploads - upload);
        place(slab.block + block, slab.upload + upload, run, messages + j * n);
        j += run;
      }
      for (i64 octet = 0; octet < placed; octet += 8) {
        const i64 count = std::min<i64>(8, placed - octet);
        EncryptRow eight[8];
        for (i64 j = 0; j < 8; j++) {
          const i64 used = octet + (j < count ? j : 0), block = (row + used) / slab.uploads, upload = (row + used) % slab.uploads;
          eight[j] = {a + upload * n, secrets + block * n, messages + used * n, bytes + (row + used - first) * error_bytes,
                      ((slab.block + block) * layout.uploads + slab.upload + upload) * n};
        }
        kernel.encrypt(ring, eight, static_cast<int>(count), lanes, layer.words, layout.up_words());
      }
    }
  }
}

}  // namespace

void Source::check(const Layout& layout, std::size_t scales) const {
  const Shape& shape = layout.shape;
  require(data != nullptr && count <= SIZE_MAX / sizeof(float), "source: no tensor");
  require(elements.size() == size(shape.elements) && scale_of.size() == elements.size(),
          "source: one offset and scale per element");
  require(channels.size() == size(shape.channels) && heights.size() == channels.size() && widths.size() == channels.size(),
          "source: one offset and size per channel");
  require(std::abs(row_step) <= kMostReach && std::abs(column_step) <= kMostReach, "source: a step out of range");
  i64 low_element = kMostReach, high_element = -kMostReach, low = 2 * kMostReach, high = -2 * kMostReach;
  for (std::size_t e = 0; e < elements.size(); e++) {
    require(elements[e] >= 0 && elements[e] <= kMostReach, "source: an element outside the tensor");
    require(scale_of[e] >= 0 && static_cast<std::size_t>(scale_of[e]) < scales, "source: an element without a scale");
    low_element = std::min(low_element, elements[e]), high_element = std::max(high_element, elements[e]);
  }
  for (std::size_t c = 0; c < channels.size(); c++) {
    require(channels[c] >= 0 && channels[c] <= kMostReach, "source: a channel outside the tensor");
    require(heights[c] >= 0 && heights[c] <= shape.height && widths[c] >= 0 && widths[c] <= shape.width,
            "source: a channel larger than the picture");
    if (heights[c] == 0 || widths[c] == 0) continue;
    // Heights and widths are at most 2^20, so products are at most 2^60.
    const i64 rows = (heights[c] - 1) * row_step, columns = (widths[c] - 1) * column_step;
    low = std::min(low, channels[c] + std::min<i64>(0, rows) + std::min<i64>(0, columns));
    high = std::max(high, channels[c] + std::max<i64>(0, rows) + std::max<i64>(0, columns));
  }
  if (high < low) return;  // no entries at all
  require(low_element + low >= 0 && high_element + high < static_cast<i64>(count), "source: an entry outside the tensor");
}

void find_scales(const float* data, std::size_t elements, std::size_t element_size, double limit, double* scales) {
  require(limit > 0 && limit <= 2147483647.0, "the quantiser's limit must be from 1 to 2^31 - 1");
  check_rounding();
  const ClientKernels& kernel = *kernels().client;
  constexpr std::size_t kPiece = std::size_t{1} << 18;
  const std::size_t pieces = (element_size + kPiece - 1) / kPiece;
  SecretBuffer<double> peaks(elements * pieces);
  parallel(elements * pieces, [&](std::size_t task) {
    const std::size_t element = task / pieces, from = task % pieces * kPiece;
    peaks[task] = kernel.peak(data + element * element_size + from, static_cast<i64>(std::min(kPiece, element_size - from)));
  });
  for (std::size_t e = 0; e < elements; e++) {
    double peak = 0;
    for (std::size_t piece = 0; piece < pieces; piece++) peak = std::max(peak, peaks[e * pieces + piece]);
    const double scale = peak / limit;
    const u64 positive = 0 - static_cast<u64>(scale > 0);  // a mask, not a branch
    scales[e] = std::bit_cast<double>((positive & std::bit_cast<u64>(scale)) | (~positive & std::bit_cast<u64>(1.0)));
  }
}

void encrypt(const std::vector<Encryption>& layers) {
  check_rounding();
  const ClientKernels& kernel = *kernels().client;
  const i64 wanted = 2 * threads();
  std::vector<Slab> slabs;
  std::vector<std::pair<std::size_t, i64>> draws;
  Sizes sizes;
  for (std::size_t l = 0; l < layers.size(); l++) {
    const Encryption& layer = layers[l];
    require(layer.layout != nullptr && layer.fill != nullptr && layer.secrets != nullptr && layer.words != nullptr,
            "encrypt: a layer that is not filled in");
    require((layer.source != nullptr) != (layer.integers != nullptr), "encrypt: floats or integers, one of them");
    const Layout& layout = *layer.layout;
    if (layer.source != nullptr) {
      require(layer.scales != nullptr, "encrypt: floats without scales");
      require(layer.limit >= 1 && layer.limit <= 2147483647.0 &&
                  layer.limit == static_cast<double>(static_cast<i64>(layer.limit)) &&
                  layer.limit < static_cast<double>(i64{1} << (layout.ring->t_bits - 1)),
              "encrypt: the quantiser's limit is no integer from 1 to 2^31 - 1 and below t/2");
      std::size_t scales = 0;
      for (std::int32_t index : layer.source->scale_of) scales = std::max(scales, static_cast<std::size_t>(std::max(index, 0)) + 1);
      layer.source->check(layout, scales);
    }
    add_slabs(layout, l, ceil_div(wanted, static_cast<i64>(layers.size())), slabs);
    for (i64 first = 0; first < layout.blocks; first += 8) draws.push_back({l, first});
    const Positions positions = layout.positions();
    sizes.n = std::max(sizes.n, layout.ring->n);
    const i64 errors = kNoiseRows * static_cast<i64>(positions.error_bytes());
    sizes.bytes = std::max({sizes.bytes, 64 * layout.ring->n, errors, kSlabUploads * static_cast<i64>(positions.public_bytes())});
  }
  for (const Slab& slab : slabs) sizes.blocks = std::max(sizes.blocks, slab.blocks);
  for (const Encryption& layer : layers) *layer.secrets = Secrets(size(layer.layout->blocks * layer.layout->ring->n));
  Scratch scratch(sizes.total());
  parallel(draws.size(), [&](std::size_t i) { draw_secrets(layers[draws[i].first], draws[i].second, kernel, scratch); });
  parallel(slabs.size(), [&](std::size_t i) { encrypt_slab(layers[slabs[i].layer], slabs[i], kernel, scratch, sizes); });
}

}  // namespace hecompile
