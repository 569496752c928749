// The product in the form of limbs: words are cut into limbs (bytes, on most processors), an answer is a sum of limbs times int8
// weights, and the sums of the limbs are put together modulo q.
#include <algorithm>
#include <atomic>

#include "core/kernels.h"
#include "core/pool.h"
#include "core/product_parts.h"

namespace hecompile {
namespace {

using i64 = std::int64_t;
using u64 = std::uint64_t;

constexpr i64 kOctet = 8;                   // uploads that are unpacked or transformed together
constexpr i64 kPlaneBytes = i64{96} << 20;  // most bytes of the planes of the blocks that are worked on at a time
constexpr i64 kTasksPerThread = 8;          // several, so that all threads end at about the same time
constexpr double kWordNs = 3;               // about how many nanoseconds it takes to unpack, transform and cut one word
constexpr double kStepNs = 6;               // about how many nanoseconds a step takes, for a block of answers, a strip and one limb

std::size_t size(i64 value) { return static_cast<std::size_t>(value); }
// a / b, rounded up.
i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

// The planes that hold the limbs of all uploads of a block: (limbs, upload groups, coefficients, group). Coefficients go from the
// smallest offset to N plus the largest one. Those below zero and from N on are negated, as X^N = -1. So a polynomial is moved by
// a term's offset by moving a pointer. Behind the coefficients is room for one strip more. The last strip of an answer may reach
// into it, but sums from there are not used.
struct PlaneLayout {
  PlaneLayout(const Layout& layout, const ProductKernels& kernels)
      : n(layout.ring->n), q(layout.ring->q), group(kernels.group), limbs(kernels.limbs(layout.ring->q)) {
    for (const std::int32_t offset : layout.offsets) low = std::min<i64>(low, offset), high = std::max<i64>(high, offset);
    place = group * kernels.limb_bytes;
    groups = ceil_div(layout.uploads, group);
    const i64 lines = ceil_div((n + high - low + kStrip) * place, kAlignment);
    pitch = (lines | 1) * static_cast<i64>(kAlignment);  // an odd number of lines, so that groups use all sets of a cache
    plane_bytes = groups * pitch;
    bytes = limbs * plane_bytes;
    for (const std::int32_t offset : layout.offsets) offsets.push_back(offset * place);
    far = 2 * distinct_bytes() > static_cast<i64>(offsets.size()) * kStrip * place;
  }

  // Where a coefficient of the first group and limb lies.
  const std::uint8_t* at(const std::uint8_t* planes, i64 coefficient) const { return planes + (coefficient - low) * place; }

  // Cuts the words (8, N) of eight uploads into limbs, and writes them to their place in the planes.
  void fill(const ProductKernels& kernels, std::uint8_t* planes, i64 octet, const u64* words) const {
    for (i64 g = octet * (kOctet / group); g < std::min(groups, (octet + 1) * (kOctet / group)); g++) {
      const u64* from = words + (g - octet * (kOctet / group)) * group * n;
      const auto part = [&](i64 first, i64 count, bool negate) {
        const i64 coefficient = first < 0 ? first + n : first >= n ? first - n : first;
        kernels.split(
            {from + coefficient, size(n), count, q, negate, limbs, planes + g * pitch + (first - low) * place, size(plane_bytes)});
      };
      if (low < 0) part(low, -low, true);
      part(0, n, false);
      if (high > 0) part(n, high, true);
    }
  }

  i64 n;
  u64 q;
  // `low`, `high`: the smallest and the largest offset. `place`: bytes of one coefficient of a group. `groups`: upload groups.
  // `pitch`: bytes from one group to the next. `plane_bytes`: of one limb. `bytes`: of all limbs.
  i64 group, limbs, low = 0, high = 0, place, groups, pitch, plane_bytes, bytes;
  std::vector<i64> offsets;  // of the terms, in bytes
  bool far = false;          // see LimbProduct

