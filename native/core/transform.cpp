// The product in evaluation form: weights and uploads are transformed, and an answer is a sum of products value by value.
#include <algorithm>
#include <atomic>

#include "core/kernels.h"
#include "core/pool.h"
#include "core/product_parts.h"

namespace hecompile {
namespace {

using i64 = std::int64_t;
using u64 = std::uint64_t;

constexpr i64 kValueBytes = i64{128} << 20;  // most bytes of the transformed uploads that are worked on at a time
constexpr i64 kNear = 64;           // coefficients whose weights stay in the first cache while all blocks are multiplied by them
constexpr i64 kTasksPerThread = 4;  // several, so that all threads end at about the same time
constexpr double kWordNs = 3;       // about how many nanoseconds it takes to transform one word

std::size_t size(i64 value) { return static_cast<std::size_t>(value); }
// a / b, rounded up.
i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

// How many sets of uploads are worked on at a time. The uploads of a block are a set, and so are the `a` of a seed.
i64 sets_at_once(const Layout& layout) {
  return std::clamp(kValueBytes / (8 * layout.uploads * layout.ring->n), i64{1}, layout.blocks + layout.seeds);
}

// Into how many pieces the uploads are cut so that all threads have work. Every piece has sums of its own; they are added later.
i64 upload_pieces(const Layout& layout) {
  const i64 octets = ceil_div(layout.answers, kLanes), batches = ceil_div(layout.uploads, kBatch);
  return octets >= kTasksPerThread * threads() ? 1 : std::min(batches, ceil_div(kTasksPerThread * threads(), octets));
}

// One evaluation of a layer by transforms. A set is the uploads of one block, or the `a` of one seed.
class TransformRun {
 public:
  explicit TransformRun(const Evaluation& given)
      : layer(given),
        layout(*given.layout),
        weights(given.weights->state()),
        kernels(*weights.kernels),
        ring(layout.ring->view()),
        n(ring.n),
        sets(layout.blocks + (given.fill == nullptr ? 0 : layout.seeds)),
        at_once(std::min(sets_at_once(layout), sets)),
        octets(ceil_div(layout.answers, kLanes)),
        pieces(upload_pieces(layout)),
        sum_size(kernels.sum_cells * kLanes),
        values(size(at_once * layout.uploads * n)),
        runs(gather_runs(layout)),
        replies(layer, std::min(at_once, layout.blocks)) {}

  Verdict all() {
    for (i64 first = 0; first < sets; first += at_once) {
      const i64 count = std::min(at_once, sets - first);
      const Verdict verdict = take(first, count);
      if (verdict != Verdict::kDone) return verdict;
      if (pieces == 1) multiply_octets(first, count);
      else multiply_pieces(first, count);
      const i64 blocks = std::clamp(layout.blocks - first, i64{0}, count);
      if (blocks > 0) replies.send(blocks);
    }
    return Verdict::kDone;
  }

 private:
  // Transforms the uploads of sets [first, first + count), which are numbered blocks first, then seeds.
  Verdict take(i64 first, i64 count) {
    const i64 blocks = std::clamp(layout.blocks - first, i64{0}, count), polynomials = blocks * layout.uploads;
    const i64 block_octets = ceil_div(polynomials, kLanes), seed_octets = ceil_div(layout.uploads, kLanes);
    const i64 byte_words = kLanes * static_cast<i64>(layout.positions().public_bytes()) / 8;
    Scratches scratches(3 * kLanes * n + byte_words);
    std::atomic<bool> words_fit{true}, seeds_suffice{true};
    run(block_octets + (count - blocks) * seed_octets, kWordNs * static_cast<double>(kLanes * n), [&](i64 task) {
      Scratches::Loan loan(scratches);
      u64 *words = loan.data(), *cells = words + kLanes * n, *eight = cells + kLanes * n;
      if (task < block_octets) {
        const i64 some = std::min(kLanes, polynomials - task * kLanes);
        if (!take_uploads(layer, first * layout.uploads + task * kLanes, some, kLanes, words)) words_fit = false;
        kernels.to_values(ring, words, cells, eight);
        std::copy(eight, eight + some * n, values.data() + task * kLanes * n);
        return;
      }
      const i64 set = blocks + (task - block_octets) / seed_octets, upload = (task - block_octets) % seed_octets * kLanes;
      const i64 some = std::min(kLanes, layout.uploads - upload);
      std::uint8_t* bytes = reinterpret_cast<std::uint8_t*>(eight + kLanes * n);
      if (!take_public(layer, first + set - layout.blocks, upload, some, some, bytes, words)) seeds_suffice = false;
      kernels.to_cells(ring, words, some * n, values.data() + (set * layout.uploads + upload) * n);
    });
    return !words_fit ? Verdict::kWordTooLarge : !seeds_suffice ? Verdict::kSeedTooPoor : Verdict::kDone;
  }

