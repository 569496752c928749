// The server's half of a layer: a public integer map on ciphertext words, exact modulo q. No secret, no randomness.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/layout.h"
#include "core/random.h"

namespace hecompile {

enum class Form { kLimbs, kTransform };  // products of limbs by int8 weights, or of transformed polynomials: the same bits

// int8 weights of a layer in the order that the product reads them, for layouts with the same ring, p_in, p_out and offsets.
class Weights {
 public:
  // values: (rows, channels, taps), none -128. `keep_bytes`: most memory for transformed weights; beyond it they are made on the
  // fly.
  Weights(const Layout& layout, const std::int8_t* values, Form form, std::size_t keep_bytes);
  ~Weights();
  Weights(Weights&&) noexcept;
  std::size_t bytes() const;  // held
  Form form() const;

  struct State;
  const State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// One layer of one request. `words`: b of every upload, packed. `fill` gives the public streams of the seeds; without it (a later
// request of a run) only b is answered. `added`: (blocks, answers, reads) integers below t/2 that are encoded and added to b, or
// none.
struct Evaluation {
  const Layout* layout = nullptr;
  const Weights* weights = nullptr;
  const std::uint8_t* words = nullptr;
  Fill* fill = nullptr;
  const std::int64_t* added = nullptr;
  std::uint8_t* b = nullptr;  // out: packed_bytes(down_b_words, q_bits - drop_b)
  std::uint8_t* a = nullptr;  // out: packed_bytes(down_a_words, q_bits - drop_a), if `fill` is set
};

enum class Verdict { kDone, kWordTooLarge, kSeedTooPoor };

// Answers: sums of weights times uploads, rounded to what is sent. A word that is not below q, or a seed with too few words, is
// refused.
Verdict evaluate(const Evaluation& layer);

// `a` of every upload as coefficients below q, from its seeds: (seeds, uploads, N).
Verdict public_words(const Layout& layout, Fill& fill, std::uint64_t* words);

// a word without its `bits` low bits, rounded; what rounds up to 2^q_bits becomes zero (as hecompile/backends/words.py round_off).
std::uint64_t round_off(std::uint64_t word, int bits, int q_bits);

// Largest memory of one request at work, beside its own bytes and weights.
std::size_t working_bytes(const Layout& layout, Form form);

}  // namespace hecompile