 private:
  // How many bytes of one upload group all terms together read for one strip.
  i64 distinct_bytes() const {
    std::vector<i64> sorted = offsets;
    std::sort(sorted.begin(), sorted.end());
    i64 bytes_read = kStrip * place;
    for (std::size_t i = 1; i < sorted.size(); i++) bytes_read += std::min(sorted[i] - sorted[i - 1], kStrip * place);
    return bytes_read;
  }
};

// kStrip coefficients from `start` on, which are computed together, and the runs of gathered coefficients among them. A run's
// coefficient counts from `start`.
struct GatherStrip {
  i64 start;
  std::vector<GatherRun> runs;
};

// The fewest strips that hold all gathered coefficients.
std::vector<GatherStrip> gather_strips(const Layout& layout) {
  std::vector<GatherStrip> strips;
  for (GatherRun run : gather_runs(layout))
    while (run.count > 0) {
      if (strips.empty() || run.coefficient >= strips.back().start + kStrip) strips.push_back({run.coefficient, {}});
      const i64 within = run.coefficient - strips.back().start, count = std::min(run.count, kStrip - within);
      strips.back().runs.push_back({within, run.index, count});
      run.coefficient += count, run.index += count, run.count -= count;
    }
  return strips;
}

// One evaluation of a layer by limbs.
class LimbRun {
 public:
  explicit LimbRun(const Evaluation& given)
      : layer(given),
        layout(*given.layout),
        weights(given.weights->state()),
        kernels(*weights.kernels),
        plane_layout(layout, kernels) {}

  Verdict all() {
    Verdict verdict = answer_b();
    for (i64 seed = 0; layer.fill != nullptr && seed < layout.seeds && verdict == Verdict::kDone; seed++) verdict = answer_a(seed);
    return verdict;
  }

 private:
  // Computes one strip of the answers of answer blocks [first, last), and calls take(answer, its kStrip words) for each.
  template <typename Take>
  void multiply(const std::uint8_t* planes, i64 start, i64 first, i64 last, const Take& take) const {
    const i64 most = kernels.most_blocks, step_bytes = kernels.rows * kernels.depth * kernels.group;
    const i64 weight_bytes = ceil_div(plane_layout.groups, kernels.depth) * weights.terms * step_bytes;
    alignas(64) u64 words[kMostAnswers * kStrip];
    for (i64 block = first; block < last; block += most) {
      const i64 blocks = std::min(most, last - block);
      kernels.multiply({plane_layout.at(planes, start), size(plane_layout.plane_bytes), size(plane_layout.pitch),
                        plane_layout.offsets.data(), plane_layout.groups, weights.terms, plane_layout.limbs,
                        weights.ordered.data() + block * weight_bytes, weights.most_steps, plane_layout.q, words, blocks,
                        size(weight_bytes), plane_layout.far});
      for (i64 answer = kernels.rows * block; answer < std::min(kernels.rows * (block + blocks), layout.answers); answer++)
        take(answer, words + (answer - kernels.rows * block) * kStrip);
    }
  }

  // Cuts the answer blocks into pieces [first, last). Calls task(strip, first, last) for all strips and pieces, on several threads.
  void over(i64 strips, const std::function<void(i64, i64, i64)>& task) const {
    const i64 blocks = ceil_div(layout.answers, kernels.rows);
    const double block_ns = static_cast<double>(plane_layout.groups * weights.terms * plane_layout.limbs) * kStepNs;
    const i64 pieces = std::clamp(ceil_div(kTasksPerThread * threads(), strips), i64{1}, blocks),
              step = ceil_div(ceil_div(blocks, pieces), i64{2}) * 2;
    const i64 used = ceil_div(blocks, step);
    run(strips * used, block_ns * static_cast<double>(step), [&](i64 index) {
      const i64 first = index % used * step;
      task(index / used, first, std::min(first + step, blocks));
    });
  }

  // Writes the b part of all answers.
  Verdict answer_b() {
    const std::vector<GatherStrip> strips = gather_strips(layout);
    const i64 at_once = std::clamp(kPlaneBytes / plane_layout.bytes, i64{1}, layout.blocks);
    const i64 octets = ceil_div(layout.uploads, kOctet), n = layout.ring->n, per_block = static_cast<i64>(strips.size());
    Memory<std::uint8_t> planes(size(at_once * plane_layout.bytes));
    GatheredWords replies(layer, at_once);
    Scratches scratches(kOctet * n);
    std::atomic<bool> words_fit{true};
    for (i64 first = 0; first < layout.blocks; first += at_once) {
      const i64 some = std::min(at_once, layout.blocks - first);
      run(some * octets, kWordNs * static_cast<double>(kOctet * n), [&](i64 index) {
        const i64 block = index / octets, octet = index % octets;
        Scratches::Loan words(scratches);
        const i64 count = std::min(kOctet, layout.uploads - octet * kOctet);
        if (!take_uploads(layer, (first + block) * layout.uploads + octet * kOctet, count, kOctet, words.data())) words_fit = false;
        plane_layout.fill(kernels, planes.data() + block * plane_layout.bytes, octet, words.data());
      });
      if (!words_fit) return Verdict::kWordTooLarge;
      over(some * per_block, [&](i64 index, i64 from, i64 to) {
        const i64 block = index / per_block;
        const GatherStrip& strip = strips[size(index % per_block)];
        multiply(planes.data() + block * plane_layout.bytes, strip.start, from, to, [&](i64 answer, const u64* row) {
          u64* out = replies.at(block, answer);
          for (const GatherRun& run : strip.runs)
            std::copy(row + run.coefficient, row + run.coefficient + run.count, out + run.index);
        });
      });
      replies.send(some);
    }
    return Verdict::kDone;
  }

