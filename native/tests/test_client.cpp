// Compares the client's half with slow and simple versions of it, for every kernel that this processor runs.
#include <time.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/encrypt.h"
#include "core/expand.h"
#include "core/kernels.h"
#include "core/layout.h"
#include "core/pool.h"
#include "core/ring.h"
#include "core/wire.h"
#include "kernels/client_kernels.h"

namespace {

using namespace hecompile;
using i64 = std::int64_t;
using u64 = std::uint64_t;
__extension__ using u128 = unsigned __int128;

int failures = 0;

#define CHECK(holds)                                                  \
  do {                                                                \
    if (!(holds)) {                                                   \
      std::printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #holds); \
      failures++;                                                     \
    }                                                                 \
  } while (false)

// Pseudo-random words (splitmix64).
struct Random {
  u64 state;
  u64 next() {
    u64 z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9, z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
};

u64 times(u64 a, u64 b, u64 q) { return static_cast<u64>(static_cast<u128>(a) * b % q); }
u64 power(u64 base, u64 exponent, u64 q) {
  u64 result = 1;
  for (; exponent != 0; exponent >>= 1, base = times(base, base, q))
    if (exponent & 1) result = times(result, base, q);
  return result;
}
bool prime(u64 q) {
  for (u64 base : {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37}) {
    u64 x = power(base, (q - 1) >> std::countr_zero(q - 1), q);
    bool passes = x == 1 || x == q - 1;
    for (int i = 1; i < std::countr_zero(q - 1) && !passes; i++) passes = (x = times(x, x, q)) == q - 1;
    if (!passes) return false;
  }
  return true;
}
// The largest prime of `bits` bits that is 1 modulo 2N and t.
std::shared_ptr<const Ring> ring_with(i64 n, int bits, int t_bits) {
  const u64 step = std::max<u64>(2 * static_cast<u64>(n), u64{1} << t_bits);
  u64 q = ((u64{1} << bits) - 1) / step * step + 1;
  if (q >> bits) q -= step;
  while (!prime(q)) q -= step;
  return ring_of(n, q, t_bits);
}

// A ring to test.
struct Case {
  i64 n;
  int q_bits, t_bits;
};
const Case kCases[] = {{2048, 33, 21}, {2048, 40, 16}, {2048, 47, 33}, {2048, 48, 25},  {2048, 50, 36},  {4096, 50, 20},
                       {4096, 48, 33}, {1024, 28, 13}, {8192, 50, 30}, {16384, 49, 20}, {32768, 50, 30}, {32768, 48, 30}};

// Fills words: kind 0 is random ones, 1 is q - 1, 2 is words next to q / 2, 3 is a mixture of 0 and q - 1.
void fill_words(Random& random, u64 q, u64* words, i64 count, int kind) {
  for (i64 i = 0; i < count; i++) {
    const u64 r = random.next();
    words[i] = kind == 0 ? r % q : kind == 1 ? q - 1 : kind == 2 ? (q - 1) / 2 + (r & 1) : (r & 1 ? q - 1 : 0);
  }
}

void test_transforms() {
  Random random{1};
  for (const Case& c : kCases) {
    const auto ring = ring_with(c.n, c.q_bits, c.t_bits);
    const u64 q = ring->q;
    const RingView view = ring->view();
    Buffer<Cell> lanes(static_cast<std::size_t>(8 * c.n));
    Buffer<u64> words(lanes.size()), out(lanes.size()), reference(lanes.size());
    for (int kind = 0; kind < 4; kind++) {
      fill_words(random, q, words.data(), 8 * c.n, kind);
      bool first = true;
      for (bool back : {false, true})
        for (const Kernels* kernel : runnable_kernels()) {
          const ClientKernels& client = *kernel->client;
          client.to_cells(view, words.data(), 8 * c.n, lanes.data());
          if (back) {  // `backward` takes values of at most 3/4 q
            client.centre(view, lanes.data(), 8 * c.n);
            client.backward(view, lanes.data());
          } else {
            client.forward(view, lanes.data());
          }
          client.to_words(view, lanes.data(), 8 * c.n, out.data());
          if (kernel == runnable_kernels().front()) std::memcpy(reference.data(), out.data(), 8 * out.size());
          else CHECK(std::memcmp(reference.data(), out.data(), 8 * out.size()) == 0);
          if (!first || kind > 1 || c.n > 4096) continue;
          // some results are compared with the definition
          for (i64 k : {i64{0}, i64{1}, c.n / 2 + 3, c.n - 1}) {
            u64 reversed = 0;
            for (int bit = 0; bit < view.levels; bit++) reversed |= (static_cast<u64>(k) >> bit & 1) << (view.levels - 1 - bit);
            for (i64 lane : {0, 7}) {
              u64 value = 0;
              if (!back) {
                const u64 point = power(ring->psi, 2 * reversed + 1, q);
                for (i64 i = c.n - 1; i >= 0; i--)
                  value = (times(value, point, q) + words[static_cast<std::size_t>(8 * i + lane)]) % q;
              } else {
                for (i64 i = 0; i < c.n; i++) {
                  u64 turned = 0;
                  for (int bit = 0; bit < view.levels; bit++) turned |= (static_cast<u64>(i) >> bit & 1) << (view.levels - 1 - bit);
                  const u64 exponent = (2 * turned + 1) * static_cast<u64>(k) % (2 * static_cast<u64>(c.n));
                  const u64 root = power(ring->psi, 2 * static_cast<u64>(c.n) - exponent, q);
                  value = (value + times(words[static_cast<std::size_t>(8 * i + lane)], root, q)) % q;
                }
              }
              CHECK(value == out[static_cast<std::size_t>(8 * k + lane)]);
            }
          }
        }
      first = false;
    }
  }
}

std::size_t size(i64 count) { return static_cast<std::size_t>(count); }

// ---------------------------------------------------------------- words on the wire

void test_wire() {
  Random random{2};
  for (int bits = 1; bits <= 56; bits++)
    for (std::size_t total : {1, 7, 8, 9, 64, 203}) {
      std::vector<u64> words(total);
      for (u64& word : words) word = random.next() & ((u64{1} << bits) - 1);
      const std::size_t bytes = packed_bytes(total, bits);
      std::vector<std::uint8_t> expected(bytes, 0);  // packed bit by bit
      const std::size_t whole = size(bits / 8), rest = size(bits % 8);
      for (std::size_t i = 0; i < total; i++) {
        for (std::size_t k = 0; k < whole; k++) expected[i * whole + k] = static_cast<std::uint8_t>(words[i] >> (8 * k));
        for (std::size_t k = 0; k < rest; k++)
          if (words[i] >> (8 * whole + k) & 1) {
            std::uint8_t& byte = expected[total * whole + (i * rest + k) / 8];
            byte = static_cast<std::uint8_t>(byte | 1 << (i * rest + k) % 8);
          }
      }
      for (const Kernels* kernel : runnable_kernels()) {
        use_kernel(kernel->name);
        std::vector<std::uint8_t> data(bytes, 0xee);
        for (std::size_t first = 0; first < total;) {
          const std::size_t count = std::min<std::size_t>(total - first, 8 * (1 + random.next() % 5));
          pack_words(words.data() + first, data.data(), total, bits, first, count);
          first += count;
        }
        CHECK(data == expected);
        CHECK(padding_is_zero(data.data(), total, bits));
        for (int i = 0; i < 20; i++) {
          const std::size_t first = random.next() % total, count = random.next() % (total - first + 1);
          std::vector<u64> out(count);
          unpack_words(data.data(), total, bits, first, count, out.data());
          CHECK(std::equal(out.begin(), out.end(), words.begin() + static_cast<i64>(first)));
        }
        if (total * rest % 8 != 0) {
          data.back() |= 0x80;
          CHECK(!padding_is_zero(data.data(), total, bits));
        }
      }
    }
}

// ---------------------------------------------------------------- scales and quantising

double finite(float x) {
  if (std::isnan(x)) return 0;
  if (std::isinf(x)) return x > 0 ? 3.0e38 : -3.0e38;
  return x;
}

double scale_of(const float* data, std::size_t count, double limit) {
  double peak = 0;
  for (std::size_t i = 0; i < count; i++) peak = std::max(peak, std::abs(finite(data[i])));
  const double scale = peak > 0 ? peak / limit : 1.0;
  return scale > 0 ? scale : 1.0;
}

double quantized(float x, double scale, double limit) { return std::clamp(std::nearbyint(finite(x) / scale), -limit, limit); }

// Random floats. kind 0: usual numbers; 1: with infinities and NaN; 2: denormal ones; 3: zeros; 4: any bits; 5: numbers next to
// halves.
std::vector<float> floats(Random& random, std::size_t count, int kind) {
  std::vector<float> result(count);
  for (float& x : result) {
    const u64 r = random.next();
    const float number = static_cast<float>(static_cast<double>(static_cast<i64>(r)) / 9.3e18 * 3.7);
    switch (kind) {
      case 0:
        x = number;
        break;
      case 1:
        x = r % 50 == 0 ? NAN : r % 50 == 1 ? INFINITY : r % 50 == 2 ? -INFINITY : number;
        break;
      case 2:
        x = std::bit_cast<float>(static_cast<std::uint32_t>(r) & 0x807fffffU);
        break;
      case 3:
        x = r & 1 ? -0.0F : 0.0F;
        break;
      case 4:
        x = std::bit_cast<float>(static_cast<std::uint32_t>(r));
        break;
      default:
        x = std::nextafterf(static_cast<float>(r % 401) / 2.0F - 100.0F, r & (1 << 20) ? 1e9F : -1e9F);
    }
  }
  return result;
}

void test_quantizing() {
  Random random{3};
  for (const Kernels* kernel : runnable_kernels()) {
    use_kernel(kernel->name);
    for (int kind = 0; kind < 6; kind++)
      for (double limit : {1.0, 127.0, 2047.0, 2147483647.0}) {
        const std::size_t count = 5003;
        const std::vector<float> data = floats(random, 2 * count, kind);
        double scales[2];
        find_scales(data.data(), 2, count, limit, scales);
        for (std::size_t e = 0; e < 2; e++) {
          CHECK(scales[e] == scale_of(data.data() + e * count, count, limit));
          std::vector<std::int32_t> out(count);
          for (double scale : {scales[e], scales[e] / 7.0, 1.0, 0.999999999999, std::nextafter(2.0, 0.0), 1.0 / 3.0}) {
            bool same = true;
            const float* from = data.data() + e * count;
            kernel->client->quantize(from, 1, static_cast<i64>(count), 0, 1, {scale, 1.0 / scale, limit}, out.data(), 0);
            for (std::size_t i = 0; i < count; i++) same &= out[i] == static_cast<std::int32_t>(quantized(from[i], scale, limit));
            CHECK(same);
          }
        }
      }
    // Quotients next to a half h, on both sides of it: the scale is moved by up to three units in its last place.
    i64 wrong = 0;
    for (int i = 0; i < 200000; i++) {
      const double half = static_cast<double>(random.next() % 4096) + 0.5;
      const float x = static_cast<float>(half * (1.0 + static_cast<double>(random.next() >> 12) * 0x1p-52));
      double scale = static_cast<double>(x) / half;
      const i64 units = static_cast<i64>(random.next() % 7) - 3;
      scale = std::bit_cast<double>(std::bit_cast<i64>(scale) + units);
      std::int32_t out;
      kernel->client->quantize(&x, 1, 1, 0, 1, {scale, 1.0 / scale, 1e6}, &out, 0);
      wrong += out != static_cast<std::int32_t>(quantized(x, scale, 1e6));
    }
    CHECK(wrong == 0);
  }
}

// ---------------------------------------------------------------- whole layers

// Streams of pseudo-random bytes that depend on seed, stream, group and position only, not on how they are asked for.
class TestFill : public Fill {
 public:
  explicit TestFill(u64 seed) : seed_(seed) {}
  void fill(Stream stream, int group, u64 position, std::uint8_t* out, std::size_t count) override {
    if (position % 16 != 0) std::abort();
    for (std::size_t i = 0; i < count; i += 8) {
      const u64 word = at(stream, group, position + i);
      std::memcpy(out + i, &word, std::min<std::size_t>(8, count - i));
    }
  }
  u64 at(Stream stream, int group, u64 position) const {
    Random random{seed_ ^ static_cast<u64>(stream) << 60 ^ static_cast<u64>(group) << 50 ^ (position / 8) * 0xd1342543de82ef95};
    return random.next();
  }
  std::uint8_t byte(Stream stream, int group, u64 position) const {
    return static_cast<std::uint8_t>(at(stream, group, position / 8 * 8) >> (8 * (position % 8)));
  }

