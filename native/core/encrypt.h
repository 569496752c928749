// The client's half of a layer: float32 pictures become packed ciphertext words, and words of a reply become float32 values. Each
// direction reads and writes its data once.
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
  std::vector<std::int32_t> scale_of;         // (elements): the index of each element's scale
  std::vector<std::int64_t> channels;         // (channels)
  std::vector<std::int32_t> heights, widths;  // (channels), at most the picture's
  std::int64_t row_step = 0, column_step = 0;

  // Throws std::invalid_argument unless every entry of the layout's pictures lies in the tensor.
  void check(const Layout& layout, std::size_t scales) const;
};

// Where the results of one row (an output channel) go: the result of element e at (y, x) becomes the float32 at
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

  // Throws std::invalid_argument unless every result of the layout has a float within the tensor of its part.
  void check(const Layout& layout) const;
};

// Writes the scale of each of `elements` runs of `element_size` floats to scales, (elements): the largest |entry| divided by
// `limit` in double, or 1 for a run of zeros. NaN counts as 0, an infinity as 3.0e38. The same bits as
// hecompile.ir.dequantizer.quantize_picture.
void find_scales(const float* data, std::size_t elements, std::size_t element_size, double limit, double* scales);

// The secrets of one request and layer, in evaluation form: (blocks, N). The memory is wiped before it is freed.
using Secrets = SecretBuffer<std::uint64_t>;

// What to encrypt of one layer of one request. Messages are the entries of `source`, quantised with `scales` to [-limit, limit]; or
// `integers`, where that is set: (blocks, uploads, N) of them, each below t/2 and 2^31 in absolute value.
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
// Throws std::runtime_error if a public seed gives too few words below q: then draw another seed. The probability is at most 2^-80
// for each polynomial.
void encrypt(const std::vector<Encryption>& layers);

// What to decrypt of one layer of one reply: `b` at the gathered coefficients, (blocks, answers, gathered) words without their
// drop_b low bits, and `a`, (seeds, answers, N) words without drop_a low bits, packed as on the wire. Any bits are accepted: words
// are reduced modulo q.
struct Decryption {
  const Layout* layout = nullptr;
  const Secrets* secrets = nullptr;
  const std::uint8_t* b = nullptr;
  const std::uint8_t* a = nullptr;
  const Sink* sink = nullptr;        // out: values; or, where this is not set,
  std::int64_t* integers = nullptr;  // out: (blocks, answers, gathered) in [-t/2, t/2)
};
// Decrypts and decodes the layers. Throws std::invalid_argument for a sink or secrets that do not fit.
void decrypt(const std::vector<Decryption>& layers);

}  // namespace hecompile