  // Writes to `sums`, (count, N, sum_cells, 8), the sums of products of weights by uploads [from, to), for the eight answers of an
  // octet and `count` sets. room: (kBatch, N, 8) to transform weights in.
  void multiply(i64 octet, i64 from, i64 to, i64 count, u64* sums, u64* room) const {
    const i64 weight_bytes = weights.terms * kLanes;
    const SparsePlan plan = weights.sparse.plan();
    const i64 cells = n * sum_size;
    std::fill(sums, sums + count * cells, 0);
    i64 added = 0;
    for (i64 upload = from; upload < to; upload += kBatch) {
      added += kBatch;
      if (added > kernels.most_products) {
        kernels.fold(ring, count * n, sums);
        added = kBatch;
      }
      const i64 batch = std::min(kBatch, to - upload);
      const Cell* transformed[kBatch];
      for (i64 k = 0; k < batch; k++) {
        const i64 pair = octet * layout.uploads + upload + k;
        if (weights.transformed.size() > 0) {
          transformed[k] = weights.transformed.data() + pair * n * kLanes;
        } else {
          kernels.transform_weights(ring, plan, weights.ordered.data() + pair * weight_bytes, room + k * n * kLanes);
          transformed[k] = room + k * n * kLanes;
        }
      }
      for (i64 c = 0; c < n; c += kNear) {
        const Cell *near[kBatch], *value[kBatch];
        for (i64 k = 0; k < batch; k++) near[k] = transformed[k] + c * kLanes;
        for (i64 set = 0; set < count; set++) {
          for (i64 k = 0; k < batch; k++) value[k] = values.data() + (set * layout.uploads + upload + k) * n + c;
          kernels.accumulate(ring, batch, near, value, kNear, sums + set * cells + c * sum_size);
        }
      }
    }
    if (pieces > 1) kernels.fold(ring, count * n, sums);
  }

  // Writes the eight answers of one set from their sums, which are overwritten. words: (8, N) to work in.
  void answer(i64 octet, i64 first, i64 set, u64* sums, u64* words) {
    kernels.to_words(ring, sums, words);
    for (i64 number = kLanes * octet; number < std::min(kLanes * (octet + 1), layout.answers); number++) {
      u64* row = words + (number - kLanes * octet) * n;
      if (first + set >= layout.blocks) {
        send_public(layer, first + set - layout.blocks, number, 0, n, row);
        continue;
      }
      u64* out = replies.at(set, number);
      for (const GatherRun& run : runs) std::copy(row + run.coefficient, row + run.coefficient + run.count, out + run.index);
    }
  }

  double piece_ns(i64 count) const {
    return static_cast<double>(layout.uploads * n / pieces) * (8.0 + 2.0 * static_cast<double>(count));
  }

  // Computes the answers of `count` sets from set `first` on; a task has eight answers.
  void multiply_octets(i64 first, i64 count) {
    Scratches scratches((count * sum_size + kBatch * kLanes) * n);
    run(octets, piece_ns(count), [&](i64 octet) {
      Scratches::Loan loan(scratches);
      u64 *sums = loan.data(), *room = sums + count * n * sum_size;
      multiply(octet, 0, layout.uploads, count, sums, room);
      for (i64 set = 0; set < count; set++) answer(octet, first, set, sums + set * n * sum_size, room);
    });
  }