 private:
  u64 seed_;
};

std::vector<Tap> square(int low, int high) {
  std::vector<Tap> taps;
  for (int y = low; y <= high; y++)
    for (int x = low; x <= high; x++) taps.push_back({y, x});
  return taps;
}

// A layer to test.
struct Problem {
  Case ring;
  Shape shape;
  bool tokens;
  int step;  // between columns, and between rows, of a tensor: 2 for space-to-depth and back
  int kind;  // see `floats`
};

const Problem kProblems[] = {
    {{2048, 33, 21}, {2, 5, 9, 7, 6, 9, 7, square(-1, 1), 2, 9, 3, 4, 0, 0}, false, 1, 0},
    {{2048, 40, 16}, {3, 11, 9, 7, 7, 9, 7, square(-1, 1), 2, 9, 4, 2, 8, 5}, false, 1, 1},
    {{2048, 48, 25}, {2, 9, 40, 33, 10, 40, 33, square(-1, 1), 1, 13, 2, 2, 3, 4}, false, 1, 0},
    {{2048, 48, 25}, {2, 3, 40, 33, 10, 40, 33, square(-1, 1), 3, 13, 1, 1, 3, 4}, false, 1, 4},
    {{2048, 47, 33}, {1, 37, 8, 8, 9, 6, 6, square(0, 2), 1, 6, 1, 1, 0, 0}, false, 1, 0},
    {{2048, 50, 36}, {2, 19, 77, 1, 21, 77, 1, {{0, 0}}, 2, 77, 3, 4, 0, 0}, true, 1, 0},
    {{4096, 50, 20}, {1, 33, 300, 1, 27, 300, 1, {{0, 0}}, 1, 128, 5, 3, 9, 5}, true, 1, 1},
    {{4096, 48, 33}, {130, 4, 3, 3, 3, 3, 3, square(-1, 1), 1, 3, 2, 2, 0, 0}, false, 1, 0},
    {{2048, 49, 25}, {3, 12, 5, 6, 8, 5, 6, square(-1, 0), 3, 5, 4, 3, 1, 2}, false, 2, 2},
    {{2048, 45, 20}, {1, 40, 64, 1, 48, 64, 1, {{0, 0}}, 1, 64, 8, 4, 2, 3}, true, 1, 3},
    {{1024, 28, 10}, {2, 3, 8, 8, 3, 8, 8, square(-1, 1), 1, 8, 1, 1, 0, 0}, false, 1, 0},
};

// The input tensor of a problem, and where the entries of pictures lie in it.
struct Input {
  std::vector<float> tensor;
  Source source;
  // The entry of a picture, or zero outside of it.
  float at(i64 e, i64 c, i64 y, i64 x) const {
    if (y < 0 || x < 0 || y >= source.heights[size(c)] || x >= source.widths[size(c)]) return 0;
    return tensor[size(source.elements[size(e)] + source.channels[size(c)] + y * source.row_step + x * source.column_step)];
  }
};

Input input_of(const Problem& p, Random& random) {
  const Shape& s = p.shape;
  Input in;
  const i64 plane = s.height * s.width * p.step * p.step;
  in.tensor = floats(random, size(s.elements * s.channels * plane + 13), p.kind);
  Source& source = in.source;
  source.data = in.tensor.data(), source.count = in.tensor.size();
  for (i64 e = 0; e < s.elements; e++)
    source.elements.push_back(e * s.channels * plane), source.scale_of.push_back(static_cast<int>(e));
  for (i64 c = 0; c < s.channels; c++) {
    const i64 channel = p.tokens ? c : p.step == 1 ? c * plane : c / 4 * plane + (c % 4) / 2 * 2 * s.width + c % 2;
    source.channels.push_back(channel);
    const bool shorter = p.step == 2 && c % 4 >= 2;  // an odd picture's last row is missing
    source.heights.push_back(static_cast<int>(s.height - shorter)), source.widths.push_back(static_cast<int>(s.width));
  }
  source.row_step = p.tokens ? s.channels : s.width * p.step * p.step, source.column_step = p.step;
  return in;
}

// The result tensors of a problem: its rows are shared out between two.
struct Output {
  std::vector<float> tensors[2];
  Sink sink;
};

void output_of(const Problem& p, Random& random, Output& out) {
  const Shape& s = p.shape;
  const i64 plane = s.grid_height * s.grid_width * p.step * p.step, split = s.rows / 2 / (p.step * p.step) * (p.step * p.step);
  for (int part = 0; part < 2; part++) {
    const i64 rows = part == 0 ? split : s.rows - split;
    out.tensors[part].assign(size(s.elements * rows * plane + 5), -77.0F);
    out.sink.parts.push_back({out.tensors[part].data(), out.tensors[part].size()});
    for (i64 r = 0; r < rows; r++) {
      SinkRow row{};
      row.part = part;
      const i64 count = p.tokens ? rows : 0;
      row.offset = p.tokens ? r : p.step == 1 ? r * plane : r / 4 * plane + (r % 4) / 2 * 2 * s.grid_width + r % 2;
      row.element_step = rows * plane, row.row_step = p.tokens ? count : s.grid_width * p.step * p.step, row.column_step = p.step;
      row.height = static_cast<int>(s.grid_height - (p.step == 2 && r % 4 >= 2)), row.width = static_cast<int>(s.grid_width);
      row.scale = static_cast<double>(random.next() >> 12) * 0x1p-52, row.bias = static_cast<float>(random.next() >> 40) * 0x1p-20F;
      out.sink.rows.push_back(row);
    }
  }
  for (i64 e = 0; e < s.elements; e++) out.sink.value_scales.push_back(e == 0 ? 1e37 : 0.125 * static_cast<double>(e));
}

// One weight of an output channel. `picks` gives the weights of output channel `row` that are not zero: 2 for channel row mod C at
// tap row mod K, and -1 for the next channel at tap 0.
struct Pick {
  i64 channel, tap, weight;
};
std::vector<Pick> picks(const Shape& s, i64 row) {
  std::vector<Pick> result = {{row % s.channels, row % static_cast<i64>(s.taps.size()), 2}};
  if (s.channels > 1) result.push_back({(row + 1) % s.channels, 0, -1});
  return result;
}

// Adds weight X^-offset `in` to `out`, modulo q and X^N + 1. Polynomials are of (N) coefficients.
void add_rolled(const u64* in, i64 offset, i64 weight, i64 n, u64 q, u64* out) {
  const u64 factor = weight < 0 ? q - static_cast<u64>(-weight) : static_cast<u64>(weight);
  for (i64 d = 0; d < n; d++) {
    i64 at = d + offset;
    bool negative = false;
    if (at < 0) at += n, negative = true;
    if (at >= n) at -= n, negative = true;
    const u64 value = negative && in[at] != 0 ? q - in[at] : in[at];
    out[d] = (out[d] + times(value, factor, q)) % q;
  }
}

u64 rounded_off(u64 word, int bits, int q_bits) {
  return bits == 0 ? word : ((word + (u64{1} << (bits - 1))) >> bits) & ((u64{1} << (q_bits - bits)) - 1);
}

// The coefficients of a polynomial from its values, by the portable kernel, which `test_transforms` compares with the definition.
std::vector<u64> coefficients(const Ring& ring, std::vector<u64> values) {
  const std::size_t n = values.size();
  Buffer<Cell> lanes(8 * n);
  for (std::size_t i = 0; i < n; i++) lanes[8 * i] = times(values[i], ring.n_inverse, ring.q);
  kPortableClient.backward(ring.view(), lanes.data());
  for (std::size_t i = 0; i < n; i++) values[i] = lanes[8 * i];
  return values;
}

// Encrypts a layer, compares the words with the definition, computes a reply by the formula, decrypts it, and compares the results.
void test_layer(const Problem& p, u64 seed) {
  Random random{seed};
  const auto ring = ring_with(p.ring.n, p.ring.q_bits, p.ring.t_bits);
  const Layout layout(ring, p.shape);
  const Shape& s = layout.shape;
  const i64 n = ring->n, per_poly = s.images_per_poly;
  const u64 q = ring->q;
  const double limit = std::min(2047.0, std::exp2(p.ring.t_bits - 4) - 1);
  const Input in = input_of(p, random);
  in.source.check(layout, size(s.elements));
  std::vector<double> scales;
  for (i64 e = 0; e < s.elements; e++) {
    double peak = 0;
    for (i64 c = 0; c < s.channels; c++)
      for (i64 y = 0; y < s.height; y++)
        for (i64 x = 0; x < s.width; x++) peak = std::max(peak, std::abs(finite(in.at(e, c, y, x))));
    scales.push_back(peak > 0 ? peak / limit : 1.0);
  }
  const auto integer = [&](i64 e, i64 c, i64 y, i64 x) {
    return static_cast<i64>(quantized(in.at(e, c, y, x), scales[size(e)], limit));
  };

  // Encryption gives the same bytes for every kernel and number of threads.
  TestFill fill(seed);
  std::vector<std::uint8_t> words(packed_bytes(size(layout.up_words()), ring->q_bits)), others(words.size());
  Secrets secrets, other_secrets;
  bool first = true;
  std::vector<i64> integers(size(layout.blocks * layout.uploads * n), 0);
  for (i64 b = 0; b < layout.blocks; b++)
    for (i64 position = 0; position < per_poly; position++) {
      const i64 number = b * per_poly + position, e = number / layout.row_bands, band = number % layout.row_bands;
      if (number >= s.elements * layout.row_bands) continue;
      for (i64 c = 0; c < s.channels; c++)
        for (i64 r = 0; r < layout.in_rows; r++)
          for (i64 x = 0; x < s.width; x++) {
            const i64 at = ((b * layout.uploads + c / s.p_in) * n) + c % s.p_in * layout.channel_stride +
                           position * layout.image_stride + r * layout.row_stride + x;
            integers[size(at)] = integer(e, c, band * s.band_rows + r + layout.low_row, x);
          }
    }
  for (const Kernels* kernel : runnable_kernels())
    for (int mode : {1, 2, 3}) {
      use_kernel(kernel->name);
      set_threads(mode == 2 ? 2 : 1);
      Encryption layer;
      layer.layout = &layout, layer.fill = &fill;
      if (mode == 3) layer.integers = integers.data();
      else layer.source = &in.source, layer.scales = scales.data(), layer.limit = limit;
      layer.secrets = first ? &secrets : &other_secrets, layer.words = first ? words.data() : others.data();
      encrypt({layer});
      if (!first) {
        CHECK(words == others);
        CHECK(secrets.size() == other_secrets.size() && std::memcmp(secrets.data(), other_secrets.data(), 8 * secrets.size()) == 0);
      }
      first = false;
    }

  // By the definition of the scheme, b + a s = m delta + e.
  const Positions positions = layout.positions();
  std::vector<u64> b(size(layout.up_words()));
  unpack_words(words.data(), b.size(), ring->q_bits, 0, b.size(), b.data());
  std::vector<std::vector<u64>> a;  // (seeds * uploads) polynomials, as coefficients; below the same as values
  std::vector<std::vector<u64>> values;
  for (i64 group = 0; group < layout.seeds; group++)
    for (i64 u = 0; u < layout.uploads; u++) {
      std::vector<u64> kept;
      for (i64 i = 0; static_cast<i64>(kept.size()) < n; i++) {
        u64 word = 0;
        for (u64 k = 0; k < positions.word_bytes(); k++)
          word |= static_cast<u64>(fill.byte(Stream::kPublic, static_cast<int>(group),
                                             positions.public_at(u) + static_cast<u64>(i) * positions.word_bytes() + k))
                  << (8 * k);
        word &= (u64{1} << ring->q_bits) - 1;
        if (word < q) kept.push_back(word);
      }
      values.push_back(kept), a.push_back(coefficients(*ring, kept));
    }
  i64 wrong = 0, errors = 0;
  for (i64 block = 0; block < layout.blocks; block++) {
    for (i64 i = 0; i < n; i++) {
      const u64 r = fill.at(Stream::kSecrets, 0, positions.secret_at(block) + 8 * static_cast<u64>(i));
      integers.push_back(static_cast<i64>(static_cast<u64>(static_cast<u128>(r) * 3 >> 64)) - 1);
    }
    std::vector<u64> secret(size(n));
    for (i64 i = 0; i < n; i++) secret[size(i)] = secrets[size(block * n + i)];
    const std::vector<u64> plain = coefficients(*ring, secret);
    for (i64 i = 0; i < n; i++) {
      const i64 expected = integers[integers.size() - size(n) + size(i)];
      wrong += plain[size(i)] != (expected < 0 ? q - 1 : static_cast<u64>(expected));
    }
    integers.resize(integers.size() - size(n));
    for (i64 u = 0; u < layout.uploads; u++) {
      std::vector<u64> product = values[size(block / kBlocksPerSeed * layout.uploads + u)];
      for (i64 i = 0; i < n; i++) product[size(i)] = times(product[size(i)], secret[size(i)], q);
      product = coefficients(*ring, product);
      for (i64 i = 0; i < n; i++) {
        const i64 at = (block * layout.uploads + u) * n + i;
        u64 noise = 0;
        for (u64 k = 0; k < 6; k++)
          noise |= static_cast<u64>(fill.byte(Stream::kErrors, 0, positions.error_at(block, u) + 6 * static_cast<u64>(i) + k))
                   << (8 * k);
        const i64 error = std::popcount(noise & ((1 << 21) - 1)) - std::popcount(noise >> 21 & ((1 << 21) - 1));
        const i64 message = integers[size(at)] * static_cast<i64>(ring->delta) + error;
        const u64 sum = (b[size(at)] + product[size(i)]) % q;
        wrong += sum != (message < 0 ? q - static_cast<u64>(-message) : static_cast<u64>(message));
        errors += b[size(at)] >= q;
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(errors == 0);

  // A server computes answers with two weights for each output channel.
  const i64 gathered = static_cast<i64>(layout.gather_indices.size()), taps = static_cast<i64>(s.taps.size());
  std::vector<u64> down_b(size(layout.down_b_words())), down_a(size(layout.down_a_words()));
  const auto answer = [&](const auto& upload, i64 number) {
    std::vector<u64> sum(size(n), 0);
    for (i64 j = 0; j < s.p_out && number * s.p_out + j < s.rows; j++)
      for (const Pick& pick : picks(s, number * s.p_out + j))
        add_rolled(upload(pick.channel / s.p_in), layout.offsets[size((j * s.p_in + pick.channel % s.p_in) * taps + pick.tap)],
                   pick.weight, n, q, sum.data());
    return sum;
  };
  for (i64 number = 0; number < layout.answers; number++) {
    for (i64 block = 0; block < layout.blocks; block++) {
      const auto sum = answer([&](i64 u) { return b.data() + (block * layout.uploads + u) * n; }, number);
      for (i64 k = 0; k < gathered; k++)
        down_b[size((block * layout.answers + number) * gathered + k)] =
            rounded_off(sum[size(layout.gather_indices[size(k)])], s.drop_b, ring->q_bits);
    }
    for (i64 group = 0; group < layout.seeds; group++) {
      const auto sum = answer([&](i64 u) { return a[size(group * layout.uploads + u)].data(); }, number);
      for (i64 i = 0; i < n; i++)
        down_a[size((group * layout.answers + number) * n + i)] = rounded_off(sum[size(i)], s.drop_a, ring->q_bits);
    }
  }
  std::vector<std::uint8_t> packed_b(packed_bytes(down_b.size(), ring->q_bits - s.drop_b)),
      packed_a(packed_bytes(down_a.size(), ring->q_bits - s.drop_a));
  pack_words(down_b.data(), packed_b.data(), down_b.size(), ring->q_bits - s.drop_b, 0, down_b.size());
  pack_words(down_a.data(), packed_a.data(), down_a.size(), ring->q_bits - s.drop_a, 0, down_a.size());

  Output expected;
  output_of(p, random, expected);
  for (i64 e = 0; e < s.elements; e++)
    for (i64 r = 0; r < s.rows; r++) {
      const SinkRow& row = expected.sink.rows[size(r)];
      for (i64 y = 0; y < row.height; y++)
        for (i64 x = 0; x < row.width; x++) {
          i64 sum = 0;
          for (const Pick& pick : picks(s, r)) {
            const Tap tap = s.taps[size(pick.tap)];
            const i64 from_y = y + tap.dy, from_x = x + tap.dx;
            if (from_y >= 0 && from_y < s.height && from_x >= 0 && from_x < s.width)
              sum += pick.weight * integer(e, pick.channel, from_y, from_x);
          }
          const double value = static_cast<double>(sum) * (expected.sink.value_scales[size(e)] * row.scale);
          float result = static_cast<float>(std::clamp(value, -3.0e38, 3.0e38));
          result += row.bias;
          expected.tensors[row.part][size(e * row.element_step + row.offset + y * row.row_step + x * row.column_step)] = result;
        }
    }
  for (const Kernels* kernel : runnable_kernels())
    for (int mode : {1, 2}) {
      use_kernel(kernel->name);
      set_threads(mode);
      Random again{seed + 99};
      Output out;
      output_of(p, again, out);
      out.sink.rows = expected.sink.rows, out.sink.value_scales = expected.sink.value_scales;
      out.sink.check(layout);
      Decryption layer;
      layer.layout = &layout, layer.secrets = &secrets, layer.a = packed_a.data(), layer.b = packed_b.data(),
      layer.sink = &out.sink;
      decrypt({layer});
      for (int part = 0; part < 2; part++)
        CHECK(std::memcmp(out.tensors[part].data(), expected.tensors[part].data(), 4 * out.tensors[part].size()) == 0);
      // Random words decrypt to the same integers with every kernel.
      static std::vector<i64> reference;
      Random chance{seed};
      std::vector<std::uint8_t> any_a(packed_a.size()), any_b(packed_b.size());
      for (std::uint8_t& byte : any_a) byte = static_cast<std::uint8_t>(chance.next());
      for (std::uint8_t& byte : any_b) byte = static_cast<std::uint8_t>(chance.next());
      std::vector<i64> got(down_b.size());
      layer.sink = nullptr, layer.integers = got.data(), layer.a = any_a.data(), layer.b = any_b.data();
      decrypt({layer});
      if (kernel == runnable_kernels().front() && mode == 1) reference = got;
      CHECK(got == reference);
      const i64 half = i64{1} << (ring->t_bits - 1);
      CHECK(std::all_of(got.begin(), got.end(), [&](i64 x) { return x >= -half && x < half; }));
    }
  set_threads(1);
}

// Decoding of words next to the borders between two results equals round(t x / q), computed with integers.
void test_decoding() {
  Random random{5};
  for (const Case& c : kCases) {
    const auto ring = ring_with(c.n, c.q_bits, c.t_bits);
    const u64 q = ring->q;
    constexpr std::size_t kCount = 4096;
    Buffer<Cell> zero(kCount + 8);
    Buffer<u64> b(kCount + 8);
    Buffer<double> out(kCount + 8);
    for (std::size_t i = 0; i < kCount; i++) {
      const u64 g = random.next() & ((u64{1} << c.t_bits) - 1);
      const u64 border = static_cast<u64>(((static_cast<u128>(2 * g + 1) * q) >> 1) >> c.t_bits);  // t x / q = g + 1/2
      b[i] = i % 8 == 0 ? random.next() % q
             : i == 1   ? q - 1
             : i == 2   ? q / 2
             : i == 3   ? q / 2 + 1
                        : (border + random.next() % 5 + q - 2) % q;
    }
    for (const Kernels* kernel : runnable_kernels()) {
      kernel->client->decode(ring->view(), zero.data(), 1, kCount, 0, b.data(), 0, out.data());
      i64 wrong = 0;
      for (std::size_t i = 0; i < kCount; i++) {
        i64 g = static_cast<i64>(((static_cast<u128>(b[i]) << (c.t_bits + 1)) + q) / (2 * static_cast<u128>(q)));
        if (g >= i64{1} << (c.t_bits - 1)) g -= i64{1} << c.t_bits;
        wrong += out[i] != static_cast<double>(g) || std::signbit(out[i]) != (g < 0);
      }
      CHECK(wrong == 0);
    }
  }
}

// Layers that are encrypted in one call give the same words as those encrypted alone, and a seed of too few words is refused.
void test_several_layers() {
  Random random{9};
  use_kernel(runnable_kernels().front()->name);
  set_threads(2);
  struct One {
    Layout layout;
    Input in;
    TestFill fill;
    std::vector<double> scales;
    Secrets secrets[2];
    std::vector<std::uint8_t> words[2];
  };
  std::vector<std::unique_ptr<One>> ones;
  for (std::size_t i : {0, 3, 6, 7}) {
    const Problem& p = kProblems[i];
    auto one = std::make_unique<One>(One{Layout(ring_with(p.ring.n, p.ring.q_bits, p.ring.t_bits), p.shape),
                                         input_of(p, random),
                                         TestFill(i),
                                         std::vector<double>(size(p.shape.elements), 0.01),
                                         {},
                                         {}});
    for (auto& words : one->words) words.resize(packed_bytes(size(one->layout.up_words()), p.ring.q_bits));
    ones.push_back(std::move(one));
  }
  const auto encryption = [](One& one, int which) {
    Encryption layer;
    layer.layout = &one.layout, layer.source = &one.in.source, layer.scales = one.scales.data(), layer.limit = 127;
    layer.fill = &one.fill, layer.secrets = &one.secrets[which], layer.words = one.words[which].data();
    return layer;
  };
  std::vector<Encryption> all;
  for (auto& one : ones) all.push_back(encryption(*one, 0)), encrypt({encryption(*one, 1)});
  encrypt(all);
  for (auto& one : ones) CHECK(one->words[0] == one->words[1]);
  set_threads(1);

  class Poor : public TestFill {
   public:
    Poor() : TestFill(1) {}
    void fill(Stream stream, int group, u64 position, std::uint8_t* out, std::size_t count) override {
      TestFill::fill(stream, group, position, out, count);
      if (stream == Stream::kPublic) std::memset(out, 0xff, count / 8);
    }
  } poor;
  Encryption layer = encryption(*ones[0], 0);
  layer.fill = &poor;
  bool refused = false;
  try {
    encrypt({layer});
  } catch (const std::runtime_error&) {
    refused = true;
  }
  CHECK(refused);
}

// Whether `work` throws std::invalid_argument.
template <typename Work>
bool refuses(const Work& work) {
  try {
    work();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

void test_refusals() {
  Random random{6};
  const Problem& p = kProblems[0];
  const Layout layout(ring_with(p.ring.n, p.ring.q_bits, p.ring.t_bits), p.shape);
  const Input in = input_of(p, random);
  const auto source = [&](const auto& change) {
    Source changed = in.source;
    change(changed);
    return refuses([&] { changed.check(layout, 2); });
  };
  CHECK(!source([](Source&) {}));
  CHECK(source([&](Source& s) { s.count = size(2 * 5 * 9 * 7) - 1; }));
  CHECK(source([](Source& s) { s.elements[1] += 14; }));
  CHECK(source([](Source& s) { s.elements[0] = -1; }));
  CHECK(source([](Source& s) { s.scale_of[0] = 2; }));
  CHECK(source([](Source& s) { s.channels.pop_back(); }));
  CHECK(source([](Source& s) { s.heights[0] = 10; }));
  CHECK(source([](Source& s) { s.row_step = i64{1} << 60; }));
  CHECK(source([](Source& s) { s.row_step = -7; }));
  CHECK(source([](Source& s) { s.data = nullptr; }));
  Output out;
  output_of(p, random, out);
  const auto sink = [&](const auto& change) {
    Sink changed = out.sink;
    change(changed);
    return refuses([&] { changed.check(layout); });
  };
  CHECK(!sink([](Sink&) {}));
  CHECK(sink([](Sink& s) { s.parts[1].count -= 6; }));
  CHECK(sink([](Sink& s) { s.rows[3].part = 2; }));
  CHECK(sink([](Sink& s) { s.rows[3].offset = -1; }));
  CHECK(sink([](Sink& s) { s.rows[0].element_step = i64{1} << 39; }));
  CHECK(sink([](Sink& s) { s.rows[0].width = 8; }));
  CHECK(sink([](Sink& s) { s.value_scales.pop_back(); }));
  CHECK(sink([](Sink& s) { s.rows.pop_back(); }));
  CHECK(refuses([] { use_kernel("none"); }));
  u64 words[16] = {};
  std::uint8_t data[64] = {};
  CHECK(refuses([&] { pack_words(words, data, 16, 57, 0, 16); }));
  CHECK(refuses([&] { pack_words(words, data, 16, 12, 4, 12); }));
  CHECK(refuses([&] { pack_words(words, data, 16, 12, 0, 12); }));
  CHECK(refuses([&] { unpack_words(data, 16, 12, 10, 7, words); }));
}

// Seconds of processor time of this thread.
double now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The least time that `work` takes, of the runs that fit into about `seconds`.
template <typename Work>
double best(const Work& work, double seconds = 0.3) {
  double least = 1e9;
  for (double start = now(); now() - start < seconds;) {
    const double from = now();
    work();
    least = std::min(least, now() - from);
  }
  return least;
}

// Copies bytes that were drawn before, about as fast as AES. The time that this takes is left out of the figures for encryption.
class CheapFill : public Fill {
 public:
  void fill(Stream, int, u64 position, std::uint8_t* out, std::size_t count) override {
    const double start = now();
    if (count > pattern_.size()) std::abort();
    std::memcpy(out, pattern_.data() + position % 4096, count);
    spent += now() - start;
  }
  CheapFill() : pattern_(std::size_t{8} << 20) {
    Random random{7};
    for (std::uint8_t& byte : pattern_) byte = static_cast<std::uint8_t>(random.next() >> 13);
  }
  double spent = 0;

 private:
  std::vector<std::uint8_t> pattern_;
};

std::vector<const Kernels*> benched;

void bench_layer(const std::string& only, const std::string& name, const Problem& p) {
  if (name.find(only) == std::string::npos) return;
  Random random{8};
  const Layout layout(ring_with(p.ring.n, p.ring.q_bits, p.ring.t_bits), p.shape);
  const Input in = input_of(p, random);
  Output out;
  output_of(p, random, out);
  CheapFill fill;
  std::vector<double> scales(size(p.shape.elements));
  std::vector<std::uint8_t> words(packed_bytes(size(layout.up_words()), layout.ring->q_bits));
  std::vector<std::uint8_t> b(packed_bytes(size(layout.down_b_words()), layout.ring->q_bits - p.shape.drop_b), 0x5a);
  std::vector<std::uint8_t> a(packed_bytes(size(layout.down_a_words()), layout.ring->q_bits - p.shape.drop_a), 0x5a);
  Secrets secrets;
  for (const Kernels* kernel : benched) {
    use_kernel(kernel->name);
    double least = 1e9;
    for (double start = now(); now() - start < 1.0;) {
      fill.spent = 0;
      const double from = now();
      find_scales(in.tensor.data(), scales.size(), in.tensor.size() / scales.size(), 2047, scales.data());
      Encryption layer;
      layer.layout = &layout, layer.source = &in.source, layer.scales = scales.data(), layer.limit = 2047, layer.fill = &fill;
      layer.secrets = &secrets, layer.words = words.data();
      encrypt({layer});
      least = std::min(least, now() - from - fill.spent);
    }
    const double down = best(
        [&] {
          Decryption layer;
          layer.layout = &layout, layer.secrets = &secrets, layer.a = a.data(), layer.b = b.data(), layer.sink = &out.sink;
          decrypt({layer});
        },
        1.0);
    std::printf("%-8s %s: encrypt %.2f ns without random bytes, decrypt %.2f ns a coefficient (%.1f and %.1f ms)\n", kernel->name,
                name.c_str(), least * 1e9 / static_cast<double>(layout.up_words()),
                down * 1e9 / static_cast<double>(layout.blocks * layout.answers * layout.ring->n), least * 1e3, down * 1e3);
  }
}

void bench(const std::string& only, const std::string& layer) {
  set_threads(1);
  for (const Kernels* kernel : runnable_kernels())
    if (only.empty() || only == kernel->name) benched.push_back(kernel);
  bench_layer(layer, "conv 320 64x64",
              {{2048, 48, 25}, {1, 320, 64, 64, 320, 64, 64, square(-1, 1), 1, 22, 1, 1, 3, 4}, false, 1, 0});
  bench_layer(layer, "linear 320x4096",
              {{2048, 48, 25}, {1, 320, 4096, 1, 320, 4096, 1, {{0, 0}}, 1, 2048, 1, 1, 3, 4}, true, 1, 0});
  bench_layer(layer, "conv 1280 8x8", {{2048, 48, 25}, {2, 1280, 8, 8, 1280, 8, 8, square(-1, 1), 2, 8, 4, 2, 3, 4}, false, 1, 0});
  for (int bits : layer.empty() ? std::vector<int>{48, 50} : std::vector<int>{})
    for (i64 n : {2048, 4096}) {
      const auto ring = ring_with(n, bits, 25);
      const RingView view = ring->view();
      Buffer<Cell> lanes(static_cast<std::size_t>(8 * n));
      for (const Kernels* kernel : benched) {
        const double forward = best([&] { kernel->client->forward(view, lanes.data()); }, 0.1);
        const double backward = best([&] { kernel->client->backward(view, lanes.data()); }, 0.1);
        std::printf("%-8s N %ld q %d: forward %.2f ns, backward %.2f ns a coefficient\n", kernel->name, static_cast<long>(n), bits,
                    forward * 1e9 / static_cast<double>(8 * n), backward * 1e9 / static_cast<double>(8 * n));
      }
    }
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::string(arguments[1]) == "--bench") {
    bench(count > 2 ? arguments[2] : "", count > 3 ? arguments[3] : "");
    return 0;
  }
  for (const Kernels* kernel : runnable_kernels()) CHECK(self_test(*kernel));
  test_transforms();
  test_wire();
  test_quantizing();
  test_decoding();
  test_refusals();
  test_several_layers();
  u64 seed = 1;
  for (const Problem& problem : kProblems) test_layer(problem, seed++);
  std::printf(failures == 0 ? "ok\n" : "%d failures\n", failures);
  return failures != 0;
}
