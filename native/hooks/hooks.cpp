// `_core_hooks`: the client's half with streams that a test chooses. Built for tests only, never installed.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "core/encrypt.h"
#include "core/expand.h"
#include "core/kernels.h"
#include "core/layout.h"
#include "core/wire.h"
#include "python/request.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace hecompile {
namespace {

using Integers = nb::ndarray<const std::int64_t, nb::c_contig, nb::device::cpu>;

// Streams that a test wrote: one of `a` for each group of blocks, one of secrets, one of errors. Reading beyond the end of one
// throws std::invalid_argument.
class PlantedFill final : public Fill {
 public:
  PlantedFill(std::vector<std::string> a, std::string secrets, std::string errors)
      : a_(std::move(a)), secrets_(std::move(secrets)), errors_(std::move(errors)) {}
  void fill(Stream stream, int group, std::uint64_t position, std::uint8_t* out, std::size_t size) override {
    const std::string& from = stream == Stream::kPublic    ? a_.at(static_cast<std::size_t>(group))
                              : stream == Stream::kSecrets ? secrets_
                                                           : errors_;
    if (position > from.size() || size > from.size() - position) throw std::invalid_argument("a planted stream is too short");
    std::memcpy(out, from.data() + position, size);
  }

 private:
  std::vector<std::string> a_;
  std::string secrets_, errors_;
};

// The result of an encryption with such streams: the packed words, and the secrets to decrypt with.
struct Planted {
  Planted() = default;
  Planted(const Planted&) = delete;
  std::shared_ptr<Layout> layout;
  Secrets secrets;
  std::string words;
};

std::string text(const nb::bytes& bytes) { return std::string(bytes.c_str(), bytes.size()); }

// Encrypts messages (blocks, uploads, N).
std::unique_ptr<Planted> encrypt_planted(std::int64_t dimension, std::uint64_t q, int t_bits, std::int64_t blocks,
                                         std::int64_t uploads, const Integers& messages, const std::vector<nb::bytes>& a,
                                         const nb::bytes& secrets, const nb::bytes& errors) {
  Shape shape{blocks, uploads, dimension, 1, 1, dimension, 1, {{0, 0}}, 1, dimension, 1, 1, 0, 0};
  auto planted = std::make_unique<Planted>();
  planted->layout = std::make_shared<Layout>(ring_of(dimension, q, t_bits), shape);
  if (messages.size() != static_cast<std::size_t>(planted->layout->up_words()))
    throw std::invalid_argument("messages of another size");
  std::vector<std::string> groups;
  for (const nb::bytes& stream : a) groups.push_back(text(stream));
  PlantedFill fill(std::move(groups), text(secrets), text(errors));
  planted->words.resize(packed_bytes(messages.size(), planted->layout->ring->q_bits));
  Encryption job;
  job.layout = planted->layout.get(), job.integers = messages.data(), job.fill = &fill, job.secrets = &planted->secrets;
  job.words = reinterpret_cast<std::uint8_t*>(planted->words.data());
  encrypt({job});
  return planted;
}

// Decrypts b (blocks, 1, N) and a (seeds, 1, N), packed at q_bits, to out, integers (blocks, N).
void decrypt_planted(const Planted& planted, const nb::bytes& b, const nb::bytes& a,
                     const nb::ndarray<std::int64_t, nb::c_contig, nb::device::cpu>& out) {
  const Layout& layout = *planted.layout;
  if (b.size() != packed_bytes(static_cast<std::size_t>(layout.down_b_words()), layout.ring->q_bits) ||
      a.size() != packed_bytes(static_cast<std::size_t>(layout.down_a_words()), layout.ring->q_bits) ||
      out.size() != static_cast<std::size_t>(layout.down_b_words()))
    throw std::invalid_argument("an answer of another size");
  Decryption job;
  job.layout = &layout, job.secrets = &planted.secrets, job.b = reinterpret_cast<const std::uint8_t*>(b.c_str()),
  job.a = reinterpret_cast<const std::uint8_t*>(a.c_str());
  job.integers = out.data();
  decrypt({job});
}

// The coefficients, -1, 0 or 1, of the secrets of a request's first layer: (blocks, N). The request must not have been answered
// yet. An answer with b = 0 and a = (q - 1) / t decrypts to the secret.
std::vector<std::vector<std::int64_t>> secrets_of(const python::Request& request) {
  const auto& layer = request.layers.at(0);
  const auto& ring = layer.layout->ring;
  const std::int64_t n = ring->n, blocks = layer.layout->blocks;
  const Layout whole(ring, Shape{blocks, 1, n, 1, 1, n, 1, {{0, 0}}, 1, n, 1, 1, 0, 0});
  std::vector<std::uint64_t> words(static_cast<std::size_t>(whole.down_a_words()));
  for (std::int64_t group = 0; group < whole.seeds; group++) words[static_cast<std::size_t>(group * n)] = ring->delta;
  std::vector<std::uint8_t> a(packed_bytes(words.size(), ring->q_bits)),
      b(packed_bytes(static_cast<std::size_t>(whole.down_b_words()), ring->q_bits));
  pack_words(words.data(), a.data(), words.size(), ring->q_bits, 0, words.size());
  std::vector<std::int64_t> coefficients(static_cast<std::size_t>(blocks * n));
  Decryption job;
  job.layout = &whole, job.secrets = &layer.secrets, job.b = b.data(), job.a = a.data(), job.integers = coefficients.data();
  decrypt({job});
  std::vector<std::vector<std::int64_t>> result;
  for (auto at = coefficients.begin(); at != coefficients.end(); at += n) result.emplace_back(at, at + n);
  return result;
}

// The first 32 bytes of every secret, in evaluation form, of a request that was not answered yet.
std::vector<nb::bytes> fingerprints(const python::Request& request) {
  std::vector<nb::bytes> prefixes;
  for (const auto& layer : request.layers)
    for (std::int64_t block = 0; block < layer.layout->blocks && layer.secrets.size() > 0; block++)
      prefixes.emplace_back(layer.secrets.data() + block * layer.layout->ring->n, 32);
  return prefixes;
}

}  // namespace
}  // namespace hecompile

