// The client's functions: `encrypt` makes a request from values, and `decrypt` makes values from the reply. Secrets stay in objects
// that Python cannot look into.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>

#include "core/wire.h"
#include "python/layers.h"
#include "python/randomness.h"
#include "python/request.h"
#include "python/views.h"

namespace hecompile::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<const std::int64_t, nb::c_contig, nb::device::cpu>;
using IntegersOut = nb::ndarray<std::int64_t, nb::c_contig, nb::device::cpu>;

// Throws std::logic_error if two blocks of a layer have the same secret. Compares the first eight values of each, without a branch
// that depends on them.
void require_different(const Request::Layer& layer) {
  const std::size_t n = static_cast<std::size_t>(layer.layout->ring->n), blocks = static_cast<std::size_t>(layer.layout->blocks);
  std::uint64_t same = 0;
  for (std::size_t i = 0; i < blocks; i++)
    for (std::size_t j = 0; j < i; j++) {
      std::uint64_t difference = 0;
      for (std::size_t k = 0; k < 8; k++) difference |= layer.secrets[i * n + k] ^ layer.secrets[j * n + k];
      same |= static_cast<std::uint64_t>(difference == 0);
    }
  if (same != 0) throw std::logic_error("two blocks drew the same secret: nothing is sent");
}

// Whether a request may use the seeds of the run's earlier requests. This holds in the process that made the run, if every layer
// whose seeds are shared has them at this batch size, has the `a` of the first reply, and has requests left.
bool may_continue(const Run& run, const std::vector<std::shared_ptr<const ClientLayer>>& layers) {
  if (run.owner != getpid() || run.layers.size() != layers.size()) return false;
  for (std::size_t i = 0; i < layers.size(); i++) {
    if (!layers[i] || layers[i]->requests == 1) continue;
    const auto& shared = run.layers[i];
    if (!shared || shared->client != layers[i] || shared->a.empty() || shared->left < 1) return false;
  }
  return true;
}

// Encrypts the values of all layers of a request, and writes words and seeds of layer i to `out` from offsets[i] on. Values are
// float32 tensors for layers with a ClientLayer, and integers (blocks, uploads, N) for those with a Layout only.
std::unique_ptr<Request> encrypt_request(const std::vector<nb::object>& layers, const std::vector<nb::object>& values,
                                         const std::vector<nb::bytes>& contexts, nb::handle out,
                                         const std::vector<std::size_t>& offsets, const std::shared_ptr<Run>& run) {
  const std::size_t count = layers.size();
  if (values.size() != count || contexts.size() != count || offsets.size() != count)
    throw std::invalid_argument("layers, values, contexts and offsets of different lengths");
  const View buffer(out, true);
  auto request = std::make_unique<Request>();
  std::vector<std::shared_ptr<const ClientLayer>> clients(count);
  for (std::size_t i = 0; i < count; i++)
    if (nb::isinstance<ClientLayer>(layers[i])) clients[i] = nb::cast<std::shared_ptr<ClientLayer>>(layers[i]);
  const bool later = run && may_continue(*run, clients);
  if (run && !later) *run = Run{}, run->layers.resize(count);
  std::vector<std::unique_ptr<CipherFill>> fills;
  std::vector<Source> sources(count);
  std::vector<Encryption> jobs(count);
  request->layers.resize(count);
  for (std::size_t i = 0; i < count; i++) {
    Request::Layer& layer = request->layers[i];
    layer.client = clients[i];
    layer.layout = clients[i] ? clients[i]->layout : nb::cast<std::shared_ptr<const Layout>>(layers[i]);
    const Layout& layout = *layer.layout;
    const std::size_t words = packed_bytes(static_cast<std::size_t>(layout.up_words()), layout.ring->q_bits);
    std::uint8_t* at = buffer.part(offsets[i], words);
    const bool shares = run && clients[i] && clients[i]->requests > 1;
    layer.brings_seeds = !(later && shares);
    std::vector<Seed> keys;
    if (layer.brings_seeds) {
      std::uint8_t* seeds = buffer.part(offsets[i] + words, static_cast<std::size_t>(layout.seeds) * kSeedBytes);
      for (std::int64_t group = 0; group < layout.seeds; group++, seeds += kSeedBytes) {
        const Seed seed = draw_seed();
        std::copy(seed.begin(), seed.end(), seeds);
        keys.push_back(public_key(contexts[i], static_cast<std::uint32_t>(group), seeds));
      }
      if (shares) run->layers[i] = std::make_shared<SharedSeeds>(SharedSeeds{clients[i], keys, {}, clients[i]->requests - 1});
    } else {
      keys = run->layers[i]->keys, run->layers[i]->left--;
    }
    if (shares) layer.shared = run->layers[i];
    fills.push_back(std::make_unique<CipherFill>(std::move(keys), true));
    Encryption& job = jobs[i];
    job.layout = &layout, job.fill = fills.back().get(), job.secrets = &layer.secrets, job.words = at;
    if (clients[i]) {
      const auto given = nb::cast<Floats>(values[i], false);
      if (given.size() != clients[i]->source.count) throw std::invalid_argument("a value of another size than its layer reads");
      sources[i] = clients[i]->source;
      sources[i].data = given.data();
      layer.scales.resize(static_cast<std::size_t>(clients[i]->runs));
      job.source = &sources[i], job.scales = layer.scales.data(), job.limit = clients[i]->limit;
    } else {
      const auto given = nb::cast<Integers>(values[i], false);
      if (given.size() != static_cast<std::size_t>(layout.up_words()))
        throw std::invalid_argument("integers of another size than their layer reads");
      job.integers = given.data();
    }
  }
  {
    const nb::gil_scoped_release released;
    for (std::size_t i = 0; i < count; i++)
      if (clients[i])
        find_scales(sources[i].data, static_cast<std::size_t>(clients[i]->runs), static_cast<std::size_t>(clients[i]->run_size),
                    clients[i]->limit, request->layers[i].scales.data());
    encrypt(jobs);
  }
  for (const Request::Layer& layer : request->layers) require_different(layer);
  if (request->owner != getpid()) throw std::logic_error("a request crossed a fork: nothing is sent");
  return request;
}