  // Writes the a part of all answers for one seed.
  Verdict answer_a(i64 seed) {
    const i64 octets = ceil_div(layout.uploads, kOctet), n = layout.ring->n;
    const i64 byte_words = kOctet * static_cast<i64>(layout.positions().public_bytes()) / 8;
    Memory<std::uint8_t> planes(size(plane_layout.bytes));
    Scratches scratches(2 * kOctet * n + byte_words);
    const RingView ring = layout.ring->view();
    std::atomic<bool> seeds_suffice{true};
    run(octets, kWordNs * static_cast<double>(kOctet * n), [&](i64 octet) {
      Scratches::Loan words(scratches);
      const i64 count = std::min(kOctet, layout.uploads - octet * kOctet);
      std::uint8_t* bytes = reinterpret_cast<std::uint8_t*>(words.data() + 2 * kOctet * n);
      if (!take_public(layer, seed, octet * kOctet, count, kOctet, bytes, words.data())) seeds_suffice = false;
      kernels.to_coefficients(ring, words.data(), words.data() + kOctet * n);
      plane_layout.fill(kernels, planes.data(), octet, words.data());
    });
    if (!seeds_suffice) return Verdict::kSeedTooPoor;
    over(n / kStrip, [&](i64 strip, i64 from, i64 to) {
      multiply(planes.data(), strip * kStrip, from, to,
               [&](i64 answer, u64* row) { send_public(layer, seed, answer, strip * kStrip, kStrip, row); });
    });
    return Verdict::kDone;
  }

  const Evaluation& layer;
  const Layout& layout;
  const Weights::State& weights;
  const ProductKernels& kernels;
  const PlaneLayout plane_layout;
};

}  // namespace

Verdict evaluate_limbs(const Evaluation& layer) { return LimbRun(layer).all(); }

Verdict public_words(const Layout& layout, Fill& fill, u64* words) {
  const i64 n = layout.ring->n, octets = ceil_div(layout.uploads, kOctet);
  const i64 byte_words = kOctet * static_cast<i64>(layout.positions().public_bytes()) / 8;
  Scratches scratches(2 * kOctet * n + byte_words);
  const RingView ring = layout.ring->view();
  Evaluation layer;
  layer.layout = &layout, layer.fill = &fill;
  std::atomic<bool> seeds_suffice{true};
  run(layout.seeds * octets, kWordNs * static_cast<double>(kOctet * n), [&](i64 index) {
    const i64 seed = index / octets, octet = index % octets, count = std::min(kOctet, layout.uploads - octet * kOctet);
    Scratches::Loan room(scratches);
    std::uint8_t* bytes = reinterpret_cast<std::uint8_t*>(room.data() + 2 * kOctet * n);
    if (!take_public(layer, seed, octet * kOctet, count, kOctet, bytes, room.data())) seeds_suffice = false;
    kernels().product->to_coefficients(ring, room.data(), room.data() + kOctet * n);
    std::copy_n(room.data(), count * n, words + (seed * layout.uploads + octet * kOctet) * n);
  });
  return seeds_suffice ? Verdict::kDone : Verdict::kSeedTooPoor;
}

std::size_t limb_bytes(const Layout& layout) {
  const PlaneLayout plane_layout(layout, *kernels().product);
  const i64 at_once = std::clamp(kPlaneBytes / plane_layout.bytes, i64{1}, layout.blocks), n = layout.ring->n;
  const i64 scratch = 16 * kOctet * n + kOctet * static_cast<i64>(layout.positions().public_bytes());
  const i64 words = 8 * (8 + at_once * layout.answers * static_cast<i64>(layout.gather_indices.size()));
  return size(at_once * plane_layout.bytes + words + threads() * (scratch + 65536));
}

}  // namespace hecompile