NB_MODULE(_core_hooks, module) {
  using hecompile::Planted;
  nb::class_<Planted>(module, "Planted").def_prop_ro("words", [](const Planted& self) {
    return nb::bytes(self.words.data(), self.words.size());
  });
  module.def("encrypt", &hecompile::encrypt_planted, "dimension"_a, "q"_a, "t_bits"_a, "blocks"_a, "uploads"_a, "messages"_a, "a"_a,
             "secrets"_a, "errors"_a);
  module.def("decrypt", &hecompile::decrypt_planted, "planted"_a, "b"_a, "a"_a, "out"_a);
  module.def("secrets", &hecompile::secrets_of, "request"_a);
  module.def("fingerprints", &hecompile::fingerprints, "request"_a);
  module.def("use_kernel", &hecompile::use_kernel, "name"_a);
  module.def(
      "expand",
      [](std::int64_t dimension, std::uint64_t q, int t_bits, const nb::bytes& bytes,
         const nb::ndarray<std::uint64_t, nb::c_contig, nb::device::cpu>& out) {
        const auto ring = hecompile::ring_of(dimension, q, t_bits);
        const hecompile::Positions positions{dimension, 1, ring->q_bits};
        if (bytes.size() != positions.public_bytes() || out.size() != static_cast<std::size_t>(dimension))
          throw std::invalid_argument("bytes or words of another size");
        return hecompile::expand(*ring, reinterpret_cast<const std::uint8_t*>(bytes.c_str()), out.data());
      },
      "dimension"_a, "q"_a, "t_bits"_a, "bytes"_a, "out"_a);
  module.def(
      "root", [](std::int64_t dimension, std::uint64_t q, int t_bits) { return hecompile::ring_of(dimension, q, t_bits)->psi; },
      "dimension"_a, "q"_a, "t_bits"_a);
}
