// What limbs.cpp and transform.cpp, the two forms of the product, have in common. Other files include product.h.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/buffer.h"
#include "core/memory.h"
#include "core/product.h"
#include "kernels/product_kernels.h"

namespace hecompile {

// Makes the SparsePlan of polynomials of dimension n whose term k lies at coefficient places[k], and owns the plan's arrays.
class SparseColumns {
 public:
  SparseColumns() = default;
  SparseColumns(std::int64_t n, const std::vector<std::int32_t>& places);
  SparsePlan plan() const;  // valid as long as this object

 private:
  std::int64_t levels_ = 0;
  std::vector<std::int32_t> columns_, term_ends_, ends_, pairs_, empty_;
  std::vector<SparsePlan::Term> terms_;
};

struct Weights::State {
  Form form;
  const ProductKernels* kernels;  // the kernels that read this order of weights
  std::shared_ptr<const Ring> ring;
  std::int64_t p_in, p_out, uploads, answers, terms;
  std::vector<std::int32_t> offsets;  // (terms)
  // Limbs: (answers / rows, upload groups / depth, terms, rows, depth, group), as LimbProduct has them.
  // Transform: (answers / kLanes, uploads, terms, kLanes).
  Buffer<std::int8_t> ordered;
  std::int64_t most_steps = 0;  // for limbs only: see LimbProduct
  SparseColumns sparse;         // for transformed weights only
  Buffer<Cell> transformed;     // (answers / kLanes, uploads, N, kLanes); empty where they are made again for every request
};

// Calls task(0) .. task(count - 1) on several threads. `task_ns` is about how many nanoseconds one call takes. A thread makes
// several short calls in a row, since waking a thread would take longer than one of them.
void run(std::int64_t count, double task_ns, const std::function<void(std::int64_t)>& task);

// Pieces of memory of `words` words each. A task borrows a piece for as long as its Loan lives; then another task may have it.
class Scratches {
 public:
  explicit Scratches(std::int64_t words) : words_(static_cast<std::size_t>(words)) {}
  class Loan {
   public:
    explicit Loan(Scratches& owner);
    ~Loan();
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    std::uint64_t* data() { return memory_->data(); }

   private:
    Scratches& owner_;
    std::unique_ptr<Memory<std::uint64_t>> memory_;
  };

 private:
  std::size_t words_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Memory<std::uint64_t>>> free_;
};

// `count` neighbouring coefficients of an answer that hold results: coefficients [coefficient, coefficient + count) become gathered
// words [index, index + count).
struct GatherRun {
  std::int64_t coefficient, index, count;
};
// The layout's gather_indices as runs, in order.
std::vector<GatherRun> gather_runs(const Layout& layout);

// Collects the gathered words of `b` of some blocks at a time, and writes them to the reply. Packing takes multiples of eight
// words: words that are left over wait at the front for the next blocks.
class GatheredWords {
 public:
  GatheredWords(const Evaluation& layer, std::int64_t blocks_at_once);
  // Where to write the gathered words of an answer. `block` counts from the first block that was not sent yet.
  std::uint64_t* at(std::int64_t block, std::int64_t answer);
  // Adds the encoded integers if there are any, rounds and packs the words of `blocks` blocks, then makes room for the next ones.
  void send(std::int64_t blocks);

 private:
  const Evaluation& layer_;
  std::int64_t gathered_, first_block_ = 0;  // gathered words of one answer; blocks that were sent
  std::int64_t kept_ = 0;                    // how many words wait at the front
  Memory<std::uint64_t> words_;
};

// Unpacks the words of uploads [first, first + count), counted over all blocks, to (count, N), and fills up to `room` uploads with
// zeros. Returns false if a word is not below q.
bool take_uploads(const Evaluation& layer, std::int64_t first, std::int64_t count, std::int64_t room, std::uint64_t* words);

// Expands the words of `a` of uploads [first, first + count) from a seed, in evaluation order. Returns false if the seed gives too
// few words. `bytes`: room for count * public_bytes() bytes of the stream.
bool take_public(const Evaluation& layer, std::int64_t seed, std::int64_t first, std::int64_t count, std::int64_t room,
                 std::uint8_t* bytes, std::uint64_t* words);

// Rounds `count` words of `a` of one answer in place, and packs them into the reply from coefficient `first` on. `first` and
// `count` are multiples of 8.
void send_public(const Evaluation& layer, std::int64_t seed, std::int64_t answer, std::int64_t first, std::int64_t count,
                 std::uint64_t* words);

Verdict evaluate_limbs(const Evaluation& layer);
Verdict evaluate_transform(const Evaluation& layer);
std::size_t limb_bytes(const Layout& layout);
std::size_t transform_bytes(const Layout& layout);

}  // namespace hecompile
