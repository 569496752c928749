// Layouts of arbitrary numbers, and requests and replies of arbitrary bytes, as an attacker may send them, are refused or computed
// without a fault. Builds with sanitizers report faults. HECOMPILE_TEST_CASES sets how many are tried.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <vector>

#include "core/encrypt.h"
#include "core/layout.h"
#include "core/product.h"
#include "core/ring_table.h"
#include "core/wire.h"

namespace {

using namespace hecompile;
using i64 = std::int64_t;
using u64 = std::uint64_t;

std::mt19937_64 generator(20);

i64 between(i64 low, i64 high) { return low + static_cast<i64>(generator() % static_cast<u64>(high - low + 1)); }

// A number of [low, high] most of the time, and a strange one once in twenty times.
i64 number(i64 low, i64 high) {
  static const i64 odd[] = {0, -1, 1, INT32_MAX, INT64_MAX, INT64_MIN, i64{1} << 31, i64{1} << 20, 65537};
  return between(0, 19) == 0 ? odd[between(0, 8)] : between(low, high);
}

// Overwrites bytes with random ones.
void scramble(std::vector<std::uint8_t>& bytes) {
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(generator());
}

// Streams of pseudo-random bytes.
class AnyFill final : public Fill {
 public:
  void fill(Stream, int, u64 position, std::uint8_t* out, std::size_t size) override {
    std::mt19937_64 local(position + 1);
    for (std::size_t i = 0; i < size; i++) out[i] = static_cast<std::uint8_t>(local());
  }
};

Shape any_shape() {
  Shape shape;
  shape.elements = number(1, 3), shape.channels = number(1, 9), shape.height = number(1, 40), shape.width = number(1, 40);
  shape.rows = number(1, 9), shape.grid_height = number(1, 40), shape.grid_width = number(1, 40);
  shape.images_per_poly = number(1, 3), shape.band_rows = number(1, 20), shape.p_in = number(1, 3), shape.p_out = number(1, 3);
  shape.drop_b = static_cast<int>(between(-1, 20)), shape.drop_a = static_cast<int>(between(-1, 30));
  const i64 taps = between(0, 5);
  for (i64 i = 0; i < taps; i++)
    shape.taps.push_back({static_cast<std::int32_t>(between(-3, 3)), static_cast<std::int32_t>(between(-3, 3))});
  return shape;
}

// Whether a layout is small enough for a test.
bool small(const Layout& layout) {
  return layout.up_words() < (1 << 17) && layout.down_a_words() + layout.down_b_words() < (1 << 18) &&
         layout.shape.rows * layout.shape.channels < 4096;
}

// Evaluates a request of random words in both forms, encrypts random integers, and decrypts a reply of random words.
void run(const Layout& layout) {
  AnyFill fill;
  const auto sized = [](i64 words, int bits) {
    return std::vector<std::uint8_t>(packed_bytes(static_cast<std::size_t>(words), bits));
  };
  const int q_bits = layout.ring->q_bits;
  std::vector<std::int8_t> values(static_cast<std::size_t>(layout.shape.rows * layout.shape.channels) * layout.shape.taps.size());
  for (auto& weight : values) weight = static_cast<std::int8_t>(between(-127, 127));
  auto words = sized(layout.up_words(), q_bits), b = sized(layout.down_b_words(), q_bits - layout.shape.drop_b),
       a = sized(layout.down_a_words(), q_bits - layout.shape.drop_a);
  scramble(words);
  for (const Form form : {Form::kLimbs, Form::kTransform}) {
    const Weights weights(layout, values.data(), form, static_cast<std::size_t>(between(0, 1 << 22)));
    Evaluation job;
    job.layout = &layout, job.weights = &weights, job.words = words.data(), job.fill = &fill, job.b = b.data(), job.a = a.data();
    evaluate(job);
  }
  std::vector<i64> integers(static_cast<std::size_t>(layout.up_words()));
  const i64 half = (i64{1} << (std::min(layout.ring->t_bits, 32) - 1)) - 1;
  for (i64& integer : integers) integer = between(-half, half);
  Secrets secrets;
  Encryption encryption;
  encryption.layout = &layout, encryption.integers = integers.data(), encryption.fill = &fill, encryption.secrets = &secrets,
  encryption.words = words.data();
  encrypt({encryption});
  scramble(b), scramble(a);
  std::vector<i64> decrypted(static_cast<std::size_t>(layout.down_b_words()));
  Decryption decryption;
  decryption.layout = &layout, decryption.secrets = &secrets, decryption.b = b.data(), decryption.a = a.data(),
  decryption.integers = decrypted.data();
  decrypt({decryption});
}

// Encrypts floats that lie at arbitrary places of a tensor. Places outside the tensor must be refused.
void places(const Layout& layout) {
  const Shape& shape = layout.shape;
  Source source;
  std::vector<float> data(static_cast<std::size_t>(between(1, 5000)));
  source.data = data.data(), source.count = data.size();
  for (i64 e = 0; e < shape.elements; e++)
    source.elements.push_back(number(0, 100)), source.scale_of.push_back(static_cast<std::int32_t>(between(-1, 2)));
  for (i64 c = 0; c < shape.channels; c++) {
    source.channels.push_back(number(0, 100));
    source.heights.push_back(static_cast<std::int32_t>(between(-1, 45))),
        source.widths.push_back(static_cast<std::int32_t>(between(-1, 45)));
  }
  source.row_step = number(0, 50), source.column_step = number(0, 2);
  source.check(layout, 2);
  AnyFill fill;
  Secrets secrets;
  std::vector<std::uint8_t> words(packed_bytes(static_cast<std::size_t>(layout.up_words()), layout.ring->q_bits));
  const double scales[] = {1.0, 2.0};
  Encryption encryption;
  encryption.layout = &layout, encryption.source = &source, encryption.scales = scales, encryption.limit = 127,
  encryption.fill = &fill;
  encryption.secrets = &secrets, encryption.words = words.data();
  encrypt({encryption});
}

}  // namespace

int main() {
  const char* wanted = std::getenv("HECOMPILE_TEST_CASES");
  const int cases = wanted != nullptr ? std::max(1, std::atoi(wanted)) * 40 : 2000;
  int accepted = 0, refused = 0;
  for (int i = 0; i < cases; i++) {
    const int q_bits = static_cast<int>(between(28, 50)), t_bits = static_cast<int>(between(16, 38));
    const u64 q = table_prime(q_bits, t_bits);
    if (q == 0) continue;
    try {
      const Layout layout(ring_of(2048, q, t_bits), any_shape());
      if (!small(layout)) continue;
      run(layout), accepted++;
      places(layout);
    } catch (const std::invalid_argument&) {
      refused++;
    }
  }
  std::printf("%d layouts ran, %d were refused\n", accepted, refused);
  return accepted > cases / 200 && refused > cases / 20 ? 0 : 1;
}
