// The product as sums of limbs times int8 weights.
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
constexpr i64 kPlaneBytes = i64{96} << 20;  // of several blocks at a time
constexpr i64 kTasksPerThread = 8;          // so that no thread waits for another
constexpr double kWordNs = 3;               // to unpack, transform and cut one word, about
constexpr double kStepNs = 6;               // of a block of answers, a strip and one limb, about

std::size_t size(i64 value) { return static_cast<std::size_t>(value); }
i64 up(i64 a, i64 b) { return (a + b - 1) / b; }

// Planes of limbs of all uploads: (limbs, upload groups, coefficients, group). Coefficients go from the smallest offset to N and
// the largest one, negated below zero and from N on, so that a term is a moved pointer; then a strip of zeros.
struct Sheet {
  Sheet(const Layout& layout, const ProductKernels& kernels)
      : n(layout.ring->n), q(layout.ring->q), group(kernels.group), limbs(kernels.limbs(layout.ring->q)) {
    for (const std::int32_t offset : layout.offsets) low = std::min<i64>(low, offset), high = std::max<i64>(high, offset);
    place = group * kernels.limb_bytes;
    groups = up(layout.uploads, group);
    const i64 lines = up((n + high - low + kStrip) * place, kAlignment);
    pitch = (lines | 1) * static_cast<i64>(kAlignment);  // odd: groups spread over the sets of a cache
    plane_bytes = groups * pitch;
    bytes = limbs * plane_bytes;
    for (const std::int32_t offset : layout.offsets) offsets.push_back(offset * place);
    far = 2 * distinct_bytes() > static_cast<i64>(offsets.size()) * kStrip * place;
  }

  const std::uint8_t* at(const std::uint8_t* planes, i64 coefficient) const { return planes + (coefficient - low) * place; }

  // Cuts an octet's words (8, N).
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
  i64 group, limbs, low = 0, high = 0, place, groups, pitch, plane_bytes, bytes;
  std::vector<i64> offsets;
  bool far = false;

 private:
  // Bytes of a strip that the terms read in one group.
  i64 distinct_bytes() const {
    std::vector<i64> sorted = offsets;
    std::sort(sorted.begin(), sorted.end());
    i64 bytes_read = kStrip * place;
    for (std::size_t i = 1; i < sorted.size(); i++) bytes_read += std::min(sorted[i] - sorted[i - 1], kStrip * place);
    return bytes_read;
  }
};

// Strips of coefficients that hold all reads, as few as there can be. Their runs count coefficients from the strip's start.
struct ReadStrip {
  i64 start;
  std::vector<ReadRun> runs;
};

std::vector<ReadStrip> read_strips(const Layout& layout) {
  std::vector<ReadStrip> strips;
  for (ReadRun run : read_runs(layout))
    while (run.count > 0) {
      if (strips.empty() || run.coefficient >= strips.back().start + kStrip) strips.push_back({run.coefficient, {}});
      const i64 within = run.coefficient - strips.back().start, count = std::min(run.count, kStrip - within);
      strips.back().runs.push_back({within, run.read, count});
      run.coefficient += count, run.read += count, run.count -= count;
    }
  return strips;
}

class LimbRun {
 public:
  explicit LimbRun(const Evaluation& given)
      : layer(given), layout(*given.layout), weights(given.weights->state()), kernels(*weights.kernels), sheet(layout, kernels) {}

  Verdict all() {
    Verdict verdict = reads();
    for (i64 seed = 0; layer.fill != nullptr && seed < layout.seeds && verdict == Verdict::kDone; seed++) verdict = publics(seed);
    return verdict;
  }

 private:
  // Answers of blocks [first, last) of one strip: take(answer, its kStrip words).
  template <typename Take>
  void multiply(const std::uint8_t* planes, i64 start, i64 first, i64 last, const Take& take) const {
    const i64 most = kernels.most_blocks, step_bytes = kernels.rows * kernels.depth * kernels.group;
    const i64 weight_bytes = up(sheet.groups, kernels.depth) * weights.terms * step_bytes;
    alignas(64) u64 words[kMostAnswers * kStrip];
    for (i64 each = first; each < last; each += most) {
      const i64 blocks = std::min(most, last - each);
      kernels.multiply({sheet.at(planes, start), size(sheet.plane_bytes), size(sheet.pitch), sheet.offsets.data(), sheet.groups,
                        weights.terms, sheet.limbs, weights.ordered.data() + each * weight_bytes, weights.most_steps, sheet.q,
                        words, blocks, size(weight_bytes), sheet.far});
      for (i64 answer = kernels.rows * each; answer < std::min(kernels.rows * (each + blocks), layout.answers); answer++)
        take(answer, words + (answer - kernels.rows * each) * kStrip);
    }
  }

  // Tasks over strips and pieces of the answer blocks: task(strip, first block, last).
  void over(i64 strips, const std::function<void(i64, i64, i64)>& task) const {
    const i64 blocks = up(layout.answers, kernels.rows);
    const double block_ns = static_cast<double>(sheet.groups * weights.terms * sheet.limbs) * kStepNs;
    const i64 pieces = std::clamp(up(kTasksPerThread * threads(), strips), i64{1}, blocks),
              step = up(up(blocks, pieces), i64{2}) * 2;
    const i64 used = up(blocks, step);
    run(strips * used, block_ns * static_cast<double>(step), [&](i64 index) {
      const i64 first = index % used * step;
      task(index / used, first, std::min(first + step, blocks));
    });
  }

