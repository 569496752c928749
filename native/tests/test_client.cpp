// The client's half against slow and simple versions of itself, for every kernel that this processor runs.
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/kernels.h"
#include "core/ring.h"
#include "kernels/client_kernels.h"

namespace {

using namespace hecompile;
using i64 = std::int64_t;
using u64 = std::uint64_t;
__extension__ using u128 = unsigned __int128;

int failures = 0;

#define CHECK(holds)                                                    \
  do {                                                                  \
    if (!(holds)) {                                                     \
      std::printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #holds);   \
      failures++;                                                       \
    }                                                                   \
  } while (false)

// splitmix64
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

struct Case {
  i64 n;
  int q_bits, t_bits;
};
const Case kCases[] = {{2048, 33, 21}, {2048, 40, 16}, {2048, 47, 33}, {2048, 48, 25}, {2048, 50, 36}, {4096, 50, 20},
                       {4096, 48, 33}, {1024, 28, 13}, {8192, 50, 30}, {16384, 49, 20}, {32768, 50, 30}, {32768, 48, 30}};

// Words of extremes and of chance.
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
          if (back) {  // centred first: at most q / 2
            client.centre(view, lanes.data(), 8 * c.n);
            client.backward(view, lanes.data());
          } else {
            client.forward(view, lanes.data());
          }
          client.to_words(view, lanes.data(), 8 * c.n, out.data());
          if (kernel == runnable_kernels().front())
            std::memcpy(reference.data(), out.data(), 8 * out.size());
          else
            CHECK(std::memcmp(reference.data(), out.data(), 8 * out.size()) == 0);
          if (!first || kind > 1 || c.n > 4096) continue;
          // against the definition, at some places
          for (i64 k : {i64{0}, i64{1}, c.n / 2 + 3, c.n - 1}) {
            u64 reversed = 0;
            for (int bit = 0; bit < view.levels; bit++) reversed |= (static_cast<u64>(k) >> bit & 1) << (view.levels - 1 - bit);
            for (i64 lane : {0, 7}) {
              u64 value = 0;
              if (!back) {
                const u64 point = power(ring->psi, 2 * reversed + 1, q);
                for (i64 i = c.n - 1; i >= 0; i--) value = (times(value, point, q) + words[static_cast<std::size_t>(8 * i + lane)]) % q;
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

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

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

void bench() {
  for (int bits : {48, 50})
    for (i64 n : {2048, 4096}) {
      const auto ring = ring_with(n, bits, 25);
      const RingView view = ring->view();
      Buffer<Cell> lanes(static_cast<std::size_t>(8 * n));
      for (const Kernels* kernel : runnable_kernels()) {
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
    bench();
    return 0;
  }
  test_transforms();
  std::printf(failures == 0 ? "ok\n" : "%d failures\n", failures);
  return failures != 0;
}
