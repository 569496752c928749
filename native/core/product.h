// The server's half of a layer: an integer matrix times ciphertext words, exact modulo q. It needs no secret and no randomness.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/layout.h"
#include "core/random.h"

namespace hecompile {

// How a product is computed: limbs of words are multiplied by int8 weights, or transformed polynomials by transformed weights
// (docs/core.md, "The server's product"). Both give the same bits.
enum class Form { kLimbs, kTransform };

// The int8 weights of a layer in the order in which the product reads them. They serve every layout with the same ring, uploads,
// answers, p_in, p_out and offsets.
class Weights {
 public:
  // `values`: (rows, channels, taps), from -127 to 127. `keep_bytes`: transformed weights of at most so many bytes are kept;
  // larger ones are transformed again for every request. Throws std::invalid_argument for a weight of -128, or weights too large
  // for exact sums.
  Weights(const Layout& layout, const std::int8_t* values, Form form, std::size_t keep_bytes);
  ~Weights();
  Weights(Weights&&) noexcept;
  std::size_t bytes() const;  // memory that the weights take
  Form form() const;

  struct State;
  const State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// One layer of one request. `words`: b of every upload of every block, packed. `fill` gives the public streams of the seeds;
// without it, as in a later request of a run, only b is computed. `added`, if set: (blocks, answers, gathered) integers below t/2
// in absolute value, which are encoded and added to b.
struct Evaluation {
  const Layout* layout = nullptr;
  const Weights* weights = nullptr;
  const std::uint8_t* words = nullptr;
  Fill* fill = nullptr;
  const std::int64_t* added = nullptr;
  std::uint8_t* b = nullptr;  // out: packed_bytes(down_b_words, q_bits - drop_b)
  std::uint8_t* a = nullptr;  // out: packed_bytes(down_a_words, q_bits - drop_a), if `fill` is set
};

// Whether a request was answered, or why it is refused.
enum class Verdict { kDone, kWordTooLarge, kSeedTooPoor };

// Writes the answers of a layer: sums of weights times uploads, without their dropped bits. Refuses a word that is not below q, and
// a seed that gives too few words; the output is then undefined. Throws std::invalid_argument for weights of another layout.
Verdict evaluate(const Evaluation& layer);

// Writes `a` of every upload as coefficients below q, expanded from its seeds: (seeds, uploads, N).
Verdict public_words(const Layout& layout, Fill& fill, std::uint64_t* words);

// The word without its `bits` low bits, rounded to nearest; a word that rounds up to 2^q_bits becomes zero. The same as round_off
// in hecompile/backends/words.py.
std::uint64_t round_off(std::uint64_t word, int bits, int q_bits);

// The most memory that `evaluate` allocates for one request, without the weights, the request and the reply.
std::size_t working_bytes(const Layout& layout, Form form);

}  // namespace hecompile