  Verdict reads() {
    const std::vector<ReadStrip> strips = read_strips(layout);
    const i64 at_once = std::clamp(kPlaneBytes / sheet.bytes, i64{1}, layout.blocks);
    const i64 octets = up(layout.uploads, kOctet), n = layout.ring->n, per_block = static_cast<i64>(strips.size());
    Memory<std::uint8_t> planes(size(at_once * sheet.bytes));
    ReadWords replies(layer, at_once);
    Scratches scratches(kOctet * n);
    std::atomic<bool> small{true};
    for (i64 first = 0; first < layout.blocks; first += at_once) {
      const i64 some = std::min(at_once, layout.blocks - first);
      run(some * octets, kWordNs * static_cast<double>(kOctet * n), [&](i64 index) {
        const i64 block = index / octets, octet = index % octets;
        Scratches::Loan words(scratches);
        const i64 count = std::min(kOctet, layout.uploads - octet * kOctet);
        if (!take_uploads(layer, (first + block) * layout.uploads + octet * kOctet, count, kOctet, words.data())) small = false;
        sheet.fill(kernels, planes.data() + block * sheet.bytes, octet, words.data());
      });
      if (!small) return Verdict::kWordTooLarge;
      over(some * per_block, [&](i64 index, i64 from, i64 to) {
        const i64 block = index / per_block;
        const ReadStrip& strip = strips[size(index % per_block)];
        multiply(planes.data() + block * sheet.bytes, strip.start, from, to, [&](i64 answer, const u64* row) {
          u64* out = replies.at(block, answer);
          for (const ReadRun& run : strip.runs) std::copy(row + run.coefficient, row + run.coefficient + run.count, out + run.read);
        });
      });
      replies.send(some);
    }
    return Verdict::kDone;
  }

  Verdict publics(i64 seed) {
    const i64 octets = up(layout.uploads, kOctet), n = layout.ring->n;
    const i64 byte_words = kOctet * static_cast<i64>(layout.positions().public_bytes()) / 8;
    Memory<std::uint8_t> planes(size(sheet.bytes));
    Scratches scratches(2 * kOctet * n + byte_words);
    const RingView ring = layout.ring->view();
    std::atomic<bool> rich{true};
    run(octets, kWordNs * static_cast<double>(kOctet * n), [&](i64 octet) {
      Scratches::Loan words(scratches);
      const i64 count = std::min(kOctet, layout.uploads - octet * kOctet);
      std::uint8_t* bytes = reinterpret_cast<std::uint8_t*>(words.data() + 2 * kOctet * n);
      if (!take_public(layer, seed, octet * kOctet, count, kOctet, bytes, words.data())) rich = false;
      kernels.to_coefficients(ring, words.data(), words.data() + kOctet * n);
      sheet.fill(kernels, planes.data(), octet, words.data());
    });
    if (!rich) return Verdict::kSeedTooPoor;
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
  const Sheet sheet;
};

}  // namespace

Verdict evaluate_limbs(const Evaluation& layer) { return LimbRun(layer).all(); }

Verdict public_words(const Layout& layout, Fill& fill, u64* words) {
  const i64 n = layout.ring->n, octets = up(layout.uploads, kOctet);
  const i64 byte_words = kOctet * static_cast<i64>(layout.positions().public_bytes()) / 8;
  Scratches scratches(2 * kOctet * n + byte_words);
  const RingView ring = layout.ring->view();
  Evaluation layer;
  layer.layout = &layout, layer.fill = &fill;
  std::atomic<bool> rich{true};
  run(layout.seeds * octets, kWordNs * static_cast<double>(kOctet * n), [&](i64 index) {
    const i64 seed = index / octets, octet = index % octets, count = std::min(kOctet, layout.uploads - octet * kOctet);
    Scratches::Loan room(scratches);
    std::uint8_t* bytes = reinterpret_cast<std::uint8_t*>(room.data() + 2 * kOctet * n);
    if (!take_public(layer, seed, octet * kOctet, count, kOctet, bytes, room.data())) rich = false;
    kernels().product->to_coefficients(ring, room.data(), room.data() + kOctet * n);
    std::copy_n(room.data(), count * n, words + (seed * layout.uploads + octet * kOctet) * n);
  });
  return rich ? Verdict::kDone : Verdict::kSeedTooPoor;
}

std::size_t limb_bytes(const Layout& layout) {
  const Sheet sheet(layout, *kernels().product);
  const i64 at_once = std::clamp(kPlaneBytes / sheet.bytes, i64{1}, layout.blocks), n = layout.ring->n;
  const i64 scratch = 16 * kOctet * n + kOctet * static_cast<i64>(layout.positions().public_bytes());
  const i64 words = 8 * (8 + at_once * layout.answers * static_cast<i64>(layout.reads.size()));
  return size(at_once * sheet.bytes + words + threads() * (scratch + 65536));
}

}  // namespace hecompile