  // The same where there are few answers; a task has eight answers and one piece of the uploads.
  void multiply_pieces(i64 first, i64 count) {
    const i64 step = ceil_div(ceil_div(layout.uploads, pieces), kBatch) * kBatch, used = ceil_div(layout.uploads, step),
              cells = n * sum_size;
    Memory<u64> sums(size(octets * used * count * cells));
    Scratches rooms(kBatch * kLanes * n), words(kLanes * n);
    run(octets * used, piece_ns(count), [&](i64 task) {
      Scratches::Loan room(rooms);
      const i64 from = task % used * step;
      multiply(task / used, from, std::min(from + step, layout.uploads), count, sums.data() + task * count * cells, room.data());
    });
    run(octets * count, kWordNs * static_cast<double>(cells), [&](i64 task) {
      Scratches::Loan loan(words);
      const i64 octet = task / count, set = task % count;
      u64* total = sums.data() + (octet * used * count + set) * cells;
      for (i64 piece = 1; piece < used; piece++) kernels.join(ring, total + piece * count * cells, n, total);
      answer(octet, first, set, total, loan.data());
    });
  }

  const Evaluation& layer;
  const Layout& layout;
  const Weights::State& weights;
  const ProductKernels& kernels;
  const RingView ring;
  const i64 n, sets, at_once, octets, pieces, sum_size;
  Memory<u64> values;  // (sets at once, uploads, N) cells
  const std::vector<GatherRun> runs;
  GatheredWords replies;
};

}  // namespace

Verdict evaluate_transform(const Evaluation& layer) { return TransformRun(layer).all(); }

std::size_t transform_bytes(const Layout& layout) {
  const i64 at_once = sets_at_once(layout), n = layout.ring->n, cells = n * kLanes, workers = threads();
  const i64 octets = ceil_div(layout.answers, kLanes), pieces = upload_pieces(layout);
  const i64 words = 8 + std::min(at_once, layout.blocks) * layout.answers * static_cast<i64>(layout.gather_indices.size());
  const i64 values = at_once * layout.uploads * n;
  const i64 taking = workers * (3 * cells + kLanes * static_cast<i64>(layout.positions().public_bytes()) / 8);
  const i64 sums = at_once * kernels().product->sum_cells * cells;
  const i64 working = pieces == 1 ? workers * (sums + kBatch * cells) : octets * pieces * sums + workers * (kBatch + 1) * cells;
  return size(8 * (values + words + std::max(taking, working)));
}

SparseColumns::SparseColumns(i64 n, const std::vector<std::int32_t>& places) {
  std::vector<bool> live(size(n));  // whether a coefficient, or a column once levels are done, is not always zero
  for (const std::int32_t place : places) live[size(place)] = true;
  for (; levels_ < kMostSparse && n >> levels_ > 8; levels_++) {
    const i64 half = n >> (levels_ + 1);
    std::vector<bool> next(size(half));
    i64 count = 0;
    for (i64 c = 0; c < half; c++) next[size(c)] = live[size(c)] || live[size(c + half)], count += next[size(c)];
    if (4 * count > 3 * half) break;  // most columns are not zero: the dense transform is faster
    live = std::move(next);
  }
  const i64 width = n >> levels_;
  for (i64 c = 0; c < width; c++) (live[size(c)] ? columns_ : empty_).push_back(static_cast<std::int32_t>(c));
  for (const std::int32_t column : columns_) {
    std::vector<bool> filled(size(i64{1} << levels_));  // places of the column whose value is not zero, in each block of the level
    for (std::size_t term = 0; term < places.size(); term++)
      if (places[term] % width == column) {
        const i64 place = places[term] / width;
        terms_.push_back({static_cast<std::int32_t>(term), static_cast<std::int32_t>(place)});
        filled[size(place)] = true;
      }
    term_ends_.push_back(static_cast<std::int32_t>(terms_.size()));
    for (i64 half = i64{1} << levels_ >> 1; half > 0; half /= 2) {
      std::vector<bool> next(size(half));
      std::vector<std::int32_t> kinds[3];
      for (i64 place = 0; place < half; place++) {
        const bool lower = filled[size(place)], upper = filled[size(place + half)];
        next[size(place)] = lower || upper;
        if (lower || upper) kinds[lower && upper ? 2 : lower ? 0 : 1].push_back(static_cast<std::int32_t>(place));
      }
      for (const auto& kind : kinds) {
        pairs_.insert(pairs_.end(), kind.begin(), kind.end());
        ends_.push_back(static_cast<std::int32_t>(pairs_.size()));
      }
      filled = std::move(next);
    }
  }
}

SparsePlan SparseColumns::plan() const {
  return {levels_,       static_cast<i64>(columns_.size()), columns_.data(), term_ends_.data(), terms_.data(), ends_.data(),
          pairs_.data(), static_cast<i64>(empty_.size()),   empty_.data()};
}

}  // namespace hecompile