// Throws std::invalid_argument unless the unused bits of the last byte are zero.
void require_padding(const std::uint8_t* data, std::int64_t words, int bits) {
  if (!padding_is_zero(data, static_cast<std::size_t>(words), bits))
    throw std::invalid_argument("the bits after the last word are not zero");
}

// Decrypts a reply into `results`. results[i]: a list of the float32 tensors of layer i's parts, or an int64 array
// (blocks, answers, gathered).
void decrypt_reply(Request& request, nb::handle reply, const std::vector<std::size_t>& offsets,
                   const std::vector<nb::object>& results) {
  if (request.used) throw std::logic_error("a reply to a request that was answered");
  if (request.owner != getpid()) throw std::logic_error("a reply in another process than its request's");
  const std::size_t count = request.layers.size();
  if (offsets.size() != count || results.size() != count)
    throw std::invalid_argument("layers, offsets and results of different lengths");
  const View buffer(reply, false);
  std::vector<Sink> sinks(count);
  std::vector<Decryption> jobs(count);
  for (std::size_t i = 0; i < count; i++) {
    const Request::Layer& layer = request.layers[i];
    const Layout& layout = *layer.layout;
    const std::size_t b = packed_bytes(static_cast<std::size_t>(layout.down_b_words()), layout.ring->q_bits - layout.shape.drop_b);
    const std::size_t a = packed_bytes(static_cast<std::size_t>(layout.down_a_words()), layout.ring->q_bits - layout.shape.drop_a);
    Decryption& job = jobs[i];
    job.layout = &layout, job.secrets = &layer.secrets, job.b = buffer.part(offsets[i], b);
    require_padding(job.b, layout.down_b_words(), layout.ring->q_bits - layout.shape.drop_b);
    if (layer.brings_seeds) {
      job.a = buffer.part(offsets[i] + b, a);
      require_padding(job.a, layout.down_a_words(), layout.ring->q_bits - layout.shape.drop_a);
    } else {
      job.a = layer.shared->a.data();
      if (layer.shared->a.size() != a) throw std::logic_error("a run without the answer of its first request");
    }
    if (nb::isinstance<nb::list>(results[i])) {
      if (!layer.client || layer.client->rows.empty()) throw std::invalid_argument("a layer whose results are integers");
      const auto parts = nb::cast<std::vector<FloatsOut>>(results[i], false);
      Sink& sink = sinks[i];
      sink.rows = layer.client->rows;
      if (parts.size() != layer.client->part_sizes.size())
        throw std::invalid_argument("another number of tensors than the layer has parts");
      for (std::size_t k = 0; k < parts.size(); k++) {
        if (parts[k].size() != layer.client->part_sizes[k]) throw std::invalid_argument("a tensor of another size than its part");
        sink.parts.push_back({parts[k].data(), parts[k].size()});
      }
      for (const std::int32_t scale : layer.client->source.scale_of)
        sink.value_scales.push_back(layer.scales[static_cast<std::size_t>(scale)]);
      job.sink = &sink;
    } else {
      const auto integers = nb::cast<IntegersOut>(results[i], false);
      if (integers.size() != static_cast<std::size_t>(layout.down_b_words()))
        throw std::invalid_argument("integers of another size than the layer's answers");
      job.integers = integers.data();
    }
  }
  request.used = true;
  {
    const nb::gil_scoped_release released;
    decrypt(jobs);
  }
  for (std::size_t i = 0; i < count; i++) {
    Request::Layer& layer = request.layers[i];
    if (layer.shared && layer.brings_seeds)
      layer.shared->a.assign(jobs[i].a, jobs[i].a + packed_bytes(static_cast<std::size_t>(layer.layout->down_a_words()),
                                                                 layer.layout->ring->q_bits - layer.layout->shape.drop_a));
    layer.secrets.clear();
  }
}

std::vector<double> scales_of(const Request& request, std::size_t layer) { return request.layers.at(layer).scales; }

bool brings_seeds(const Request& request) {
  return std::all_of(request.layers.begin(), request.layers.end(), [](const auto& layer) { return layer.brings_seeds; });
}

std::size_t kept_bytes(const Run& run) {
  std::size_t total = 0;
  for (const auto& layer : run.layers) total += layer ? layer->a.size() : 0;
  return total;
}

}  // namespace

void bind_client(nb::module_& module) {
  nb::class_<Request>(module, "Request")
      .def("scales", &scales_of, "layer"_a)
      .def_prop_ro("brings_seeds", &brings_seeds)
      .def("__repr__", [](const Request&) { return "Request(hidden)"; });
  nb::class_<Run>(module, "Run").def(nb::init<>()).def_prop_ro("kept_bytes", &kept_bytes).def("__repr__", [](const Run&) {
    return "Run(hidden)";
  });
  module.def("encrypt", &encrypt_request, "layers"_a, "values"_a, "contexts"_a, "out"_a, "offsets"_a, "run"_a = nb::none());
  module.def("decrypt", &decrypt_reply, "request"_a, "reply"_a, "offsets"_a, "results"_a);
}

}  // namespace hecompile::python
