// The server's functions: `make_weights` brings weights into the order of the product, and `evaluate` makes a reply from a request.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "core/product.h"
#include "core/wire.h"
#include "python/layers.h"
#include "python/randomness.h"
#include "python/views.h"

namespace hecompile::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

// values: (output channels, channels, taps), from -127 to 127.
std::shared_ptr<Weights> make_weights(const std::shared_ptr<const Layout>& layout,
                                      const nb::ndarray<const std::int8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>& values,
                                      bool transform, std::size_t keep_bytes) {
  const Shape& shape = layout->shape;
  if (values.shape(0) != static_cast<std::size_t>(shape.rows) || values.shape(1) != static_cast<std::size_t>(shape.channels) ||
      values.shape(2) != shape.taps.size())
    throw std::invalid_argument("weights of another shape than their layer");
  const nb::gil_scoped_release released;
  return std::make_shared<Weights>(*layout, values.data(), transform ? Form::kTransform : Form::kLimbs, keep_bytes);
}

// Writes the b part of all answers of a layer to `out` from `offset` on, and behind it the a part if there are seeds. Returns None,
// or a sentence that says why the request is refused.
std::optional<std::string> evaluate_layer(const std::shared_ptr<const Layout>& layout, const std::shared_ptr<Weights>& weights,
                                          nb::handle words, std::optional<nb::object> seeds, const nb::bytes& context,
                                          std::optional<nb::ndarray<const std::int64_t, nb::c_contig, nb::device::cpu>> added,
                                          nb::handle out, std::size_t offset) {
  const View request(words, false), reply(out, true);
  const std::size_t b = packed_bytes(static_cast<std::size_t>(layout->down_b_words()), layout->ring->q_bits - layout->shape.drop_b);
  const std::size_t a = packed_bytes(static_cast<std::size_t>(layout->down_a_words()), layout->ring->q_bits - layout->shape.drop_a);
  Evaluation job;
  job.layout = layout.get(), job.weights = weights.get();
  job.words = request.part(0, packed_bytes(static_cast<std::size_t>(layout->up_words()), layout->ring->q_bits));
  if (!padding_is_zero(job.words, static_cast<std::size_t>(layout->up_words()), layout->ring->q_bits))
    return "the bits after the last word are not zero";
  std::unique_ptr<CipherFill> fill;
  if (seeds) {
    const View given(*seeds, false);
    std::vector<Seed> keys;
    const std::uint8_t* seed = given.part(0, static_cast<std::size_t>(layout->seeds) * kSeedBytes);
    for (std::int64_t group = 0; group < layout->seeds; group++, seed += kSeedBytes)
      keys.push_back(public_key(context, static_cast<std::uint32_t>(group), seed));
    fill = std::make_unique<CipherFill>(std::move(keys), false);
    job.fill = fill.get(), job.a = reply.part(offset + b, a);
  }
  job.b = reply.part(offset, b);
  if (added) {
    if (added->size() != static_cast<std::size_t>(layout->down_b_words()))
      throw std::invalid_argument("integers of another size than the layer's answers");
    job.added = added->data();
  }
  Verdict verdict;
  {
    const nb::gil_scoped_release released;
    verdict = evaluate(job);
  }
  if (verdict == Verdict::kWordTooLarge) return "a word of the request is not below q";
  if (verdict == Verdict::kSeedTooPoor) return "a seed of the request gives too few words below q";
  return std::nullopt;
}

// The coefficients of `a` of every upload, expanded from the seeds: one flat array of (seeds, uploads, N) words below q. Throws
// std::invalid_argument for a seed that gives too few words.
nb::object public_words_of(const std::shared_ptr<const Layout>& layout, nb::handle seeds, const nb::bytes& context) {
  const View given(seeds, false);
  std::vector<Seed> keys;
  const std::uint8_t* seed = given.part(0, static_cast<std::size_t>(layout->seeds) * kSeedBytes);
  for (std::int64_t group = 0; group < layout->seeds; group++, seed += kSeedBytes)
    keys.push_back(public_key(context, static_cast<std::uint32_t>(group), seed));
  CipherFill fill(std::move(keys), false);
  const std::size_t count = static_cast<std::size_t>(layout->seeds * layout->uploads * layout->ring->n);
  auto* words = new std::uint64_t[count];
  const nb::capsule owner(words, [](void* data) noexcept { delete[] static_cast<std::uint64_t*>(data); });
  Verdict verdict;
  {
    const nb::gil_scoped_release released;
    verdict = public_words(*layout, fill, words);
  }
  if (verdict != Verdict::kDone) throw std::invalid_argument("a seed of the request gives too few words below q");
  const std::size_t shape[] = {count};
  return nb::cast(nb::ndarray<nb::numpy, std::uint64_t>(words, 1, shape, owner));
}

}  // namespace

void bind_server(nb::module_& module) {
  module.def("public_words", &public_words_of, "layout"_a, "seeds"_a, "context"_a);
  nb::class_<Weights>(module, "Weights").def_prop_ro("bytes", &Weights::bytes);
  module.def("make_weights", &make_weights, "layout"_a, "values"_a, "transform"_a, "keep_bytes"_a);
  module.def("evaluate", &evaluate_layer, "layout"_a, "weights"_a, "words"_a, "seeds"_a.none(), "context"_a, "added"_a.none(),
             "out"_a, "offset"_a);
  module.def(
      "working_bytes",
      [](const std::shared_ptr<const Layout>& layout, bool transform) {
        return working_bytes(*layout, transform ? Form::kTransform : Form::kLimbs);
      },
      "layout"_a, "transform"_a);
}

}  // namespace hecompile::python
