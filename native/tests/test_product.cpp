// Compares the server's product with its formula, for every kernel, both forms and two numbers of threads. With --bench, measures
// it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/expand.h"
#include "core/kernels.h"
#include "core/pool.h"
#include "core/product.h"
#include "core/wire.h"

namespace {

using namespace hecompile;
using i64 = std::int64_t;
using u64 = std::uint64_t;
__extension__ using i128 = __int128;
__extension__ using u128 = unsigned __int128;

int failures = 0;

void check(bool holds, const char* what, const std::string& where) {
  if (holds) return;
  failures++;
  std::printf("FAILED: %s (%s)\n", what, where.c_str());
}

std::size_t size(i64 value) { return static_cast<std::size_t>(value); }

bool prime(u64 q) {
  for (u64 base : {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37}) {
    u64 result = 1, power = base;
    for (u64 e = q - 1; e; e >>= 1) {
      if (e & 1) result = static_cast<u64>(static_cast<u128>(result) * power % q);
      power = static_cast<u64>(static_cast<u128>(power) * power % q);
    }
    if (result != 1) return false;
  }
  return true;
}

// The largest ring of so many bits. Of 48 bits, the largest one whose words have three signed digits of 16 bits.
std::shared_ptr<const Ring> ring_with(i64 n, int q_bits, int t_bits) {
  const u64 step = std::max(static_cast<u64>(2 * n), u64{1} << t_bits);
  u64 most = u64{1} << q_bits;
  if (q_bits == 48) most -= (u64{1} << 32) + (u64{1} << 16) + 1;
  u64 q = (most - 2) / step * step + 1;
  while (!prime(q)) q -= step;
  return ring_of(n, q, t_bits);
}

// Streams of pseudo-random bytes, which depend on seed, group and position only.
class Mixed : public Fill {
 public:
  explicit Mixed(u64 seed) : seed_(seed) {}
  void fill(Stream, int group, u64 position, std::uint8_t* out, std::size_t bytes) override {
    for (std::size_t i = 0; i < bytes; i += 8) {
      u64 x = seed_ + static_cast<u64>(group) * 0x1234567 + (position + i) * 0x9E3779B97F4A7C15;
      x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9, x = (x ^ (x >> 27)) * 0x94D049BB133111EB, x ^= x >> 31;
      std::memcpy(out + i, &x, std::min<std::size_t>(8, bytes - i));
    }
  }

