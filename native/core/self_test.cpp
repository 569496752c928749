// The self-test of a kernel: it and the portable kernel compute one extreme and one random block, and all words must be equal.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/buffer.h"
#include "core/kernels.h"
#include "core/ring.h"
#include "core/ring_table.h"
#include "core/wire.h"
#include "kernels/client_kernels.h"
#include "kernels/product_kernels.h"

namespace hecompile {
namespace {

using i64 = std::int64_t;
using u64 = std::uint64_t;

constexpr i64 kN = 1024, kEight = 8;
// The product has several steps and several blocks of answers for every kernel. Blocks are multiplied in pairs: with 48 answers,
// kernels of 6 rows have pairs only, and a kernel of 16 rows has one block left over.
constexpr i64 kUploads = 136, kAnswers = 48;
constexpr std::array<std::array<int, 2>, 2> kRings = {{{48, 26}, {50, 36}}};  // bits of q and t

std::size_t size(i64 value) { return static_cast<std::size_t>(value); }

// Pseudo-random numbers, the same for every kernel (xorshift).
struct Numbers {
  u64 state = 0x9E3779B97F4A7C15;
  u64 next() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
  }
};

// All results of a kernel: secrets, packed words, decrypted integers, words of a product, and transformed words.
struct Outcome {
  Buffer<u64> secrets{size(kEight * kN)};
  Buffer<std::uint8_t> packed{size(kEight * kN * 7)};
  Buffer<double> values{size(kEight * kN + 8)};
  Buffer<u64> product{size(kAnswers * kStrip)};
  Buffer<u64> coefficients{size(kEight * kN)};
};

// Encrypts and decrypts eight polynomials of random words and messages, or of the largest that there are.
void client_half(const ClientKernels& kernels, const Ring& ring, bool extreme, Outcome& out) {
  const RingView view = ring.view();
  Numbers numbers;
  Buffer<u64> a(size(kEight * kN)), lanes(size(kEight * kN)), cells(size(kEight * kN)), b(size(kN) + 8);
  Buffer<std::uint8_t> random(size(kEight * kN * 8)), noise(size(kEight * kN * 6) + kReadable);
  Buffer<std::int32_t> messages(size(kEight * kN));
  const i64 half = i64{1} << (std::min(ring.t_bits - 1, 30));
  for (std::size_t i = 0; i < a.size(); i++) a[i] = extreme ? ring.q - 1 : numbers.next() % ring.q;
  for (std::size_t i = 0; i < random.size(); i++) random[i] = static_cast<std::uint8_t>(extreme ? 0xFF : numbers.next());
  for (std::size_t i = 0; i < noise.size(); i++)
    noise[i] = static_cast<std::uint8_t>(extreme ? (i % 6 < 2 ? 0xFF : 0) : numbers.next());
  for (std::size_t i = 0; i < messages.size(); i++)
    messages[i] =
        static_cast<std::int32_t>(extreme ? 1 - half : static_cast<i64>(numbers.next() % static_cast<u64>(2 * half)) - half);
  std::array<const std::uint8_t*, 8> drawn{};
  std::array<u64*, 8> secrets{};
  for (std::size_t i = 0; i < 8; i++) drawn[i] = random.data() + i * size(kN) * 8, secrets[i] = out.secrets.data() + i * size(kN);
  kernels.draw_secrets(view, drawn.data(), secrets.data(), lanes.data());
  std::array<EncryptRow, 8> rows{};
  for (std::size_t i = 0; i < 8; i++) {
    u64* cell = cells.data() + i * size(kN);
    kernels.spectrum(view, secrets[i], cell);
    rows[i] = {a.data() + i * size(kN), cell, messages.data() + i * size(kN), noise.data() + i * size(kN) * 6,
               static_cast<i64>(i) * kN};
  }
  kernels.encrypt(view, rows.data(), 8, lanes.data(), out.packed.data(), kEight * kN);
  Buffer<u64> products(size(kEight * kN) + 8);
  std::array<DecryptRow, 8> answers{};
  for (std::size_t i = 0; i < 8; i++) answers[i] = {a.data() + i * size(kN), rows[i].secret, products.data() + i * size(kN)};
  kernels.multiply(view, answers.data(), 8, lanes.data());
  for (i64 i = 0; i < kEight; i++) {
    kernels.unpack(out.packed.data(), kEight * kN, ring.q_bits, i * kN, kN, b.data());
    kernels.decode(view, products.data() + i * kN, 1, kN, kN, b.data(), 0, out.values.data() + i * kN);
  }
}

// Computes a product of limbs by weights, and one transform, on random or on the largest words and weights.
void server_half(const ProductKernels& kernels, const Ring& ring, bool extreme, Outcome& out) {
  Numbers numbers;
  const i64 group = kernels.group, groups = kUploads / group, limbs = kernels.limbs(ring.q), width = 2 * kStrip;
  const i64 depth = kernels.depth, steps = (groups + depth - 1) / depth, rows = kernels.rows;
  const i64 pitch = width * group * kernels.limb_bytes, plane = groups * pitch;
  Buffer<u64> words(size(kUploads * width)), cells(size(kEight * kN));
  for (std::size_t i = 0; i < words.size(); i++) words[i] = extreme ? ring.q - 1 : numbers.next() % ring.q;
  Buffer<std::uint8_t> planes(size(limbs * plane) + 64);
  for (i64 g = 0; g < groups; g++)
    kernels.split(
        {words.data() + g * group * width, size(width), width, ring.q, false, limbs, planes.data() + g * pitch, size(plane)});
  constexpr i64 kTerms = 3;
  const i64 block = steps * kTerms * rows * depth * group;
  Buffer<std::int8_t> weights(size(kAnswers / rows * block));
  for (i64 r = 0; r < kAnswers; r++)
    for (i64 u = 0; u < kUploads; u++)
      for (i64 t = 0; t < kTerms; t++) {
        const i64 random = static_cast<i64>(numbers.next() % 255) - 127, step = u / (depth * group);
        const i64 at = r / rows * block + ((step * kTerms + t) * rows + r % rows) * depth * group + u % (depth * group);
        weights[size(at)] = static_cast<std::int8_t>(extreme ? 127 - 254 * (r % 2) : random);
      }
  const i64 place = group * kernels.limb_bytes, offsets[kTerms] = {0, place, 17 * place};
  kernels.multiply({planes.data(), size(plane), size(pitch), offsets, groups, kTerms, limbs, weights.data(), groups * kTerms,
                    ring.q, out.product.data(), kAnswers / rows, size(block), false});
  for (std::size_t i = 0; i < out.coefficients.size(); i++) out.coefficients[i] = extreme ? ring.q - 1 : numbers.next() % ring.q;
  kernels.to_coefficients(ring.view(), out.coefficients.data(), cells.data());
}

template <typename T, bool kSecret>
bool same(const Buffer<T, kSecret>& one, const Buffer<T, kSecret>& two) {
  return std::equal(one.data(), one.data() + one.size(), two.data());
}

}  // namespace

bool self_test(const Kernels& kernel) {
  const Kernels& portable = *runnable_kernels().back();
  for (const auto& [q_bits, t_bits] : kRings) {
    const auto ring = ring_of(kN, table_prime(q_bits, t_bits), t_bits);
    for (const bool extreme : {false, true}) {
      Outcome outcome, expected;
      client_half(*kernel.client, *ring, extreme, outcome), client_half(*portable.client, *ring, extreme, expected);
      server_half(*kernel.product, *ring, extreme, outcome), server_half(*portable.product, *ring, extreme, expected);
      if (!same(outcome.secrets, expected.secrets) || !same(outcome.packed, expected.packed) ||
          !same(outcome.values, expected.values) || !same(outcome.product, expected.product) ||
          !same(outcome.coefficients, expected.coefficients))
        return false;
    }
  }
  return true;
}

}  // namespace hecompile
