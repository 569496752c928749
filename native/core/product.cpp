#include "core/product.h"

#include <algorithm>
#include <stdexcept>

#include "core/expand.h"
#include "core/pool.h"
#include "core/product_parts.h"
#include "core/wire.h"

namespace hecompile {
namespace {

using i64 = std::int64_t;
using u64 = std::uint64_t;

constexpr double kTaskNs = 30'000;  // a thread makes shorter calls in a row until they take about this long
constexpr i64 kPackAtOnce = 4096;   // words that one task packs, a multiple of 8

std::size_t size(i64 value) { return static_cast<std::size_t>(value); }

// Encodes integers and adds them to words modulo q. Throws std::invalid_argument for one above t/2 in absolute value.
void add_encoded(const Ring& ring, const i64* integers, i64 count, u64* words) {
  const u64 half = u64{1} << (ring.t_bits - 1);
  bool fits = true;
  for (i64 i = 0; i < count; i++) {
    const u64 sign = 0 - static_cast<u64>(integers[i] < 0), absolute = (static_cast<u64>(integers[i]) ^ sign) - sign;
    fits &= absolute <= half;
    const u64 word = words[i] + (((absolute * ring.delta) ^ sign) - sign) + (ring.q & sign);
    words[i] = word >= ring.q ? word - ring.q : word;
  }
  if (!fits) throw std::invalid_argument("product: an added integer is not below t/2");
}

}  // namespace

void run(i64 count, double task_ns, const std::function<void(i64)>& task) {
  const i64 together = std::clamp(static_cast<i64>(kTaskNs / std::max(task_ns, 1.0)), i64{1}, std::max(i64{1}, count));
  const i64 tasks = (count + together - 1) / together;
  parallel(size(tasks), [&](std::size_t index) {
    const i64 first = static_cast<i64>(index) * together;
    for (i64 i = first; i < std::min(first + together, count); i++) task(i);
  });
}

Scratches::Loan::Loan(Scratches& owner) : owner_(owner) {
  {
    const std::lock_guard lock(owner.mutex_);
    if (!owner.free_.empty()) {
      memory_ = std::move(owner.free_.back());
      owner.free_.pop_back();
    }
  }
  if (!memory_) memory_ = std::make_unique<Memory<u64>>(owner.words_);
}

Scratches::Loan::~Loan() {
  const std::lock_guard lock(owner_.mutex_);
  owner_.free_.push_back(std::move(memory_));
}

std::vector<GatherRun> gather_runs(const Layout& layout) {
  std::vector<GatherRun> runs;
  for (i64 i = 0; i < static_cast<i64>(layout.gather_indices.size()); i++) {
    const i64 coefficient = layout.gather_indices[size(i)];
    if (runs.empty() || coefficient != runs.back().coefficient + runs.back().count) runs.push_back({coefficient, i, 0});
    runs.back().count++;
  }
  return runs;
}

GatheredWords::GatheredWords(const Evaluation& layer, i64 blocks_at_once)
    : layer_(layer),
      gathered_(static_cast<i64>(layer.layout->gather_indices.size())),
      words_(size(8 + blocks_at_once * layer.layout->answers * gathered_)) {}

u64* GatheredWords::at(i64 block, i64 answer) {
  return words_.data() + size(kept_ + (block * layer_.layout->answers + answer) * gathered_);
}

void GatheredWords::send(i64 blocks) {
  const Layout& layout = *layer_.layout;
  const Ring& ring = *layout.ring;
  const i64 fresh = blocks * layout.answers * gathered_, total = layout.down_b_words();
  const i64 start = first_block_ * layout.answers * gathered_;  // where the fresh words begin on the wire
  const int drop = layout.shape.drop_b, bits = ring.q_bits - drop;
  const i64* added = layer_.added == nullptr ? nullptr : layer_.added + start;
  const bool last = start + fresh == total;
  const i64 first = start - kept_, ready = last ? kept_ + fresh : (kept_ + fresh) / 8 * 8;
  run((kept_ + fresh + kPackAtOnce - 1) / kPackAtOnce, 2e0 * kPackAtOnce, [&](i64 task) {
    const i64 from = task * kPackAtOnce, to = std::min(from + kPackAtOnce, kept_ + fresh), some = std::max(from, kept_);
    if (added != nullptr) add_encoded(ring, added + some - kept_, to - some, words_.data() + some);
    layer_.weights->state().kernels->round(words_.data() + some, to - some, drop, ring.q_bits);
    if (std::min(to, ready) > from)
      pack_words(words_.data() + from, layer_.b, size(total), bits, size(first + from), size(std::min(to, ready) - from));
  });
  std::copy(words_.data() + ready, words_.data() + kept_ + fresh, words_.data());
  kept_ = kept_ + fresh - ready;
  first_block_ += blocks;
}

bool take_uploads(const Evaluation& layer, i64 first, i64 count, i64 room, u64* words) {
  const Layout& layout = *layer.layout;
  const i64 n = layout.ring->n;
  unpack_words(layer.words, size(layout.up_words()), layout.ring->q_bits, size(first * n), size(count * n), words);
  u64 most = 0;
  for (i64 i = 0; i < count * n; i++) most = std::max(most, words[i]);
  std::fill(words + count * n, words + room * n, 0);
  return most < layout.ring->q;
}

bool take_public(const Evaluation& layer, i64 seed, i64 first, i64 count, i64 room, std::uint8_t* bytes, u64* words) {
  const Layout& layout = *layer.layout;
  const i64 n = layout.ring->n;
  const Positions at = layout.positions();
  layer.fill->fill(Stream::kPublic, static_cast<int>(seed), at.public_at(first), bytes, size(count) * at.public_bytes());
  bool enough = true;
  for (i64 u = 0; u < count; u++) enough &= expand(*layout.ring, bytes + size(u) * at.public_bytes(), words + u * n);
  std::fill(words + count * n, words + room * n, 0);
  return enough;
}

void send_public(const Evaluation& layer, i64 seed, i64 answer, i64 first, i64 count, u64* words) {
  const Layout& layout = *layer.layout;
  const int drop = layout.shape.drop_a, q_bits = layout.ring->q_bits;
  layer.weights->state().kernels->round(words, count, drop, q_bits);
  pack_words(words, layer.a, size(layout.down_a_words()), q_bits - drop,
             size((seed * layout.answers + answer) * layout.ring->n + first), size(count));
}

Verdict evaluate(const Evaluation& layer) {
  const Weights::State& weights = layer.weights->state();
  const Layout& layout = *layer.layout;
  if (layout.ring->q != weights.ring->q || layout.ring->n != weights.ring->n || layout.offsets != weights.offsets ||
      layout.uploads != weights.uploads || layout.answers != weights.answers || layout.shape.p_in != weights.p_in ||
      layout.shape.p_out != weights.p_out)
    throw std::invalid_argument("product: weights of another layout");
  return weights.form == Form::kLimbs ? evaluate_limbs(layer) : evaluate_transform(layer);
}

u64 round_off(u64 word, int bits, int q_bits) {
  if (bits == 0) return word;
  return ((word + (u64{1} << (bits - 1))) >> bits) & ((u64{1} << (q_bits - bits)) - 1);
}

std::size_t working_bytes(const Layout& layout, Form form) {
  return form == Form::kLimbs ? limb_bytes(layout) : transform_bytes(layout);
}

}  // namespace hecompile