 private:
  u64 seed_;
};

struct Case {
  std::string name;
  std::shared_ptr<const Ring> ring;
  Shape shape;
  int weight = 0;        // 0: random weights; positive: all have this value; negative: all have this size and random signs
  bool largest = false;  // words are q - 1
  bool fill = true, added = true;
};

struct Request {
  std::vector<std::int8_t> weights;
  std::vector<u64> words;
  std::vector<std::uint8_t> packed;
  std::vector<i64> added;
  u64 seed;
};

Request request_of(const Case& c, const Layout& layout, std::mt19937_64& random) {
  Request request;
  const u64 q = layout.ring->q;
  request.weights.resize(size(layout.shape.rows * layout.shape.channels * static_cast<i64>(layout.shape.taps.size())));
  for (auto& w : request.weights) {
    const int drawn = static_cast<int>(random() % 255) - 127;
    w = static_cast<std::int8_t>(c.weight == 0 ? drawn : c.weight > 0 ? c.weight : drawn < 0 ? c.weight : -c.weight);
  }
  request.words.resize(size(layout.up_words()));
  for (auto& w : request.words) w = c.largest ? q - 1 : random() % 64 == 0 ? (random() % 2) * (q - 1) : random() % q;
  request.packed.resize(packed_bytes(request.words.size(), layout.ring->q_bits));
  pack_words(request.words.data(), request.packed.data(), request.words.size(), layout.ring->q_bits, 0, request.words.size());
  if (c.added) {
    const i64 half = i64{1} << (layout.ring->t_bits - 1);
    request.added.resize(size(layout.down_b_words()));
    for (auto& m : request.added) m = static_cast<i64>(random() % static_cast<u64>(2 * half - 1)) - half + 1;
  }
  request.seed = random();
  return request;
}

struct Reply {
  std::vector<std::uint8_t> b, a;
  Verdict verdict;
};

Reply reply_to(const Layout& layout, const Weights& weights, const Request& request, bool fill) {
  Reply reply;
  const int q_bits = layout.ring->q_bits;
  reply.b.assign(packed_bytes(size(layout.down_b_words()), q_bits - layout.shape.drop_b), 0xA5);
  reply.a.assign(packed_bytes(size(layout.down_a_words()), q_bits - layout.shape.drop_a), 0xA5);
  Mixed stream(request.seed);
  Evaluation layer;
  layer.layout = &layout, layer.weights = &weights, layer.words = request.packed.data();
  layer.fill = fill ? &stream : nullptr;
  layer.added = request.added.empty() ? nullptr : request.added.data();
  layer.b = reply.b.data(), layer.a = fill ? reply.a.data() : nullptr;
  reply.verdict = evaluate(layer);
  if (!fill) reply.a.clear();
  return reply;
}

// The formula: coefficient c of an answer is the sum of w P[c + offset] over all terms and uploads P, where P[i + N] = -P[i].
u64 answer_at(const Layout& layout, const std::vector<std::int8_t>& weights, const u64* polynomials, i64 answer, i64 c) {
  const Shape& s = layout.shape;
  const i64 n = layout.ring->n, taps = static_cast<i64>(s.taps.size());
  i128 sum = 0;
  for (i64 j = 0; j < s.p_out && answer * s.p_out + j < s.rows; j++)
    for (i64 channel = 0; channel < s.channels; channel++)
      for (i64 tap = 0; tap < taps; tap++) {
        const i64 at = c + layout.offsets[size((j * s.p_in + channel % s.p_in) * taps + tap)];
        const i64 inside = ((at % n) + n) % n;
        const bool flips = ((at - inside) / n) % 2 != 0;
        const i64 weight = weights[size(((answer * s.p_out + j) * s.channels + channel) * taps + tap)];
        const i64 word = static_cast<i64>(polynomials[channel / s.p_in * n + inside]);
        sum += static_cast<i128>(flips ? -weight : weight) * word;
      }
  const i128 q = static_cast<i128>(layout.ring->q);
  return static_cast<u64>((sum % q + q) % q);
}

u64 power(u64 base, u64 exponent, u64 q) {
  u64 result = 1;
  for (; exponent; exponent >>= 1, base = static_cast<u64>(static_cast<u128>(base) * base % q))
    if (exponent & 1) result = static_cast<u64>(static_cast<u128>(result) * base % q);
  return result;
}

// Makes coefficients from values in evaluation order, in place, by the plain Gentleman-Sande transform.
void to_coefficients(const Ring& ring, u64* x) {
  const u64 q = ring.q, n = static_cast<u64>(ring.n);
  const auto times = [&](u64 a, u64 b) { return static_cast<u64>(static_cast<u128>(a) * b % q); };
  for (u64 blocks = n / 2, half = 1; blocks >= 1; blocks /= 2, half *= 2)
    for (u64 i = 0; i < blocks; i++)
      for (u64 j = 2 * half * i; j < 2 * half * i + half; j++) {
        const u64 u = x[j], v = x[j + half];
        x[j] = (u + v) % q, x[j + half] = times(u + q - v, ring.inverse_roots[blocks + i]);
      }
  for (u64 i = 0; i < n; i++) x[i] = times(x[i], power(n, q - 2, q));
}

// Compares some words of a reply with the formula.
void check_reply(const Case& c, const Layout& layout, const Request& request, const Reply& reply, std::mt19937_64& random,
                 const std::string& where) {
  const Ring& ring = *layout.ring;
  check(reply.verdict == Verdict::kDone, "verdict", where);
  const i64 n = ring.n, gathered = static_cast<i64>(layout.gather_indices.size());
  std::vector<u64> b(size(layout.down_b_words()));
  unpack_words(reply.b.data(), b.size(), ring.q_bits - layout.shape.drop_b, 0, b.size(), b.data());
  const i64 cost = layout.shape.p_out * layout.shape.channels * static_cast<i64>(layout.shape.taps.size());
  const i64 samples = std::clamp(i64{2'000'000} / cost, i64{40}, i64{3000});
  bool right = true;
  for (i64 i = 0; i < samples; i++) {
    const i64 index = i == 0 ? 0 : i == 1 ? layout.down_b_words() - 1 : static_cast<i64>(random() % b.size());
    const i64 block = index / gathered / layout.answers, answer = index / gathered % layout.answers;
    u64 word = answer_at(layout, request.weights, request.words.data() + block * layout.uploads * n, answer,
                         layout.gather_indices[size(index % gathered)]);
    if (!request.added.empty()) {
      const i128 message = static_cast<i128>(request.added[size(index)]) * static_cast<i128>(ring.delta);
      word = static_cast<u64>(((message + static_cast<i128>(word)) % static_cast<i128>(ring.q) + static_cast<i128>(ring.q)) %
                              static_cast<i128>(ring.q));
    }
    right &= b[size(index)] == round_off(word, layout.shape.drop_b, ring.q_bits);
  }
  check(right, "b", where);
  check(padding_is_zero(reply.b.data(), b.size(), ring.q_bits - layout.shape.drop_b), "padding", where);
  if (!c.fill) return;
  std::vector<u64> a(size(layout.down_a_words()));
  unpack_words(reply.a.data(), a.size(), ring.q_bits - layout.shape.drop_a, 0, a.size(), a.data());
  right = true;
  for (i64 seed = 0; seed < layout.seeds; seed++) {
    Mixed stream(request.seed);
    std::vector<u64> polynomials(size(layout.uploads * n));
    std::vector<std::uint8_t> bytes(layout.positions().public_bytes());
    for (i64 u = 0; u < layout.uploads; u++) {
      stream.fill(Stream::kPublic, static_cast<int>(seed), layout.positions().public_at(u), bytes.data(), bytes.size());
      expand(ring, bytes.data(), polynomials.data() + u * n);
      to_coefficients(ring, polynomials.data() + u * n);
    }
    for (i64 i = 0; i < samples / layout.seeds + 2; i++) {
      const i64 index = static_cast<i64>(random() % static_cast<u64>(layout.answers * n));
      const u64 word = answer_at(layout, request.weights, polynomials.data(), index / n, index % n);
      right &= a[size(seed * layout.answers * n + index)] == round_off(word, layout.shape.drop_a, ring.q_bits);
    }
  }
  check(right, "a", where);
}

std::vector<Form> forms() { return {Form::kLimbs, Form::kTransform}; }

// Compares the first kernel's reply with the formula, and all others with the first.
void check_case(const Case& c, std::mt19937_64& random) {
  const Layout layout(c.ring, c.shape);
  const Request request = request_of(c, layout, random);
  Reply first;
  for (const Kernels* kernel : runnable_kernels()) {
    use_kernel(kernel->name);
    for (const Form form : forms())
      for (const std::size_t keep : {std::size_t{0}, SIZE_MAX}) {
        if (form == Form::kLimbs && keep == 0) continue;
        const Weights weights(layout, request.weights.data(), form, keep);
        for (const int count : {1, 3}) {
          set_threads(count);
          const std::string where = c.name + ", " + kernel->name + (form == Form::kLimbs ? ", limbs" : ", transform") +
                                    (keep == 0 ? ", on the fly, " : ", ") + std::to_string(count) + " threads";
          const Reply reply = reply_to(layout, weights, request, c.fill);
          if (first.b.empty()) {
            check_reply(c, layout, request, reply, random, where);
            first = reply;
          }
          check(reply.verdict == Verdict::kDone, "verdict", where);
          check(reply.b == first.b, "b is the same", where);
          check(reply.a == first.a, "a is the same", where);
        }
      }
  }
}

std::vector<Tap> square(int side, int dilation = 1) {
  std::vector<Tap> taps;
  for (int y = 0; y < side; y++)
    for (int x = 0; x < side; x++) taps.push_back({(y - side / 2) * dilation, (x - side / 2) * dilation});
  return taps;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto ring = [](int bits) { return ring_with(2048, bits, 16); };
  all.push_back({"conv, whole pictures", ring(48), {3, 13, 12, 12, 11, 12, 12, square(3), 1, 12, 2, 3, 5, 9}});
  all.push_back({"conv, row bands", ring(47), {2, 10, 40, 40, 7, 40, 40, square(3), 1, 20, 2, 1, 3, 0}});
  all.push_back({"conv, two row bands to a polynomial", ring(50), {2, 9, 24, 20, 14, 24, 20, square(3), 2, 12, 3, 1, 0, 11}});
  all.push_back({"conv with stride, far taps", ring(40), {1, 6, 10, 10, 20, 5, 5, square(5, 2), 1, 5, 1, 4, 2, 3}});
  all.push_back({"linear, tokens", ring(33), {1, 21, 1, 77, 50, 1, 77, {{0, 0}}, 1, 1, 5, 4, 1, 4}});
  all.push_back({"linear, one token an image", ring(48), {64, 8, 1, 1, 6, 1, 1, {{0, 0}}, 20, 1, 7, 6, 0, 0}});
  all.push_back({"one upload, one answer", ring_with(1024, 33, 12), {1, 1, 8, 8, 1, 8, 8, square(3), 1, 8, 1, 1, 0, 0}});
  all.push_back({"drops of words to few bits", ring(49), {1, 5, 9, 9, 6, 9, 9, square(3), 1, 9, 2, 2, 40, 45}});
  all.push_back({"larger ring", ring_with(4096, 48, 20), {1, 17, 16, 16, 9, 16, 16, square(3), 1, 16, 3, 2, 6, 12}});
  all.push_back({"seventy blocks", ring_with(1024, 40, 12), {70, 5, 14, 14, 7, 14, 14, square(3), 1, 14, 2, 1, 4, 4}});
  all.push_back({"later request", ring(48), {2, 9, 12, 12, 8, 12, 12, square(3), 1, 12, 2, 2, 4, 4}, 0, false, false, false});
  all.push_back({"all weights 127, largest words", ring(50), {1, 40, 8, 8, 8, 8, 8, square(3), 1, 8, 3, 3, 0, 0}, 127, true});
  return all;
}

Case random_case(std::mt19937_64& random, int number) {
  const auto pick = [&](i64 low, i64 high) { return low + static_cast<i64>(random() % static_cast<u64>(high - low + 1)); };
  const int bits[] = {33, 40, 47, 48, 50, 49, 44, 36};
  for (;;) {
    Case c;
    c.name = "random " + std::to_string(number);
    c.ring = ring_with(i64{1} << pick(10, 12), bits[pick(0, 7)], static_cast<int>(pick(10, 16)));
    Shape& s = c.shape;
    s.elements = pick(1, 4), s.channels = pick(1, 30), s.rows = pick(1, 30);
    s.height = pick(1, 20), s.width = pick(1, 20), s.grid_height = pick(1, s.height), s.grid_width = pick(1, s.width);
    const i64 taps = pick(1, 9);
    for (i64 i = 0; i < taps; i++)
      s.taps.push_back({static_cast<std::int32_t>(pick(-3, 3)), static_cast<std::int32_t>(pick(-3, 3))});
    s.images_per_poly = pick(1, 4), s.band_rows = pick(0, 1) == 0 ? s.grid_height : pick(1, s.grid_height);
    s.p_in = pick(1, std::min<i64>(5, s.channels)), s.p_out = pick(1, std::min<i64>(9, s.rows));
    s.drop_b = static_cast<int>(pick(0, 12)), s.drop_a = static_cast<int>(pick(0, 12));
    c.fill = pick(0, 3) > 0, c.added = pick(0, 1) == 0;
    try {
      const Layout layout(c.ring, s);
      if (layout.blocks * layout.uploads * layout.answers > 2000) continue;
      return c;
    } catch (const std::invalid_argument&) {
    }
  }
}

void check_refusals(std::mt19937_64& random) {
  const Case c{"refusals", ring_with(1024, 33, 12), {2, 9, 10, 10, 5, 10, 10, square(3), 1, 10, 2, 2, 0, 0}};
  const Layout layout(c.ring, c.shape);
  for (const Form form : forms()) {
    Request request = request_of(c, layout, random);
    const Weights weights(layout, request.weights.data(), form, 0);
    for (const std::size_t at : {std::size_t{0}, request.words.size() / 2 + 5, request.words.size() - 1}) {
      Request bad = request;
      bad.words[at] = layout.ring->q;
      pack_words(bad.words.data(), bad.packed.data(), bad.words.size(), layout.ring->q_bits, 0, bad.words.size());
      check(reply_to(layout, weights, bad, true).verdict == Verdict::kWordTooLarge, "a word of q is refused", c.name);
    }
    class Ones : public Fill {
      void fill(Stream, int, u64, std::uint8_t* out, std::size_t bytes) override { std::memset(out, 0xFF, bytes); }
    } ones;
    std::vector<std::uint8_t> b(packed_bytes(size(layout.down_b_words()), layout.ring->q_bits)),
        a(packed_bytes(size(layout.down_a_words()), layout.ring->q_bits));
    const Evaluation poor{&layout, &weights, request.packed.data(), &ones, nullptr, b.data(), a.data()};
    check(evaluate(poor) == Verdict::kSeedTooPoor, "a poor seed is refused", c.name);
    request.weights[3] = -128;
    bool refused = false;
    try {
      const Weights none(layout, request.weights.data(), form, 0);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    check(refused, "-128 is refused", c.name);
  }
}

// Layers with the largest weights, of so many terms that sums must be cut into parts to fit 32 bits.
void check_long_sums(std::mt19937_64& random) {
  for (const int weight : {127, -127}) {
    Case c{"long sums", ring_with(2048, 48, 16), {1, 2560, 8, 8, 6, 8, 8, square(3), 1, 8, 3, 6, 0, 0}, weight, weight > 0};
    check_case(c, random);
    Case wide{"23,040 channels of nine taps",
              ring_with(1024, 50, 16),
              {1, 23'040, 4, 4, 3, 4, 4, square(3), 1, 4, 10, 3, 0, 0},
              weight,
              weight > 0};
    check_case(wide, random);
    Case many{"2048 terms", ring_with(2048, 50, 16), {1, 2000, 1, 1, 896, 1, 1, {{0, 0}}, 1, 1, 32, 64, 0, 0}, weight, weight > 0};
    check_case(many, random);
  }
}

struct Timed {
  const char* name;
  Shape shape;
  bool transform;
};

// The least of several runs: of the time that passed, and of the processor time of all threads.
struct Milliseconds {
  double wall = 1e30, cpu = 1e30;
};

Milliseconds best_ms(int repeats, const std::function<void()>& action) {
  Milliseconds best;
  for (int i = 0; i < repeats; i++) {
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t used = std::clock();
    action();
    best.cpu = std::min(best.cpu, 1e3 * static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC);
    best.wall = std::min(best.wall, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// Streams of bytes that were drawn before and are only copied, which is about as fast as AES.
class Drawn : public Fill {
 public:
  explicit Drawn(const Layout& layout) : bytes_(layout.positions().public_at(layout.uploads)) {
    Mixed(1).fill(Stream::kPublic, 0, 0, bytes_.data(), bytes_.size());
  }
  void fill(Stream, int, u64 position, std::uint8_t* out, std::size_t bytes) override {
    std::memcpy(out, bytes_.data() + position, bytes);
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

void bench(const char* only, const char* kernel) {
  use_kernel(kernel);
  const std::vector<Timed> layers = {
      {"conv 320@64 T=3", {1, 320, 64, 64, 320, 64, 64, square(3), 1, 22, 1, 1, 12, 18}, false},
      {"conv 640@32 T=1", {1, 640, 32, 32, 640, 32, 32, square(3), 1, 32, 1, 1, 12, 18}, false},
      {"conv 1280@16 T=1", {1, 1280, 16, 16, 1280, 16, 16, square(3), 1, 16, 3, 2, 12, 18}, false},
      {"conv 1280@8 T=2", {2, 1280, 8, 8, 1280, 8, 8, square(3), 1, 8, 3, 8, 12, 18}, true},
      {"linear 320@4096 T=2", {1, 320, 4096, 1, 320, 4096, 1, {{0, 0}}, 1, 2048, 1, 1, 12, 18}, false},
      {"linear 1280@256 T=1", {1, 1280, 256, 1, 1280, 256, 1, {{0, 0}}, 1, 256, 4, 2, 12, 18}, false},
      {"conv 320->4@64 T=3", {1, 320, 64, 64, 4, 64, 64, square(3), 1, 22, 1, 1, 12, 18}, true},
      {"conv 4->320@64 T=3", {1, 4, 64, 64, 320, 64, 64, square(3), 1, 22, 1, 1, 12, 18}, true},
  };
  std::mt19937_64 random(1);
  std::printf("%-22s %-10s %8s %9s %9s %9s | %9s %9s %8s\n", "layer", "form", "GMAC", "cpu ms", "wall ms", "GMAC/s", "2 threads",
              "cpu ms", "MiB held");
  for (const Timed& layer : layers) {
    if (only != nullptr && std::strstr(layer.name, only) == nullptr) continue;
    Case c{layer.name, ring_with(2048, 48, 26), layer.shape};
    c.added = false;
    const Layout layout(c.ring, c.shape);
    const Request request = request_of(c, layout, random);
    Drawn stream(layout);
    Reply reply = reply_to(layout, Weights(layout, request.weights.data(), Form::kLimbs, 0), request, true);
    const double pairs = static_cast<double>(layout.uploads * layout.answers) * static_cast<double>(layout.offsets.size());
    const double words =
        static_cast<double>(layout.seeds * layout.ring->n + layout.blocks * static_cast<i64>(layout.gather_indices.size()));
    for (const Form form : forms()) {
      if (form == Form::kTransform && !layer.transform) continue;
      for (const std::size_t keep : {std::size_t{0}, std::size_t{256} << 20}) {
        if (form == Form::kLimbs && keep == 0) continue;
        const Weights weights(layout, request.weights.data(), form, keep);
        if (form == Form::kTransform && keep > 0 && weights.bytes() < (std::size_t{16} << 20)) continue;  // it was not kept
        set_threads(1);
        const Milliseconds one = best_ms(
            5, [&] { evaluate({&layout, &weights, request.packed.data(), &stream, nullptr, reply.b.data(), reply.a.data()}); });
        set_threads(2);
        const Milliseconds two = best_ms(
            5, [&] { evaluate({&layout, &weights, request.packed.data(), &stream, nullptr, reply.b.data(), reply.a.data()}); });
        std::printf("%-22s %-10s %8.2f %9.2f %9.2f %9.1f | %9.2f %9.2f %8.1f\n", layer.name,
                    form == Form::kLimbs ? "limbs"
                    : keep == 0          ? "on the fly"
                                         : "kept",
                    6e-9 * pairs * words, one.cpu, one.wall, 6e-6 * pairs * words / one.cpu, two.wall, two.cpu,
                    static_cast<double>(weights.bytes()) / 1048576);
        std::fflush(stdout);
      }
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "--bench") == 0) {
    bench(count > 3 ? arguments[3] : nullptr, count > 2 ? arguments[2] : kernels().name);
    return 0;
  }
  std::mt19937_64 random(20);
  for (const Case& c : cases()) check_case(c, random);
  const char* wanted = std::getenv("HECOMPILE_TEST_CASES");  // if it is set, as for slow builds, the longest sums are left out
  const int number = wanted == nullptr ? 40 : std::atoi(wanted);
  for (int i = 0; i < number; i++) check_case(random_case(random, i), random);
  check_refusals(random);
  if (wanted == nullptr) check_long_sums(random);
  std::printf("%s\n", failures == 0 ? "all right" : "FAILED");
  return failures == 0 ? 0 : 1;
}
