// Checks that no branch and no address depends on a secret. It runs under memcheck of valgrind. Secrets, errors, messages and
// decrypted values are marked as undefined, and memcheck reports every branch and every address that depends on them.
//
//   HECOMPILE_KERNEL=avx2 valgrind --error-exitcode=9 ./constant_time
//
// With `--leak branch` or `--leak index` this program leaks on purpose, and memcheck must say so.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/encrypt.h"
#include "core/kernels.h"
#include "core/pool.h"
#include "core/wire.h"

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define HECOMPILE_NO_MEMCHECK
#endif

namespace {

using namespace hecompile;

// Marks bytes as undefined for memcheck.
void poison([[maybe_unused]] const void* data, [[maybe_unused]] std::size_t bytes) {
#ifndef HECOMPILE_NO_MEMCHECK
  (void)VALGRIND_MAKE_MEM_UNDEFINED(data, bytes);
#endif
}
// Marks bytes as defined again, since they are public from here on.
void publish([[maybe_unused]] const void* data, [[maybe_unused]] std::size_t bytes) {
#ifndef HECOMPILE_NO_MEMCHECK
  (void)VALGRIND_MAKE_MEM_DEFINED(data, bytes);
#endif
}

// Streams of pseudo-random bytes. Those of secrets and errors are marked as undefined.
class SecretFill : public Fill {
 public:
  void fill(Stream stream, int, std::uint64_t position, std::uint8_t* out, std::size_t size) override {
    for (std::size_t i = 0; i < size; i++) {
      std::uint64_t z = (position + i) * 0x9e3779b97f4a7c15 + static_cast<std::uint64_t>(stream);
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      out[i] = static_cast<std::uint8_t>(z >> 32);
    }
    if (stream != Stream::kPublic) poison(out, size);
  }
};

// Whether memcheck has some of four bytes marked as undefined. Asking makes no report.
[[maybe_unused]] bool poisoned([[maybe_unused]] const void* data) {
  std::uint8_t bits[4] = {};
#ifndef HECOMPILE_NO_MEMCHECK
  (void)VALGRIND_GET_VBITS(data, bits, sizeof bits);
#endif
  return (bits[0] | bits[1] | bits[2] | bits[3]) != 0;
}

volatile int sink_of_leaks;  // volatile, so that the compiler keeps the leaks

// Branches on an error, or reads a table at it: memcheck must report both.
void leak(const std::string& kind, Fill& fill) {
  std::uint8_t noise[16];
  fill.fill(Stream::kErrors, 0, 0, noise, sizeof noise);
  const int error = (noise[0] & 1) - (noise[3] & 1);
  if (kind == "branch") {
    if (error < 0) sink_of_leaks = 1;
    else sink_of_leaks = 2;
  } else {
    static const volatile int table[3] = {5, 3, 8};
    sink_of_leaks = table[error + 1];
  }
}

// Encrypts a picture of this shape and decrypts a reply of constant bytes, to floats and to integers.
void run(const Shape& shape, bool tokens, int q_bits, std::uint64_t q, int t_bits) {
  const Layout layout(ring_of(1024, q, t_bits), shape);
  const Shape& s = layout.shape;
  const auto size = [](std::int64_t count) { return static_cast<std::size_t>(count); };
  const std::int64_t plane = s.height * s.width, out_plane = s.grid_height * s.grid_width;
  std::vector<float> picture(size(s.elements * s.channels * plane));
  for (std::size_t i = 0; i < picture.size(); i++) picture[i] = static_cast<float>(i % 37) - 17.5F;
  poison(picture.data(), 4 * picture.size());
  Source source;
  source.data = picture.data(), source.count = picture.size();
  Sink sink;
  std::vector<float> result(size(s.elements * s.rows * out_plane));
  sink.parts.push_back({result.data(), result.size()});
  for (std::int64_t e = 0; e < s.elements; e++) {
    source.elements.push_back(e * s.channels * plane), source.scale_of.push_back(static_cast<std::int32_t>(e));
    sink.value_scales.push_back(0.5);
  }
  for (std::int64_t c = 0; c < s.channels; c++) {
    source.channels.push_back(tokens ? c : c * plane);
    source.heights.push_back(static_cast<std::int32_t>(s.height)), source.widths.push_back(static_cast<std::int32_t>(s.width));
  }
  source.row_step = tokens ? s.channels : s.width, source.column_step = 1;
  for (std::int64_t r = 0; r < s.rows; r++)
    sink.rows.push_back({0, tokens ? r : r * out_plane, s.rows * out_plane, tokens ? s.rows : s.grid_width, 1,
                         static_cast<std::int32_t>(s.grid_height), static_cast<std::int32_t>(s.grid_width), 0.25, 1.0F});
  std::vector<double> scales(size(s.elements));
  find_scales(picture.data(), scales.size(), size(s.channels * plane), 127, scales.data());

  SecretFill fill;
  Secrets secrets;
  std::vector<std::uint8_t> words(packed_bytes(size(layout.up_words()), q_bits));
  Encryption encryption;
  encryption.layout = &layout, encryption.source = &source, encryption.scales = scales.data(), encryption.limit = 127;
  encryption.fill = &fill, encryption.secrets = &secrets, encryption.words = words.data();
  encrypt({encryption});
  publish(words.data(), words.size());  // the request is sent, so it is public

  std::vector<std::uint8_t> a(packed_bytes(size(layout.down_a_words()), q_bits - s.drop_a), 0x5a);
  std::vector<std::uint8_t> b(packed_bytes(size(layout.down_b_words()), q_bits - s.drop_b), 0x5a);
  Decryption decryption;
  decryption.layout = &layout, decryption.secrets = &secrets, decryption.a = a.data(), decryption.b = b.data();
  decryption.sink = &sink;
  decrypt({decryption});
  std::vector<std::int64_t> integers(size(layout.down_b_words()));
  decryption.sink = nullptr, decryption.integers = integers.data();
  decrypt({decryption});
#ifndef HECOMPILE_NO_MEMCHECK
  // If results were not marked as undefined, memcheck would have had nothing to report.
  if (RUNNING_ON_VALGRIND && !(poisoned(result.data()) && poisoned(secrets.data()) && poisoned(integers.data())))
    std::puts("results are not marked"), std::exit(1);
#endif
}

}  // namespace

int main(int count, char** arguments) {
#ifdef HECOMPILE_NO_MEMCHECK
  std::puts("valgrind/memcheck.h was not there when this was built: nothing is marked, nothing is checked");
  (void)count, (void)arguments;
  return 2;
#else
  if (!RUNNING_ON_VALGRIND) std::puts("not under valgrind: nothing is checked");
  set_threads(1);
  if (count == 3 && std::string(arguments[1]) == "--leak") {
    SecretFill fill;
    leak(arguments[2], fill);
    return 0;
  }
  std::printf("kernel %s\n", kernels().name);
  const std::vector<Tap> taps = {{-1, -1}, {-1, 0}, {-1, 1}, {0, -1}, {0, 0}, {0, 1}, {1, -1}, {1, 0}, {1, 1}};
  run({2, 9, 8, 8, 10, 8, 8, taps, 2, 8, 2, 2, 3, 4}, false, 48, 0xffffd8000001, 25);
  run({1, 3, 40, 20, 3, 40, 20, taps, 1, 19, 1, 1, 0, 0}, false, 50, 0x3ffc000000001, 36);
  run({1, 17, 40, 1, 19, 40, 1, {{0, 0}}, 1, 40, 5, 4, 3, 4}, true, 48, 0xffffd8000001, 25);
  return 0;
#endif
}
