// The client's half of a layer: float32 pictures to packed ciphertext words and back, one pass each way.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/buffer.h"
#include "core/layout.h"
#include "core/random.h"

namespace hecompile {

// Where the entries of a layer's pictures lie in a float32 tensor: entry (e, c, y, x) at
// elements[e] + channels[c] + y row_step + x column_step, for y < heights[c] and x < widths[c]; zero elsewhere.
struct Source {
  const float* data = nullptr;
  std::size_t count = 0;                      // floats of the tensor
  std::vector<std::int64_t> elements;         // (elements)
  std::vector<std::int32_t> scale_of;         // (elements): which scale
  std::vector<std::int64_t> channels;         // (channels)
  std::vector<std::int32_t> heights, widths;  // (channels), at most the picture's
  std::int64_t row_step = 0, column_step = 0;

  // Throws std::invalid_argument unless every entry of the layout's pictures lies in the tensor.
  void check(const Layout& layout, std::size_t scales) const;
};

// Where results go: row r of picture e at (y, x) becomes the float32 at
// elements[e] element_step + offset + y row_step + x column_step of its part's tensor, for y < height and x < width.
// Value: float32(clip(integer * (value_scale * scale))) + bias, clipped to +-3.0e38 in double before the conversion.
struct SinkRow {
  std::int32_t part;
  std::int64_t offset, element_step, row_step, column_step;
  std::int32_t height, width;
  double scale;
  float bias;
};
struct Sink {
  struct Part {
    float* data;
    std::size_t count;
  };
  std::vector<Part> parts;
  std::vector<SinkRow> rows;         // (rows of the layout)
  std::vector<double> value_scales;  // (elements)

  void check(const Layout& layout) const;
};

// Largest |entry| of each of `elements` runs of `size` floats, divided by `limit`, as scales: NaN counts as 0, infinities
// as 3.0e38; 1 for a run of zeros. In double: peak / limit, the same bits as hecompile.ir.readout.quantize_picture. scales:
// (elements).
void find_scales(const float* data, std::size_t elements, std::size_t size, double limit, double* scales);

// The secrets of one request and layer, in evaluation form: (blocks, N). Wiped when they go.
using Secrets = SecretBuffer<std::uint64_t>;

// One layer of one request. Messages are entries of `source`, quantised with `scales` to [-limit, limit]; or, where `integers` is
// set, (blocks, uploads, N) of them, each below t/2 and 2^31 in absolute value.
struct Encryption {
  const Layout* layout = nullptr;
  const Source* source = nullptr;
  const double* scales = nullptr;
  double limit = 0;
  const std::int64_t* integers = nullptr;
  Fill* fill = nullptr;
  Secrets* secrets = nullptr;     // out: drawn here
  std::uint8_t* words = nullptr;  // out: packed_bytes(up_words, q_bits)
};

// Draws secrets and errors, and encrypts: b = m (q-1)/t + e - a s for every upload of every block, packed.
// Throws std::runtime_error if a public seed gives too few words below q (2^-80 for each polynomial at most): draw another.
void encrypt(const std::vector<Encryption>& layers);

// One layer of one reply: `b` at the coefficients that are read, (blocks, answers, reads) words without their drop_b low bits, and
// `a` (seeds, answers, N) without drop_a, packed as on the wire. Every word decrypts: widened words are reduced modulo q.
struct Decryption {
  const Layout* layout = nullptr;
  const Secrets* secrets = nullptr;
  const std::uint8_t* b = nullptr;
  const std::uint8_t* a = nullptr;
  const Sink* sink = nullptr;        // out: values; or, where this is not set,
  std::int64_t* integers = nullptr;  // out: (blocks, answers, reads) in [-t/2, t/2)
};
void decrypt(const std::vector<Decryption>& layers);

}  // namespace hecompile
