#include <algorithm>
#include <stdexcept>

#include "core/kernels.h"
#include "core/pool.h"
#include "core/product_parts.h"

namespace hecompile {
namespace {

using i64 = std::int64_t;

// The largest 1-norm of an answer's weights. With limbs of at most 25 bits all sums are then below 2^53, and exact in doubles.
constexpr i64 kMostNorm = i64{1} << 28;

std::size_t size(i64 value) { return static_cast<std::size_t>(value); }

// Brings weights (output channels, channels, taps) into the order (answers / rows, uploads / group, terms, rows, group). Entries
// beyond the last output channel or channel are zero.
Buffer<std::int8_t> reorder(const Layout& layout, const std::int8_t* values, i64 rows, i64 group) {
  const Shape& s = layout.shape;
  const i64 taps = static_cast<i64>(s.taps.size()), terms = s.p_out * s.p_in * taps;
  const i64 blocks = (layout.answers + rows - 1) / rows, groups = (layout.uploads + group - 1) / group;
  Buffer<std::int8_t> ordered(size(blocks * groups * terms * rows * group));
  parallel(size(blocks), [&](std::size_t block) {
    std::int8_t* to = ordered.data() + block * size(groups * terms * rows * group);
    for (i64 g = 0; g < groups; g++)
      for (i64 j = 0; j < s.p_out; j++)
        for (i64 i = 0; i < s.p_in; i++)
          for (i64 tap = 0; tap < taps; tap++)
            for (i64 r = 0; r < rows; r++)
              for (i64 u = 0; u < group; u++, to++) {
                const i64 answer = static_cast<i64>(block) * rows + r, row = answer * s.p_out + j;
                const i64 upload = g * group + u, channel = upload * s.p_in + i;
                if (answer < layout.answers && row < s.rows && upload < layout.uploads && channel < s.channels)
                  *to = values[size((row * s.channels + channel) * taps + tap)];
              }
  });
  return ordered;
}

// How many products a kernel computes for one term and limb, including those with zeros that fill up its blocks and steps.
i64 filled(const ProductKernels& kernels, i64 answers, i64 groups) {
  return (answers + kernels.rows - 1) / kernels.rows * kernels.rows * ((groups + kernels.depth - 1) / kernels.depth) *
         kernels.depth;
}

// The kernel for the limbs of so many answers and upload groups: the narrow one where the other would compute more than 2.5 times
// as many products, most of them with the zeros that fill it up.
const ProductKernels* limb_kernels(const ProductKernels* kernels, i64 answers, i64 groups) {
  if (kernels->narrow == nullptr) return kernels;
  const bool fits = 2 * filled(*kernels, answers, groups) <= 5 * filled(*kernels->narrow, answers, groups);
  return fits ? kernels : kernels->narrow;
}

// The largest 1-norm of an answer's weights.
i64 largest_norm(const Layout& layout, const std::int8_t* values) {
  const i64 entries = layout.shape.channels * static_cast<i64>(layout.shape.taps.size());
  i64 most = 0;
  for (i64 answer = 0; answer < layout.answers; answer++) {
    i64 norm = 0;
    const i64 first = answer * layout.shape.p_out, last = std::min(first + layout.shape.p_out, layout.shape.rows);
    for (i64 i = first * entries; i < last * entries; i++) norm += values[i] < 0 ? -values[i] : values[i];
    most = std::max(most, norm);
  }
  return most;
}

}  // namespace

Weights::Weights(const Layout& layout, const std::int8_t* values, Form form, std::size_t keep_bytes) : state_(new State) {
  const Shape& s = layout.shape;
  const i64 count = s.rows * s.channels * static_cast<i64>(s.taps.size());
  if (std::any_of(values, values + count, [](std::int8_t value) { return value == -128; }))
    throw std::invalid_argument("weights: -128 is not allowed");
  const i64 norm = largest_norm(layout, values);
  if (norm > kMostNorm) throw std::invalid_argument("weights: the 1-norm of an answer is too large for exact sums");
  State& state = *state_;
  state.form = form;
  state.kernels = kernels().product;
  state.ring = layout.ring;
  state.p_in = s.p_in, state.p_out = s.p_out, state.uploads = layout.uploads, state.answers = layout.answers;
  state.offsets = layout.offsets;
  state.terms = static_cast<i64>(layout.offsets.size());
  if (form == Form::kLimbs) {
    const i64 groups = (state.uploads + state.kernels->group - 1) / state.kernels->group;
    state.kernels = limb_kernels(state.kernels, state.answers, groups);
    const ProductKernels& kernels = *state.kernels;
    const bool fits = kernels.limb_limit * norm < i64{1} << 31;
    state.most_steps = fits ? groups * state.terms : kernels.safe_steps;
    state.ordered = reorder(layout, values, kernels.rows, kernels.depth * kernels.group);
    return;
  }
  const ProductKernels& kernels = *state.kernels;
  state.ordered = reorder(layout, values, kLanes, 1);
  const i64 n = layout.ring->n, pairs = (state.answers + kLanes - 1) / kLanes * state.uploads;
  std::vector<std::int32_t> places;
  for (i64 term = 0; term < state.terms; term++) {
    // X^-offset is a power of X from 0 to N - 1. Weights are negated where X^N = -1 was used for that.
    const i64 offset = layout.offsets[size(term)];
    places.push_back(static_cast<std::int32_t>(offset == -n ? 0 : offset > 0 ? n - offset : -offset));
    if (offset != -n && offset <= 0) continue;
    std::int8_t* lanes = state.ordered.data() + term * kLanes;
    for (i64 pair = 0; pair < pairs; pair++, lanes += state.terms * kLanes)
      for (i64 lane = 0; lane < kLanes; lane++) lanes[lane] = static_cast<std::int8_t>(-lanes[lane]);
  }
  state.sparse = SparseColumns(n, places);
  if (size(pairs) > keep_bytes / (sizeof(Cell) * size(n * kLanes))) return;
  state.transformed = Buffer<Cell>(size(pairs * n * kLanes));
  parallel(size(pairs), [&](std::size_t pair) {
    kernels.transform_weights(layout.ring->view(), state.sparse.plan(), state.ordered.data() + pair * size(state.terms * kLanes),
                              state.transformed.data() + pair * size(n * kLanes));
  });
  state.ordered.clear();
}

Weights::~Weights() = default;
Weights::Weights(Weights&&) noexcept = default;
std::size_t Weights::bytes() const {
  return sizeof(State) + state_->ordered.size() + 8 * state_->transformed.size() + 4 * state_->offsets.size();
}
Form Weights::form() const { return state_->form; }

}  // namespace hecompile
